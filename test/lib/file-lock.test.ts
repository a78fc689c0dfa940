/** The lock that processes of a user share. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { withFileLock } from '../../src/lib/file-lock.ts';

const folder = mkdtempSync(join(tmpdir(), 'pgsso-lock-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const { signal } = new AbortController();

t.test('one works at a time, and a failure gives the lock back', async (t) => {
  const path = join(folder, 'one');
  let inside = 0;
  let most = 0;
  const outcomes = await Promise.allSettled(
    Array.from({ length: 6 }, (_, index) =>
      withFileLock(path, signal, async () => {
        most = Math.max(most, ++inside);
        await turn();
        inside--;
        if (index % 2 === 0) throw new Error('failed');
        return index;
      }),
    ),
  );
  t.equal(most, 1);
  t.equal(outcomes.filter(({ status }) => status === 'rejected').length, 3);
  t.notOk(existsSync(path));
});

t.test('the lock of a process that was killed is taken, once', async (t) => {
  const path = join(folder, 'killed');
  const child = spawn('sleep', ['60']);
  writeFileSync(path, `${hostname()} ${child.pid} x`);
  child.kill('SIGKILL');
  await once(child, 'exit');
  let inside = 0;
  await Promise.all(
    Array.from({ length: 4 }, () =>
      withFileLock(path, signal, async () => {
        t.equal(++inside, 1);
        await turn();
        inside--;
      }),
    ),
  );
  t.notOk(existsSync(path));
});

t.test('a wait can be given up, and the lock of a living process stays', async (t) => {
  const path = join(folder, 'alive');
  writeFileSync(path, `${hostname()} ${process.pid} x`);
  const abort = new AbortController();
  const waiting = withFileLock(path, abort.signal, async () => t.fail('it has the lock'));
  abort.abort(new Error('given up'));
  await t.rejects(waiting);
  t.equal(readFileSync(path, 'utf8'), `${hostname()} ${process.pid} x`);
});
