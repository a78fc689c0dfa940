/** Places of logins that wait for somebody to sign in. */
import fc from 'fast-check';
import t from 'tap';
import type { PgError } from '../../src/lib/errors.ts';
import { DeviceWaits } from '../../src/session/device-waits.ts';

/** Waiting logins that note why they ended. */
function world(limit = 100) {
  const waits = new DeviceWaits();
  const ended = new Map<string, string>();
  const enter = (user: string, address: string, places = limit) => {
    const name = `${user}@${address}`;
    const end = ({ code }: PgError): void => void ended.set(name, code);
    return waits.enter({ user, address, end }, places);
  };
  return { waits, ended, enter };
}

t.test(
  'a hundred wait, and the next one takes the place of the busiest address’s oldest',
  async (t) => {
    const { waits, ended, enter } = world();
    for (let index = 0; index < 50; index++) enter(`u${index}`, 'a');
    for (let index = 0; index < 50; index++) enter(`u${index}`, `b${index}`);
    t.strictSame([waits.size, ended.size], [100, 0]);
    enter('alice', 'c');
    enter('bob', 'c');
    t.equal(waits.size, 100);
    t.strictSame(Object.fromEntries(ended), {
      'u0@a': 'too_many_device_logins',
      'u1@a': 'too_many_device_logins',
    });
  },
);

t.test('an address has half of the places, and then ends its own', async (t) => {
  const { waits, ended, enter } = world(4);
  for (const user of ['a', 'b', 'c', 'd']) enter(user, 'x');
  t.equal(waits.size, 2);
  t.strictSame([...ended.keys()], ['a@x', 'b@x']);
});

t.test('a user has one at an address', async (t) => {
  const { waits, ended, enter } = world();
  const older = enter('alice', 'a');
  const newer = enter('alice', 'a');
  enter('alice', 'b');
  t.strictSame([waits.size, ...ended.values()], [2, 'device_login_replaced']);
  older.release();
  t.equal(waits.size, 2, 'the end of the older one does not end the newer one');
  newer.release();
  newer.release();
  t.equal(waits.size, 1);
});

t.test('a limit that is changed holds for those that come, and 0 for nobody', async (t) => {
  const { waits, ended, enter } = world(10);
  const held = enter('alice', 'a');
  t.throws(() => enter('bob', 'b', 0), { code: 'too_many_device_logins', sqlstate: '53300' });
  enter('bob', 'b', 1);
  held.release();
  t.strictSame([waits.size, ended.size], [1, 0]);
  waits.endAll(() => Object.assign(new Error(), { code: 'cannot_connect_now' }) as PgError);
  t.strictSame([waits.size, ...ended.values()], [0, 'cannot_connect_now']);
});

t.test('however they come and go, no place is lost and none is held twice', async () => {
  const step = fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('x', 'y'), fc.boolean());
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { waits, enter } = world(3);
      const count = (): number => waits.size;
      const held = steps.map(([user, address, leaves]) => {
        const wait = enter(user, address);
        if (leaves) wait.release();
        return wait;
      });
      if (count() > 3) return false;
      for (const wait of held) wait.release();
      if (count() !== 0) return false;
      for (const address of ['p', 'q', 'r']) enter('z', address);
      return count() === 3;
    }),
  );
});
