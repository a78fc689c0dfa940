/**
 * EXPLAIN LOGIN and `pgsso explain` give the same result as real logins, for generated settings and
 * tokens.
 */
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import pg from 'pg';
import t from 'tap';
import { checks } from '../../src/auth/refusals.ts';
import { AUDIENCE, ISSUER, JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { nodeCommand, type Outcome, runCommand } from '../support/node-command.ts';
import { startPostgres } from '../support/postgres.ts';
import { mintToken, testKey } from '../support/tokens.ts';

const database = await startPostgres({
  initSql: ['CREATE ROLE alice LOGIN', 'CREATE ROLE bob LOGIN'],
});
t.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
const frontEnd = await startFrontEnd(backend, { reservedUsers: ['bob'], admins: ['alice'] });
t.teardown(() => frontEnd.close());
const { port, dataDir } = frontEnd;
const admin = new pg.Client({ host: dataDir, port, database: 'pgsso', user: 'operator' });
await admin.connect();
t.teardown(() => admin.end());

const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

async function logIn(user: string, password: string): Promise<string | undefined> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    database: 'postgres',
    user,
    password,
    options: JWT_OPTION,
  });
  try {
    await client.connect();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  } finally {
    await client.end();
  }
}

/** Values of each setting. With the first ones logins are accepted. */
const settings: Readonly<Record<string, readonly string[]>> = {
  'server.jwt_authentication.enabled': ['true', 'false'],
  'server.jwt_authentication.issuers.configuration': [ISSUER, `["x","${ISSUER}"]`, 'x', ''],
  'server.jwt_authentication.audience': [AUDIENCE, '["a","b"]', ''],
  'server.jwt_authentication.claim': ['', 'email', 'names'],
  'server.identity_map.configuration': [
    '',
    `${ISSUER} /^(.*)$ \\1`,
    `${ISSUER} alice bob`,
    `${ISSUER} nobody root`,
  ],
};

/** Generates the first value most of the time, so that many logins pass several checks. */
const mostly = <T>(usual: T, ...others: readonly T[]): fc.Arbitrary<T> =>
  fc.oneof(
    { weight: 8, arbitrary: fc.constant(usual) },
    { weight: 2, arbitrary: fc.constantFrom(usual, ...others) },
  );
const claims = fc.record({
  sub: mostly<unknown>('alice', 'bob', 'root', '', 7, undefined),
  iss: mostly<unknown>(ISSUER, 'x', undefined),
  aud: mostly<unknown>(AUDIENCE, [AUDIENCE, 'c'], 'a', undefined),
  email: mostly<unknown>('alice', 'a\u0000b', undefined),
  names: mostly<unknown>(['alice', 'bob'], [], undefined),
  exp: mostly<unknown>(4_000_000_000, 1, undefined),
});
const key = mostly(testKey('RS256'), testKey('RS256', 'other'), testKey('ES256'));
const settingValues = Object.entries(settings).map(([name, [usual = '', ...others]]) => [
  name,
  mostly(usual, ...others),
]);
const login = fc.record({
  settings: fc.record<Record<string, string>>(Object.fromEntries(settingValues)),
  password: fc.oneof(
    { weight: 19, arbitrary: fc.tuple(key, claims).map(([by, members]) => mintToken(by, members)) },
    { weight: 1, arbitrary: fc.constantFrom('abc', 'a.b.c') },
  ),
  user: mostly('alice', 'bob', 'Alice', 'root'),
});

/**
 * The checks after the one on roles apply only to some logins, or are made by the backend.
 */
const isLater = (check: keyof typeof checks): boolean => checks[check].number > checks.role.number;

t.test('EXPLAIN LOGIN gives the result of the login', async (t) => {
  let admitted = 0;
  const failed = new Set<string>();
  await fc.assert(
    fc.asyncProperty(login, async ({ settings: values, password, user }) => {
      await admin.query('BEGIN');
      for (const [name, value] of Object.entries(values))
        await admin.query(`SET CLUSTER SETTING ${name} = $1`, [value]);
      await admin.query('COMMIT');
      const { rows } = await admin.query('EXPLAIN LOGIN $1 FOR USER $2', [password, user]);
      const refused = await logIn(user, password);
      const results = rows.map(({ result }) => result);
      const first = rows.find(({ result }) => result === 'failed');
      if (first === undefined) {
        admitted++;
        return (
          refused === undefined &&
          rows.every(({ check, result }) => result === (isLater(check) ? 'not reached' : 'passed'))
        );
      }
      failed.add(first.check);
      const at = rows.indexOf(first);
      const inOrder = results.every(
        (result, index) =>
          result === (index < at ? 'passed' : index === at ? 'failed' : 'not reached'),
      );
      const { message } = checks[first.check as keyof typeof checks];
      return inOrder && refused === message;
    }),
    { numRuns: 120, seed: 20261123 },
  );
  t.ok(admitted > 20, `${admitted} logins were accepted`);
  t.ok(failed.size >= 8, `refused by ${[...failed].join(', ')}`);
});

t.test(
  'the rows show what was found, what was expected and the setting; the log has no token',
  async (t) => {
    await admin.query('BEGIN');
    for (const [name, [value]] of Object.entries(settings))
      await admin.query(`SET CLUSTER SETTING ${name} = $1`, [value]);
    await admin.query('COMMIT');
    const billing = token('alice', { aud: 'billing' });
    const { rows } = await admin.query(`EXPLAIN LOGIN '${billing}' FOR USER alice`);
    t.strictSame(
      rows.find(({ check }) => check === 'audience'),
      {
        check: 'audience',
        result: 'failed',
        found: '[billing]',
        expected: `one of [${AUDIENCE}]`,
        setting: 'server.jwt_authentication.audience',
      },
    );
    t.strictSame(
      rows.map(({ check }) => check),
      Object.keys(checks),
    );
    const console = async (user: string): Promise<unknown> =>
      (await admin.query(`EXPLAIN LOGIN '${token(user)}' DATABASE pgsso`)).rows.at(-1);
    t.match(await console('alice'), { check: 'console', result: 'passed', found: 'admin' });
    t.match(await console('carol'), { check: 'console', result: 'failed' });
    await admin.query(`EXPLAIN LOGIN '${billing}' nonsense`).catch(() => undefined);
    t.notOk(JSON.stringify(frontEnd.events).includes(billing.slice(-40)));
  },
);

const explain = (args: readonly string[], input: string): Promise<Outcome> =>
  runCommand(nodeCommand(cli, 'explain', ...args), {}, input);

t.test(
  'pgsso explain gives the same result without a server, with exit status 0 or 1',
  async (t) => {
    // The key set of this test is a default of the server. `pgsso explain` reads only its store.
    const jwks = 'server.jwt_authentication.jwks';
    const { rows } = await admin.query(`SHOW CLUSTER SETTING ${jwks}`);
    await admin.query(`SET CLUSTER SETTING ${jwks} = '${rows[0][jwks]}'`);
    const good = await explain(['--data-dir', dataDir, '--user', 'alice'], `${token('alice')}\n`);
    t.match(good, {
      status: 0,
      stdout: /passed {7}audience .*\n[\s\S]*The checks let the login in, as alice\.\n$/,
      stderr: '',
    });
    const bad = await explain(
      ['--data-dir', dataDir, '--json'],
      token('alice', { aud: 'billing' }),
    );
    t.equal(bad.status, 1);
    t.match(JSON.parse(bad.stdout), {
      admitted: false,
      code: 'invalid_audience',
      message: 'JWT authentication: invalid audience',
    });
    const bySet = await explain(
      ['--set', 'server.jwt_authentication.enabled=true'],
      token('alice'),
    );
    t.match(bySet, { status: 1, stdout: /failed {7}issuer/ });
    t.match(good.stdout, new RegExp(`^Settings: [1-9]\\d* of ${dataDir}, 0 of --set`));
    t.match(good.stdout, /a running pgsso may have others/);
    t.match(await explain(['--data-dir', '/nowhere'], ''), {
      status: 1,
      stderr: 'pgsso: --data-dir /nowhere: there is no such directory\n',
    });
    t.match(await explain(['--set', 'x=y'], ''), { status: 2, stderr: /--set/ });
    t.match(await explain(['--from', 'here'], ''), { status: 2, stderr: /--from.*10\.1\.2\.3/ });
    t.match(await explain(['--via', 'air'], ''), { status: 2, stderr: /--via.*tls, plain/ });
  },
);

t.test('pgsso explain with --from or --via finds the rule of the login', async (t) => {
  await admin.query(`SET CLUSTER SETTING server.host_based_authentication.configuration =
    'hostssl sales all 10.0.0.0/8 jwt audience=sales
    host sales all all reject
    host all all all jwt'`);
  t.teardown(() =>
    admin.query('RESET CLUSTER SETTING server.host_based_authentication.configuration'),
  );
  const from = (...args: string[]) =>
    explain(['--data-dir', dataDir, '--user', 'alice', ...args], token('alice'));
  const sales = ['--database', 'sales', '--from'];
  t.match(await from(...sales, '10.1.2.3'), {
    status: 1,
    stdout: /passed {7}rule {7}line 1: hostssl sales .*\n[\s\S]*failed {7}audience .*\[sales\]/,
  });
  for (const way of [
    [...sales, '192.0.2.1'],
    [...sales, '10.1.2.3', '--via', 'plain'],
  ])
    t.match(await from(...way), { status: 1, stdout: /failed {7}rule .*line 2: host sales/ });
  t.match(await from('--via', 'plain'), { status: 0, stdout: /rule {7}line 3: host all/ });
});

t.test('pgsso explain asks a running pgsso, which has settings of its own', async (t) => {
  // The set of keys is a default of the server that no file has.
  await admin.query('RESET CLUSTER SETTING server.jwt_authentication.jwks');
  const running = (...args: string[]) => explain(['--user', 'alice', ...args], token('alice'));
  t.match(await running('--data-dir', dataDir), { status: 1, stdout: /failed {7}/ });
  const asked = await running('--running', '--data-dir', dataDir, '--from', '10.1.2.3');
  t.match(asked, {
    status: 0,
    stdout: `Settings: those of the pgsso that runs at ${dataDir}\n\npassed       rule `,
    stderr: '',
  });
  t.match(asked.stdout, /\nThe checks let the login in\.\n$/);
  const refused = await running('--running', '--data-dir', dataDir, '--json', '--user', 'bob');
  t.equal(refused.status, 1);
  const { settings, admitted, checks } = JSON.parse(refused.stdout);
  t.match([settings, admitted], [/runs at/, false]);
  t.match(
    checks.find(({ result }: { result: string }) => result === 'failed'),
    { check: 'user', decidedBy: 'server.identity_map.configuration' },
  );
  t.match(await running('--running', '--set', 'pgsso.clock_tolerance=9s'), {
    status: 2,
    stderr: /--set.*cannot be used with.*--running/,
  });
});
