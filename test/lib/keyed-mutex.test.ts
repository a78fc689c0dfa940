/** Work that runs one piece after the other, and work that does so for each key. */

import t from 'tap';
import { KeyedMutex, Mutex } from '../../src/lib/keyed-mutex.ts';

/** A piece of work that notes when it begins, and ends when it is told to. */
function makeWork(begun: string[], name: string) {
  let succeed = (): void => undefined;
  let fail = (): void => undefined;
  const outcome = new Promise<string>((resolve, reject) => {
    succeed = () => resolve(name);
    fail = () => reject(new Error(name));
  });
  const run = (): Promise<string> => {
    begun.push(name);
    return outcome;
  };
  return { run, succeed, fail };
}

/** Lets everything that waits for nothing else run. */
const turnOfLoop = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('a mutex runs work one after the other, also after work that fails', async (t) => {
  const begun: string[] = [];
  const mutex = new Mutex();
  const [one, two] = [makeWork(begun, 'one'), makeWork(begun, 'two')];
  const first = mutex.run(one.run);
  const second = mutex.run(two.run);
  await turnOfLoop();
  t.same(begun, ['one']);
  one.fail();
  await t.rejects(first, { message: 'one' });
  await turnOfLoop();
  t.same(begun, ['one', 'two']);
  t.equal(mutex.isIdle, false);
  two.succeed();
  await mutex.settled();
  t.equal(await second, 'two');
  t.equal(mutex.isIdle, true);
});

t.test('a keyed mutex makes only work with the same key wait', async (t) => {
  const begun: string[] = [];
  const mutex = new KeyedMutex();
  const works = ['a1', 'a2', 'b1'].map((name) => makeWork(begun, name));
  const outcomes = works.map(({ run }, index) => mutex.run(index < 2 ? 'a' : 'b', run));
  await turnOfLoop();
  t.same(begun, ['a1', 'b1']);
  t.equal(mutex.isBusy('a'), true);
  for (const { succeed } of works) succeed();
  t.same(await Promise.all(outcomes), ['a1', 'a2', 'b1']);
  t.same(begun, ['a1', 'b1', 'a2']);
  t.equal(mutex.isBusy('a'), false);
});

t.test(
  'work whose wait is given up never begins, and the work behind it keeps its turn',
  async (t) => {
    const begun: string[] = [];
    const mutex = new Mutex();
    const works = ['one', 'two', 'three'].map((name) => makeWork(begun, name));
    const [one, two, three] = works;
    const controller = new AbortController();
    const { signal } = controller;
    if (!one || !two || !three) throw new Error('no work');
    const first = mutex.run(one.run, signal);
    const second = mutex.run(two.run, signal);
    const third = mutex.run(three.run);
    await turnOfLoop();
    controller.abort(new Error('too late'));
    await t.rejects(second, { message: 'too late' });
    await turnOfLoop();
    t.same(begun, ['one'], 'the work behind it still waits for the work before it');
    one.succeed();
    t.equal(await first, 'one', 'work that has begun goes on');
    three.succeed();
    t.equal(await third, 'three');
    t.same(begun, ['one', 'three']);
    t.equal(mutex.isIdle, true);
  },
);
