/** The command line as a process: its output, its exit status and its signals. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { makeAuthority } from '../support/certificates.ts';
import { password, RawClient, startup } from '../support/raw-client.ts';
import { files, ready, run, usable } from './command-line.ts';

t.test('ca init makes an authority once, and says what to do with it', async (t) => {
  const first = await run(['ca', 'init'], { PGSSO_ISSUE_CA_KEY: 'authority.key' });
  t.match(first, { status: 0, stderr: '', stdout: /hostssl {2}all {2}\+app_users .*cert\n/ });
  t.match(await run(['ca', 'init', '--issue-ca-key', 'authority.key']), {
    status: 1,
    stderr: /^pgsso: .*authority\.key'\n$/,
  });
  t.match(await run(['ca', 'init', '--issue-ca-key', 'another.key']), {
    status: 1,
    stderr: /^pgsso: .*pgsso-ca\.crt'\n$/,
  });
  t.match(
    await run(['ca', 'init', '--issue-ca-cert', 'x.crt', '--issue-ca-key', 'another.key']),
    { status: 0 },
    'nothing was left',
  );
});

t.test('check prints a line a finding, or JSON, and ends with status 1 for an error', async (t) => {
  const args = ['check', '--backend', 'postgres:///?host=/nowhere', '--backend-auth', 'trust'];
  const { status, stdout, stderr } = await run(args);
  t.match({ status, stderr }, { status: 1, stderr: '' });
  t.match(
    stdout,
    new RegExp(
      '^error +settings: server\\.jwt_authentication\\.enabled is false.*\n' +
        'ok +settings: they are valid\n',
    ),
  );
  t.match(stdout, /\nerror +--backend \/nowhere\/\.s\.PGSQL\.5432: connect ENOENT/);
  const lines = (await run([...args, '--json'])).stdout.trim().split('\n');
  t.match(
    lines.map((line) => JSON.parse(line)),
    lines.map(() => ({ level: /^(?:ok|warning|error)$/, subject: String, text: String })),
  );
});

t.test('help and version', async (t) => {
  const help = await run(['serve', '--help']);
  t.equal(help.status, 0);
  for (const option of [
    '--listen',
    '--backend-auth',
    '--client-tls',
    'PGSSO_MAX_SESSIONS',
    'Example:',
  ])
    t.match(help.stdout, option);
  t.match(await run(['--version']), { status: 0, stdout: /^\d+\.\d+\.\d+\n$/ });
  t.match(await run([]), { status: 2 });
});

t.test('an option can be given by its variable', async (t) => {
  const env = {
    PGSSO_LISTEN: '127.0.0.1:0,127.0.0.1:0',
    PGSSO_BACKEND: 'postgres://:secret@127.0.0.1',
    PGSSO_BACKEND_AUTH: 'password',
    PGSSO_BACKEND_AHEAD: '1',
    PGSSO_ROUTE:
      'sales=postgres://:secret@127.0.0.1,localhost\n' +
      'hr_*=postgres://127.0.0.1?backend_auth=trust\n',
    PGSSO_DATA_DIR: join(files, 'by-variable'),
    PGSSO_LOG_FORMAT: 'json',
    PGSSO_METRICS_LISTEN: '127.0.0.1:0',
    PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABLED: 'true',
  };
  const { child, log } = await ready(['serve'], env);
  t.equal(
    JSON.parse(
      log()
        .split('\n')
        .find((line) => line.includes('ready')) ?? '',
    ).listen.length,
    2,
  );
  child.kill('SIGTERM');
  t.strictSame(await once(child, 'exit'), [0, null]);
  t.notMatch(log(), /secret/);
});

t.test('SIGHUP reads files again, SIGTERM and SIGINT drain and end with status 0', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const { child, log } = await ready(['serve', ...usable, '--data-dir', `by-${signal}`]);
    child.kill('SIGHUP');
    while (!log().includes('read again')) await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill(signal);
    t.strictSame(await once(child, 'exit'), [0, null], signal);
    t.match(log(), new RegExp(`${signal}.*draining`));
  }
});

t.test('a private key that others can read is a warning at the start', async (t) => {
  const { cert, key } = makeAuthority().issue({ cn: 'door', san: ['door'], usage: 'server' });
  writeFileSync(join(files, 'door.crt'), cert);
  writeFileSync(join(files, 'door.key'), key, { mode: 0o644 });
  const tls = ['--tls-cert', 'door.crt', '--tls-key', 'door.key'];
  const { child, log } = await ready(['serve', ...usable, ...tls, '--data-dir', 'by-key']);
  t.match(log(), /"level":"warn".*"option":"--tls-key".*chmod 600 door\.key/);
  child.kill('SIGTERM');
  t.strictSame(await once(child, 'exit'), [0, null]);
});

t.test('a second signal ends at once', async (t) => {
  // A backend that asks for a password and never answers it: the drain waits for such a login.
  const asks = Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 3]);
  const slow = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.once('data', () => slow.emit('password'));
      socket.write(asks);
    });
  });
  slow.listen(0, '127.0.0.1');
  await once(slow, 'listening');
  t.teardown(() => slow.close());
  const address = slow.address();
  const slowPort = address !== null && typeof address === 'object' ? address.port : 0;
  const url = `postgres://127.0.0.1:${slowPort}?sslmode=disable`;
  const options = [
    '--backend',
    url,
    '--backend-auth',
    'trust',
    '--listen',
    '127.0.0.1:0',
    '--drain-timeout',
    '1h',
  ];
  const { child, log } = await ready(['serve', ...options, '--data-dir', 'twice']);
  const start =
    log()
      .split('\n')
      .find((line) => line.includes('ready for connections')) ?? '';
  const client = await RawClient.connect(Number(JSON.parse(start).listen[0].split(':')[1]));
  client.send(startup({ user: 'alice' }));
  await client.message();
  const passwordCame = once(slow, 'password');
  client.send(password('secret'));
  await passwordCame;
  child.kill('SIGTERM');
  while (!log().includes('draining')) await new Promise((resolve) => setTimeout(resolve, 10));
  child.kill('SIGTERM');
  t.strictSame(await once(child, 'exit'), [1, null]);
  client.close();
});
