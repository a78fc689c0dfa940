/** Waiting that a signal ends, for work that goes on. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { orAborted } from '../../src/lib/abort.ts';

const REASON = new Error('client left');

async function failing(): Promise<never> {
  await sleep(5);
  throw new Error('failed late');
}

/** The rejections that nobody hears while this test runs. Node.js would end the process. */
function unheard(test: { teardown(done: () => void): void }): unknown[] {
  const heard: unknown[] = [];
  const note = (reason: unknown): void => void heard.push(reason);
  const others = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', note);
  test.teardown(() => {
    process.off('unhandledRejection', note);
    for (const other of others) process.on('unhandledRejection', other);
  });
  return heard;
}

t.test('work that fails after its only waiter had left ended the process', async (t) => {
  const rejections = unheard(t);
  await t.rejects(orAborted(failing(), AbortSignal.abort(REASON)), REASON);
  const leaving = new AbortController();
  const left = orAborted(failing(), leaving.signal);
  leaving.abort(REASON);
  await t.rejects(left, REASON);
  await sleep(30);
  t.strictSame(rejections, []);
});

t.test('a signal that has aborted before counts more than work that is over', async (t) => {
  await t.rejects(orAborted(Promise.resolve(1), AbortSignal.abort(REASON)), REASON);
});

t.test('without an abort the outcome of the work is told, and no listener stays', async (t) => {
  const { signal } = new AbortController();
  t.equal(await orAborted(sleep(1, 'done'), signal), 'done');
  await t.rejects(orAborted(failing(), signal), /failed late/);
});
