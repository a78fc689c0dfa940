/**
 * `pgsso settings` as a process: over the socket and over a listener, JSON in and out, exit
 * statuses.
 */

import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';

const database = await startPostgres({
  initSql: ['CREATE ROLE alice LOGIN', 'CREATE ROLE vera LOGIN'],
});
t.teardown(() => database.close());
const frontEnd = await startFrontEnd(
  `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`,
  {
    admins: ['alice'],
    viewers: ['vera'],
  },
);
t.teardown(() => frontEnd.close());
const { port, dataDir } = frontEnd;
const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function settings(
  args: readonly string[],
  input = '',
  env: NodeJS.ProcessEnv = { PGSSO_DATA_DIR: dataDir },
): Promise<Outcome> {
  const { PATH } = process.env;
  const child = spawn(process.execPath, [cli, 'settings', ...args], { env: { PATH, ...env } });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk) => {
      output[name] += chunk;
    });
  }
  child.stdin.on('error', () => undefined).end(input);
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { status, ...output };
}

const NAME = 'pgsso.clock_tolerance';

t.test('set, get, reset and list over the socket', async (t) => {
  t.strictSame(await settings(['set', NAME, '00:00:07']), { status: 0, stdout: '', stderr: '' });
  t.strictSame(await settings(['get', NAME]), { status: 0, stdout: '7s\n', stderr: '' });
  t.strictSame(await settings(['get', '--json', NAME]), {
    status: 0,
    stdout: '"7s"\n',
    stderr: '',
  });
  t.match(await settings(['set', NAME, '-'], '8s'), { status: 0 });
  const { stdout } = await settings(['list', '--json']);
  t.match(
    JSON.parse(stdout).find(({ variable }: { variable: string }) => variable === NAME),
    { value: '8s', origin: 'override' },
  );
  t.match(await settings(['list']), { stdout: /^override {2}pgsso\.clock_tolerance = "8s"$/m });
  t.match(await settings(['reset', NAME]), { status: 0 });
  t.match(await settings(['get', NAME]), { stdout: '5s\n' });
});

t.test('import is all or nothing, and takes what export gives', async (t) => {
  const good = {
    [NAME]: '9s',
    'server.jwt_authentication.audience': ['a', 'b'],
    'server.jwt_authentication.claim': 'email',
  };
  t.match(await settings(['import', '-'], JSON.stringify(good)), { status: 0, stderr: '' });
  const exported = await settings(['export']);
  t.strictSame(JSON.parse(exported.stdout), {
    ...good,
    'server.jwt_authentication.audience': '["a","b"]',
  });

  const bad = await settings(
    ['import', '-'],
    JSON.stringify({ 'server.jwt_authentication.claim': 'sub', [NAME]: '99h' }),
  );
  t.match(bad, {
    status: 1,
    stderr: /^pgsso: cannot be set to more than 1m0s.*pgsso\.clock_tolerance'\n$/,
  });
  t.match(await settings(['get', 'server.jwt_authentication.claim']), { stdout: 'email\n' });
  for (const text of ['nonsense', '[]', '{"a": null'])
    t.match(await settings(['import', '-'], text), { status: 1, stderr: /^pgsso: import: / });

  const file = join(dataDir, 'import.json');
  await writeFile(file, exported.stdout);
  t.match(
    await settings(
      ['import', '-'],
      JSON.stringify({
        [NAME]: null,
        'server.jwt_authentication.audience': null,
        'server.jwt_authentication.claim': null,
      }),
    ),
    { status: 0 },
  );
  t.equal((await settings(['export'])).stdout, '{}\n');
  t.match(await settings(['import', file]), { status: 0 });
  t.strictSame(JSON.parse((await settings(['export'])).stdout), JSON.parse(exported.stdout));
  await settings(
    ['import', '-'],
    JSON.stringify({
      [NAME]: null,
      'server.jwt_authentication.audience': null,
      'server.jwt_authentication.claim': null,
    }),
  );
});

t.test('by a URL, with the rights of the user', async (t) => {
  const url = (user: string): string =>
    `postgres://${user}@127.0.0.1:${port}/pgsso?options=--crdb:jwt_auth_enabled%3Dtrue`;
  const as = (user: string): NodeJS.ProcessEnv => ({
    PGSSO_URL: url(user),
    PGPASSWORD: token(user),
  });
  t.match(await settings(['set', NAME, '3s'], '', as('alice')), { status: 0, stderr: '' });
  t.match(await settings(['get', NAME], '', as('vera')), { status: 0, stdout: '3s\n' });
  t.match(await settings(['set', NAME, '4s'], '', as('vera')), {
    status: 1,
    stderr: /MODIFYCLUSTERSETTING/,
  });
  t.match(await settings(['get', NAME], '', { PGSSO_URL: url('alice'), PGPASSWORD: 'a.b.c' }), {
    status: 1,
    stderr: /invalid token/,
  });
});

t.test('what is wrong is one line, with status 1 or 2', async (t) => {
  t.match(await settings(['get', 'server.jwt_authentication.enabeld']), {
    status: 1,
    stderr: /^pgsso: unknown cluster setting.*nearest.*enabled\.\n$/,
  });
  t.match(await settings(['get', NAME], '', { PGSSO_DATA_DIR: database.socketDir }), { status: 1 });
  t.match(await settings(['get', NAME], '', { PGSSO_DATA_DIR: '/nowhere' }), {
    status: 1,
    stderr: /^pgsso: --data-dir: .*\n$/,
  });
  const secret = 'postgres://alice:hunter2@h/pgsso';
  const flagged = await settings(['--url', secret, 'get', NAME]);
  t.match(flagged, { status: 2, stderr: /^pgsso: --url: .*PGPASSWORD\n$/ });
  t.notMatch(flagged.stderr, /hunter2/);
  t.match(await settings(['--url', 'http://h', 'get', NAME]), { status: 2, stderr: /--url/ });
  t.match(await settings(['--port', '0', 'get', NAME]), { status: 2, stderr: /--port/ });
  t.match(await settings(['frobnicate']), { status: 2 });
});
