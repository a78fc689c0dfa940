/**
 * The command line as a process: what it says to wrong use, with which status it ends, and what
 * signals do.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { password, RawClient, startup } from '../support/raw-client.ts';

const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));
const files = await mkdtemp(join(tmpdir(), 'pgsso-cli-'));
t.teardown(() => rm(files, { recursive: true, force: true }));

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function start(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const { PATH } = process.env;
  return spawn(process.execPath, [cli, ...args], {
    cwd: files,
    env: { PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

async function run(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Outcome> {
  const child = start(args, env);
  const output = { stdout: '', stderr: '' };
  child.stdout?.on('data', (text) => {
    output.stdout += text;
  });
  child.stderr?.on('data', (text) => {
    output.stderr += text;
  });
  const [status] = await once(child, 'close');
  return { status, ...output };
}

/** Starts a server and waits until its log says that it is ready. */
async function ready(
  args: readonly string[],
  env?: NodeJS.ProcessEnv,
): Promise<{ child: ChildProcess; log: () => string }> {
  const child = start(args, env);
  let log = '';
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on('data', (text) => {
      log += text;
      if (log.includes('ready for connections')) resolve();
    });
    child.on('exit', () => reject(new Error(log)));
  });
  return { child, log: () => log };
}

const backend = 'postgres:///?host=/tmp';
const usable = ['--backend', backend, '--backend-auth', 'trust', '--listen', '127.0.0.1:0'];

t.test('wrong use is one line that names the option, and status 2', async (t) => {
  const rows: [string, string[], RegExp, NodeJS.ProcessEnv?][] = [
    ['unknown option', ['serve', '--no-such'], /--no-such/],
    ['unknown command', ['swerve'], /swerve/],
    ['no backend', ['serve'], /--backend <URL>.*PGSSO_BACKEND/],
    ['listen', ['serve', ...usable, '--listen', 'nonsense'], /--listen.*HOST:PORT/],
    ['listen port', ['serve', ...usable, '--listen', 'a:70000'], /--listen.*HOST:PORT/],
    [
      'listen by variable',
      ['serve', ...usable.slice(0, 4)],
      /PGSSO_LISTEN.*HOST:PORT/,
      { PGSSO_LISTEN: 'nonsense' },
    ],
    ['metrics', ['serve', ...usable, '--metrics-listen', '9187'], /--metrics-listen.*HOST:PORT/],
    ['timeout', ['serve', ...usable, '--login-timeout', 'soon'], /--login-timeout.*30s/],
    ['no timeout', ['serve', ...usable, '--drain-timeout', '0'], /--drain-timeout/],
    ['count', ['serve', ...usable, '--max-logins', '0'], /--max-logins.*whole number/],
    [
      'method',
      ['serve', '--backend', backend, '--backend-auth', 'magic'],
      /--backend-auth.*trust, password, cert, issue-cert/,
    ],
    ['mode', ['serve', ...usable, '--superusers', 'maybe'], /--superusers.*refuse, allow/],
    ['level', ['serve', ...usable, '--log-level', 'loud'], /--log-level.*info/],
    [
      'backend URL',
      ['serve', '--backend', 'mysql://x', '--backend-auth', 'trust'],
      /--backend.*postgres:\/\//,
    ],
    [
      'backend parameter',
      ['serve', '--backend', 'postgres://h?nope=1', '--backend-auth', 'trust'],
      /--backend.*"nope".*sslmode/,
    ],
    ['no password file', ['serve', '--backend', backend], /--backend-passfile/],
    [
      'needless password file',
      ['serve', ...usable, '--backend-passfile', 'x'],
      /--backend-passfile.*trust/,
    ],
    ['route', ['serve', ...usable, '--route', 'sales'], /--route.*DATABASE_PATTERN=URL/],
    ['ahead', ['serve', ...usable, '--backend-ahead', '-1'], /--backend-ahead.*whole number/],
    [
      'needless authority',
      ['check', ...usable, '--issue-ca-cert', 'x'],
      /--issue-ca-cert is of no use/,
    ],
    ['days', ['ca', 'init', '--days', 'many'], /--days.*whole number/],
    [
      'directory without a user',
      ['serve', ...usable, '--directory', 'postgres://h/db'],
      /--directory.*user/,
    ],
    [
      'directory that cannot be',
      ['serve', ...usable, '--directory', 'mysql://d@h/db'],
      /--directory.*postgres:\/\//,
    ],
    ['key without certificate', ['serve', ...usable, '--tls-key', 'x'], /--tls-key.*--tls-cert/],
    [
      'TLS required',
      ['serve', ...usable, '--listen', '0.0.0.0:0'],
      /--listen 0\.0\.0\.0:0.*--tls-cert.*--client-tls/,
    ],
    [
      'setting',
      ['serve', ...usable, '--set', 'server.jwt_authentication.enabeld=true'],
      /--set.*enabeld/,
    ],
    [
      'setting without value',
      ['serve', ...usable, '--set', 'server.jwt_authentication.enabled'],
      /--set/,
    ],
    [
      'setting value',
      ['serve', ...usable, '--set', 'server.jwt_authentication.enabled=maybe'],
      /--set.*enabled.*true/,
    ],
    [
      'variable',
      ['serve', ...usable],
      /PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABLED/,
      { PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABLED: 'maybe' },
    ],
    [
      'misspelt variable',
      ['serve', ...usable],
      /PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABELD/,
      { PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABELD: 'true' },
    ],
  ];
  for (const [name, args, text, env] of rows) {
    const { status, stderr, stdout } = await run(args, env);
    t.match({ status, stderr, stdout }, { status: 2, stderr: text, stdout: '' }, name);
    t.match(stderr, /^pgsso: [^\n]+\n$/, `${name}: one line`);
  }
});

t.test('a password in a flag is refused and not repeated', async (t) => {
  const { status, stderr } = await run([
    'serve',
    '--backend',
    'postgres://:hunter2@db.example.com/',
  ]);
  t.match({ status, stderr }, { status: 2, stderr: /--backend.*password/ });
  t.notMatch(stderr, /hunter2/);
});

t.test('what cannot be used is one line that names it, and status 1', async (t) => {
  const busy = createServer();
  busy.listen(0, '127.0.0.1');
  await once(busy, 'listening');
  const address = busy.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  await mkdir(join(files, 'open'));
  await chmod(join(files, 'open'), 0o755);
  await writeFile(join(files, 'loose'), '*:*:*:*:x\n', { mode: 0o644 });
  await writeFile(join(files, 'not-pem'), 'hello');
  await mkdir(join(files, 'damaged'), { mode: 0o700 });
  await writeFile(join(files, 'damaged', 'settings.1.json'), '{"format":');
  const rows: [string, string[], RegExp][] = [
    ['port in use', [...usable, '--listen', `127.0.0.1:${port}`], /127\.0\.0\.1:\d+.*EADDRINUSE/],
    [
      'metrics port in use',
      [...usable, '--metrics-listen', `127.0.0.1:${port}`],
      /--metrics-listen.*EADDRINUSE/,
    ],
    [
      'password file missing',
      ['--backend', backend, '--backend-passfile', 'missing'],
      /--backend-passfile.*missing/,
    ],
    [
      'password file open to others',
      ['--backend', backend, '--backend-passfile', 'loose'],
      /--backend-passfile.*loose.*0600/,
    ],
    [
      'root certificate',
      ['--backend', 'postgres://db.test?sslrootcert=/nowhere.crt', '--backend-auth', 'trust'],
      /--backend.*nowhere\.crt/,
    ],
    [
      'password file of the directory',
      [...usable, '--directory', 'postgres://d@h/db?passfile=nope'],
      /--directory.*nope/,
    ],
    [
      'setting without the directory',
      [...usable, '--data-dir', 'no-directory', '--set', 'security.provisioning.jwt.enabled=on'],
      /security\.provisioning\.jwt\.enabled.*--directory/,
    ],
    [
      'certificate missing',
      [...usable, '--tls-cert', 'nope', '--tls-key', 'nope'],
      /--tls-cert.*nope/,
    ],
    [
      'certificate that is none',
      [...usable, '--tls-cert', 'not-pem', '--tls-key', 'not-pem'],
      /--tls-cert not-pem/,
    ],
    ['data dir open to others', [...usable, '--data-dir', 'open'], /--data-dir.*chmod 700/],
    ['data dir is a file', [...usable, '--data-dir', 'loose'], /--data-dir/],
    ['damaged settings', [...usable, '--data-dir', 'damaged'], /settings\.1\.json/],
  ];
  for (const [name, args, text] of rows) {
    const { status, stderr } = await run(['serve', ...args]);
    const complaint = stderr.split('\n').filter((line) => line.startsWith('pgsso: '));
    t.match({ status, complaint }, { status: 1, complaint: [text] }, name);
    t.notMatch(stderr, /\n\s+at /, `${name}: no stack`);
  }
  busy.close();
});

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
    /^error +settings: server\.jwt_authentication\.enabled is false.*\nok +settings: they are valid\n/,
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

t.test('every option has its variable', async (t) => {
  const env = {
    PGSSO_LISTEN: '127.0.0.1:0,127.0.0.1:0',
    PGSSO_BACKEND: 'postgres://:secret@127.0.0.1',
    PGSSO_BACKEND_AUTH: 'password',
    PGSSO_BACKEND_AHEAD: '1',
    PGSSO_ROUTE:
      'sales=postgres://:secret@127.0.0.1,localhost\nhr_*=postgres://127.0.0.1?backend_auth=trust\n',
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

t.test('a second signal ends at once', async (t) => {
  // A backend that asks for a password and then thinks about it: such a login is waited for.
  const asks = Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 3]);
  const slow = createServer(
    (socket) => void socket.on('error', () => undefined).once('data', () => socket.write(asks)),
  );
  slow.listen(0, '127.0.0.1');
  await once(slow, 'listening');
  t.teardown(() => slow.close());
  const address = slow.address();
  const url = `postgres://127.0.0.1:${address !== null && typeof address === 'object' ? address.port : 0}?sslmode=disable`;
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
  client.send(password('secret'));
  await new Promise((resolve) => setTimeout(resolve, 200));
  child.kill('SIGTERM');
  while (!log().includes('draining')) await new Promise((resolve) => setTimeout(resolve, 10));
  child.kill('SIGTERM');
  t.strictSame(await once(child, 'exit'), [1, null]);
  client.close();
});
