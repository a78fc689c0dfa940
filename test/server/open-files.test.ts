/** The limit of open files: the warning of the start, and a process that has run into it. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { openFilesLimit, openFilesWarning } from '../../src/server/open-files.ts';
import { backend, ready } from '../cli/command-line.ts';
import { RawClient, tokenStartup } from '../support/raw-client.ts';

t.test('the limit is read where Linux shows it', async (t) => {
  const line = (soft: string): string => `Max open files            ${soft}   524288   files\n`;
  const proc = t.testdir({ self: { limits: `Limit  Soft Limit\n${line('1024')}` } });
  t.equal(await openFilesLimit(proc), 1024);
  t.equal(await openFilesLimit(t.testdir({ self: { limits: line('unlimited') } })), undefined);
  t.equal(await openFilesLimit(t.testdir({})), undefined);
  t.equal(openFilesWarning(22_400, { maxSessions: 10_000, maxLogins: 1000 }), undefined);
  t.match(
    openFilesWarning(22_399, { maxSessions: 10_000, maxLogins: 1000 }),
    /is 22399: 22400 are needed .*LimitNOFILE=22400/,
  );
});

t.test(
  'out of descriptors: failed accepts were not logged, and the start did not warn',
  { skip: process.platform !== 'linux' && 'the limit is read from /proc' },
  async (t) => {
    const args = ['serve', '--listen', '127.0.0.1:0', '--data-dir', 'few-files'];
    const env = {
      PGSSO_BACKEND: backend,
      PGSSO_BACKEND_AUTH: 'trust',
      PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABLED: 'true',
    };
    const { child, log } = await ready(args, env, 200);
    t.teardown(() => child.kill('SIGKILL'));
    t.match(log(), /"level":"warn".*"option":"--max-sessions".*the limit of open files is 200/);
    const port = Number(/127\.0\.0\.1:(\d+)"\]/.exec(log())?.[1]);
    const sockets: Socket[] = Array.from({ length: 240 }, () => connect(port, '127.0.0.1'));
    for (const socket of sockets) socket.on('error', () => undefined);
    while (!log().includes('accept_failed')) await sleep(20);
    t.match(log(), /"event":"accept_failed".*"reason":"EMFILE".*LimitNOFILE/);
    for (const socket of sockets) socket.destroy();
    // The listener recovers as soon as there are descriptors.
    for (;;) {
      const client = await RawClient.connect(port);
      client.send(tokenStartup({ user: 'alice' }));
      const answer = await client.message().catch(() => undefined);
      client.close();
      if (answer) break;
      await sleep(50);
    }
    child.kill('SIGTERM');
    t.strictSame(await once(child, 'exit'), [0, null]);
  },
);
