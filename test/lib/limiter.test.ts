/** The limiter: places, fair shares of keys, eviction, and the line of those that wait. */
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { Limiter, type Permit } from '../../src/lib/limiter.ts';

const { signal } = new AbortController();

t.test('a place that is given back is free again, and given back once only', async (t) => {
  const limiter = new Limiter({ limit: 2 });
  const first = limiter.acquire();
  t.ok(limiter.acquire());
  t.equal(limiter.acquire(), undefined);
  first?.release();
  first?.release();
  t.equal(limiter.size, 1);
  t.ok(limiter.acquire());
  t.equal(limiter.acquire(), undefined);
});

t.test('a key does not get more than its share', async (t) => {
  const limiter = new Limiter({ limit: 10, share: 2 });
  t.ok(limiter.acquire('a'));
  t.ok(limiter.acquire('a'));
  t.equal(limiter.acquire('a'), undefined);
  t.ok(limiter.acquire('b'));
});

t.test('the oldest holder of the busiest key makes room', async (t) => {
  const limiter = new Limiter({ limit: 4 });
  const evicted: string[] = [];
  const enter = (key: string, name: string): Permit | undefined =>
    limiter.acquireByEviction(key, () => evicted.push(name));
  enter('quiet', 'quiet 1');
  enter('busy', 'busy 1');
  enter('busy', 'busy 2');
  enter('busy', 'busy 3');
  t.ok(enter('new', 'new 1'));
  t.strictSame(evicted, ['busy 1']);
  t.ok(enter('busy', 'busy 4'));
  t.strictSame(evicted, ['busy 1', 'busy 2']);
  t.equal(limiter.size, 4);
});

t.test('a key at its share makes room among its own', async (t) => {
  const limiter = new Limiter({ limit: 10, share: 1 });
  const evicted: string[] = [];
  limiter.acquireByEviction('a', () => evicted.push('a'));
  limiter.acquireByEviction('b', () => evicted.push('b'));
  t.ok(limiter.acquireByEviction('b', () => evicted.push('b 2')));
  t.strictSame(evicted, ['b']);
});

t.test('a holder that was kept is never evicted', async (t) => {
  const limiter = new Limiter({ limit: 1 });
  limiter.acquireByEviction('a', () => t.fail('evicted'))?.keep();
  t.equal(
    limiter.acquireByEviction('b', () => undefined),
    undefined,
  );
  limiter.evictAll();
  t.equal(limiter.size, 1);
});

t.test('the keys in line take turns, however many of one key wait', async (t) => {
  const limiter = new Limiter({ limit: 1 });
  const order: string[] = [];
  const first = await limiter.wait('flood', signal);
  const visit = async (key: string): Promise<void> => {
    const permit = await limiter.wait(key, signal);
    order.push(key);
    permit.release();
  };
  const visits = ['flood', 'flood', 'flood', 'flood', 'good', 'other'].map(visit);
  t.equal(limiter.waiting, 6);
  first.release();
  await Promise.all(visits);
  t.strictSame(order, ['flood', 'good', 'other', 'flood', 'flood', 'flood']);
  t.equal(limiter.size, 0);
  t.equal(limiter.waiting, 0);
});

t.test('who gives up leaves the line', async (t) => {
  const limiter = new Limiter({ limit: 1 });
  const permit = limiter.acquire();
  const abort = new AbortController();
  const waiting = limiter.wait('a', abort.signal);
  abort.abort(new Error('gone'));
  await t.rejects(waiting, { message: 'gone' });
  t.equal(limiter.waiting, 0);
  permit?.release();
  t.equal(limiter.size, 0);
});

t.test('while others wait, a holder that can be evicted is, once its time is up', async (t) => {
  // The limiter's own timer keeps no process alive.
  const alive = setInterval(() => undefined, 1000);
  t.teardown(() => clearInterval(alive));
  const limiter = new Limiter({ limit: 1, patience: 20 });
  let evicted = false;
  await limiter.wait('a', signal, () => {
    evicted = true;
  });
  await sleep(40);
  t.notOk(evicted, 'nobody waits');
  const permit = await limiter.wait('b', signal);
  t.ok(evicted);
  permit.release();
  t.equal(limiter.size, 0);
});

t.test('no sequence of steps exceeds a limit or loses a place', (t) => {
  const step = fc.record({
    deed: fc.constantFrom('acquire', 'evict', 'release', 'keep'),
    key: fc.constantFrom('a', 'b', 'c'),
    which: fc.nat(20),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const limiter = new Limiter({ limit: 5, share: 3 });
      const held: { key: string; permit: Permit }[] = [];
      const forget = (permit: Permit | undefined): void => {
        const at = held.findIndex((one) => one.permit === permit);
        if (at >= 0) held.splice(at, 1);
      };
      for (const { deed, key, which } of steps) {
        const one = held[which % Math.max(held.length, 1)];
        if (deed === 'keep') one?.permit.keep();
        if (deed === 'release' && one) {
          one.permit.release();
          forget(one.permit);
        }
        if (deed === 'acquire' || deed === 'evict') {
          let permit: Permit | undefined;
          const evict = (): void => forget(permit);
          permit =
            deed === 'acquire'
              ? limiter.acquire(key, evict)
              : limiter.acquireByEviction(key, evict);
          if (permit) held.push({ key, permit });
        }
        if (limiter.size !== held.length || limiter.size > 5) return false;
        if (['a', 'b', 'c'].some((name) => held.filter((h) => h.key === name).length > 3)) {
          return false;
        }
      }
      for (const { permit } of held) permit.release();
      return limiter.size === 0;
    }),
  );
  t.end();
});
