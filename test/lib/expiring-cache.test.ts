/** The cache with lifetimes: what it stores, for how long, and what it does when it is full. */

import t from 'tap';
import { ExpiringCache } from '../../src/lib/expiring-cache.ts';

t.test('a value is returned itself until its lifetime is over', async (t) => {
  let now = 1_000_000;
  const cache = new ExpiringCache<object>(10, () => now);
  const [value, other] = [Promise.resolve(1), {}];
  cache.set('a', value, 1500);
  cache.set('b', other, Number.POSITIVE_INFINITY);
  t.equal(cache.get('a'), value, 'not a clone');
  now += 1500;
  t.equal(cache.get('a'), value);
  now += 1;
  t.equal(cache.get('a'), undefined);
  now += 1e12;
  t.equal(cache.get('b'), other);
});

t.test('a clock that is set back prolongs no lifetime', async (t) => {
  let monotonic = 1000;
  let wall = Date.UTC(2026, 10, 24);
  t.intercept(Date, 'now', { value: () => wall });
  const cache = new ExpiringCache<object>(10, () => monotonic);
  cache.set('a', {}, 1500);
  wall -= 24 * 3_600_000;
  monotonic += 1501;
  t.equal(cache.get('a'), undefined);
});

t.test(
  'a value without a positive lifetime is not stored, and the earlier one is deleted',
  async (t) => {
    const cache = new ExpiringCache<object>(10);
    for (const lifetime of [0, -1, Number.NEGATIVE_INFINITY, Number.NaN]) {
      cache.set('a', {}, 1000);
      cache.set('a', {}, lifetime);
      t.equal(cache.get('a'), undefined, `${lifetime}`);
    }
  },
);

t.test(
  'a full cache refuses new keys without an error, and replaces the values of others',
  async (t) => {
    const cache = new ExpiringCache<object>(2);
    const value = {};
    cache.set('a', {}, 60_000);
    cache.set('b', {}, 60_000);
    cache.set('c', {}, 60_000);
    t.equal(cache.get('c'), undefined);
    cache.set('b', value, 60_000);
    t.equal(cache.get('b'), value);
    t.equal(cache.size, 2);
    cache.delete('a');
    cache.set('c', value, 60_000);
    t.equal(cache.get('c'), value, 'there is room again');
    cache.clear();
    t.equal(cache.size, 0);
  },
);

t.test('names of properties that every object has are ordinary keys', async (t) => {
  const cache = new ExpiringCache<object>(10);
  for (const key of ['__proto__', 'constructor', 'toString', '']) {
    t.equal(cache.get(key), undefined, key);
    const value = {};
    cache.set(key, value, 60_000);
    t.equal(cache.get(key), value, key);
    cache.delete(key);
    t.equal(cache.get(key), undefined, key);
  }
});

t.test('a cache does not keep the process alive', async (t) => {
  const timers = (): number =>
    process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = timers();
  const caches = Array.from({ length: 10 }, () => new ExpiringCache<object>(10));
  t.equal(timers(), before);
  for (const cache of caches) cache.clear();
  t.equal(timers(), before, 'also after it was cleared');
});
