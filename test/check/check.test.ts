/** `pgsso check` on real servers and files. */

import { once } from 'node:events';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { createAuthority } from '../../src/backend/certificates.ts';
import { type CheckOptions, check } from '../../src/check/check.ts';
import { checkSystem } from '../../src/check/system.ts';
import { makeAuthority } from '../support/certificates.ts';
import { testOptions } from '../support/front-end.ts';
import { misbehave, startIssuer } from '../support/issuer.ts';
import { type Postgres, type PostgresOptions, startPostgres } from '../support/postgres.ts';
import { testKey } from '../support/tokens.ts';

const DAY = 86_400_000;
const authority = makeAuthority();
const ssl = authority.issue({ cn: 'db', san: ['127.0.0.1'], usage: 'server' });
const initSql = [
  "CREATE ROLE alice LOGIN PASSWORD 'secret'",
  "ALTER ROLE postgres PASSWORD 'secret'",
  'CREATE ROLE app_users',
  'GRANT app_users TO alice',
  "CREATE ROLE keeper LOGIN CREATEROLE PASSWORD 'secret'",
  'GRANT app_users TO keeper WITH ADMIN OPTION',
  'CREATE DATABASE keeper',
  "CREATE ROLE scribe LOGIN PASSWORD 'secret'",
];

const files = t.testdir({ 'ca.pem': authority.cert });
function file(name: string, text: string): string {
  writeFileSync(join(files, name), text, { mode: 0o600 });
  return join(files, name);
}

/** enabled, issuers, audience, jwks, in this order, and what they do not need. */
const good = testOptions.settings;

function options(more: Partial<CheckOptions>): CheckOptions {
  return {
    ...testOptions,
    backend: 'postgres://127.0.0.1:1?sslmode=require',
    sourceOf: () => 'flag',
    dataDir: join(files, 'no-data'),
    maxLogins: 10,
    maxSessions: 10,
    ...more,
  };
}

/** The findings about a subject, each as `level text`. */
async function findings(
  subject: RegExp,
  more: Partial<CheckOptions>,
  now?: () => number,
): Promise<string[]> {
  const all = await check(options(more), now);
  return all
    .filter((finding) => subject.test(finding.subject))
    .map(({ level, text }) => `${level} ${text}`);
}

async function start(t: Test, postgres: PostgresOptions): Promise<Postgres> {
  const server = await startPostgres({ ssl, initSql, ...postgres });
  t.teardown(() => server.close());
  return server;
}

const url = (port: number, more = ''): string =>
  `postgres://127.0.0.1:${port}/?sslrootcert=${files}/ca.pem${more}`;

t.test('the keys of issuers are fetched if fetching is on', async (t) => {
  const issuer = await startIssuer([testKey('RS256')]);
  t.teardown(() => issuer.close());
  const settings = [
    'server.jwt_authentication.enabled=true',
    `server.jwt_authentication.issuers.configuration=["${issuer.issuer}"]`,
    'server.jwt_authentication.audience=databases',
    'server.jwt_authentication.jwks_auto_fetch.enabled=true',
  ];
  t.same(await findings(/^issuer/, { settings }), ['ok 1 key']);
  issuer.keys = [];
  t.same(await findings(/^issuer/, { settings }), ['error it has no key that can be used']);
  issuer.behaviour = misbehave.broken;
  t.match(await findings(/^issuer/, { settings }), [/^error .*500/]);
  t.same(await findings(/^issuer/, {}), [], 'not with static keys');
});

t.test('settings with which every token is refused are errors', async (t) => {
  t.same(await findings(/^settings/, {}), ['ok they are valid']);
  t.match(await findings(/^settings/, { settings: [] }), [
    /^error server\.jwt_authentication\.enabled is false/,
    'ok they are valid',
  ]);
  for (const [at, name] of [
    [1, 'issuers.configuration'],
    [2, 'audience'],
    [3, 'jwks'],
  ] as const) {
    const settings = good.filter((_setting, index) => index !== at);
    t.match(
      await findings(/^settings/, { settings }),
      [new RegExp(`^error server.jwt_authentication.${name} is empty`), /^ok/],
      name,
    );
  }
  await t.rejects(check(options({ settings: ['nonsense=1'] })), { name: 'UsageError' });
  t.match(await findings(/^settings/, { dataDir: join(files, 'ca.pem') }), [/^error --data-dir/]);
});

t.test('the certificate that clients see: dates, chain, names', async (t) => {
  const now = Date.now();
  const tls = (name: string, cert: string, key: string): Partial<CheckOptions> => ({
    tlsCert: file(`${name}.crt`, cert),
    tlsKey: file(`${name}.key`, key),
  });
  const leaf = authority.issue({
    cn: 'db',
    san: ['db.example.test', '10.0.0.1'],
    notAfter: new Date(now + 100 * DAY),
  });
  const cases: [string, Partial<CheckOptions>, RegExp[]][] = [
    [
      'good',
      tls('good', leaf.cert + authority.cert, leaf.key),
      [/^ok CN=db is valid until/, /^ok a chain of 2/, /^ok for db.example.test, 10.0.0.1/],
    ],
    [
      'broken chain',
      tls('broken', leaf.cert + makeAuthority('x').cert, leaf.key),
      [/^ok/, /^error .*certificate 2 .* has not issued certificate 1/, /^ok/],
    ],
    ['another key', tls('other', leaf.cert, ssl.key), [/^error --tls-cert .*key/]],
  ];
  for (const [name, more, expected] of cases)
    t.match(await findings(/^--tls-cert/, more), expected, name);
  const at = (days: number) =>
    findings(/^--tls-cert/, tls('dated', leaf.cert, leaf.key), () => now + days * DAY);
  t.match((await at(90))[0], /^warning CN=db is valid until/);
  t.match((await at(101))[0], /^error CN=db has expired/);
  t.match((await at(-10))[0], /^error CN=db is not valid before/);
  const nameless = authority.issue({ cn: 'db' });
  t.match(
    (await findings(/^--tls-cert/, tls('nameless', nameless.cert, nameless.key)))[2],
    /^warning .*no subject alternative name/,
  );
  await t.rejects(check(options({ listen: [{ host: '0.0.0.0', port: 1 }] })), {
    message: /requires TLS/,
  });
});

t.test('a private key that others can read was not noticed', async (t) => {
  const { cert, key } = authority.issue({
    cn: 'door',
    san: ['door.example.test'],
    usage: 'server',
  });
  const tlsCert = file('mode.crt', cert);
  const tlsKey = file('mode.key', key);
  t.same(await findings(/^--tls-key/, { tlsCert, tlsKey }), []);
  chmodSync(tlsKey, 0o644);
  t.same(await findings(/^--tls-key/, { tlsCert, tlsKey }), [
    `warning others can read the private key ${tlsKey}: chmod 600 ${tlsKey}`,
  ]);
  // PostgreSQL allows a group for a key of root, as Debian's ssl-cert has it.
  chmodSync(tlsKey, 0o640);
  const warnings = process.getuid?.() === 0 ? 0 : 1;
  t.equal((await findings(/^--tls-key/, { tlsCert, tlsKey })).length, warnings);
});

t.test('what the system has set: open files, and tcp_retries2', async (t) => {
  const system = (soft: string, retries: string) => {
    const limits = `Max open files            ${soft}   524288   files\n`;
    const proc = t.testdir({
      self: { limits },
      sys: { net: { ipv4: { tcp_retries2: `${retries}\n` } } },
    });
    return checkSystem({ maxSessions: 100, maxLogins: 10 }, proc);
  };
  t.match(await system('1609', '15'), [
    { level: 'warning', subject: '--max-sessions', text: /is 1609: 1610 are needed/ },
    {
      level: 'warning',
      subject: 'net.ipv4.tcp_retries2',
      text: /^15: .*sysctl -w net\.ipv4\.tcp_retries2=8$/,
    },
  ]);
  t.match(await system('1610', '8'), [{ level: 'ok' }, { level: 'ok', text: '8' }]);
  t.same(await checkSystem({ maxSessions: 1, maxLogins: 1 }, t.testdir({})), []);
});

t.test('a certificate for each login, from `pgsso ca init` to a user', async (t) => {
  const [certificate, key] = [join(files, 'issue-ca.crt'), join(files, 'issue-ca.key')];
  await createAuthority({ certificate, key, name: 'test', days: 30, now: Date.now() });
  await t.rejects(createAuthority({ certificate, key, name: 'test', days: 30, now: Date.now() }), {
    message: /EEXIST/,
  });
  const { readFile, stat } = await import('node:fs/promises');
  t.equal((await stat(key)).mode & 0o777, 0o600);
  const ca = await readFile(certificate, 'utf8');
  const closed = await start(t, {
    ssl: { ...ssl, ca },
    hba: ['hostssl all +app_users 127.0.0.1/32 cert'],
  });
  const how = {
    backendAuth: 'issue-cert',
    issueCaCert: certificate,
    issueCaKey: key,
    user: 'alice',
  } as const;
  t.match(await findings(/^--(?:backend|issue)/, { ...how, backend: url(closed.port) }), [
    /^ok CN=test is valid until/,
    /^ok reachable, TLSv1.3, sslmode=verify-full/,
    /^ok CN=db is valid until/,
    /^ok alice is logged in with issue-cert; version 18.*, a primary/,
    /^ok its clock and ours differ by \d+ ms/,
    /^ok it refuses alice without a credential/,
    /^ok it refuses postgres with the credential of the front-end/,
  ]);
  const skewed = await findings(
    /^--backend/,
    { ...how, backend: url(closed.port) },
    () => Date.now() + 60_000,
  );
  t.match(skewed[3], /^warning its clock and ours differ by (?:59|60)\d\d\d ms/);
  t.match(await findings(/^--backend/, { ...how, backend: url(closed.port), user: 'bob' }), [
    /^ok/,
    /^ok/,
    /^error bob cannot be logged in/,
    /^ok/,
    /^ok/,
  ]);

  // ADMIN OPTION on app_users makes the directory's user a member: the cert line is for it, too.
  const passfile = file('keeper.pgpass', '*:*:*:keeper:secret\n');
  const directory =
    `postgres://keeper@127.0.0.1:${closed.port}/keeper` +
    `?sslrootcert=${files}/ca.pem&passfile=${passfile}`;
  const withDirectory = { ...how, backend: url(closed.port), directory };
  t.match(await findings(/^--directory/, withDirectory), [
    /^error 127.*valid client certificate .*: ADMIN OPTION on app_users makes keeper a member/,
  ]);
  t.match(
    (await findings(/^--backend/, withDirectory)).at(-1),
    /^error .*also logs in keeper: put lines for keeper above that of \+app_users/,
  );
  await closed.reload({
    hba: [
      'hostssl keeper keeper 127.0.0.1/32 scram-sha-256',
      'host all keeper all reject',
      'hostssl all +app_users 127.0.0.1/32 cert',
    ],
  });
  t.match(await findings(/^--directory/, withDirectory), [/^ok keeper is logged in/]);
  t.match(
    (await findings(/^--backend/, withDirectory)).at(-1),
    'ok it refuses keeper with the credential of the front-end',
  );

  await closed.reload({ hba: ['hostssl all all 127.0.0.1/32 cert'] });
  t.match(
    (await findings(/^--backend/, { ...how, backend: url(closed.port) })).at(-1),
    /^warning .*also logs in postgres.*\+app_users/,
  );
  t.match(await findings(/^--backend/, { ...how, backend: url(closed.port), user: 'postgres' }), [
    /^ok/,
    /^ok/,
    /^ok postgres is logged in/,
    /^error postgres is a superuser/,
    /^ok/,
    /^ok/,
    /^warning/,
  ]);
  await closed.reload({ hba: ['host all all 127.0.0.1/32 trust'] });
  t.match(
    (await findings(/^--backend/, { ...how, backend: url(closed.port) })).at(-2),
    /^error it lets alice in from this address without any credential/,
  );
});

t.test('what serve takes for itself: the data directory, the socket, the addresses', async (t) => {
  const dataDir = join(files, 'data');
  const look = (more: Partial<CheckOptions>) => findings(/^--data-dir/, { dataDir, ...more });
  t.match(await look({}), ['ok there is none yet: it is made at the start']);
  mkdirSync(dataDir, { mode: 0o755 });
  t.match(await look({}), [/^error others have access to it: chmod 700/]);
  chmodSync(dataDir, 0o700);
  t.match(await look({}), ['ok it belongs to this user, and others have no access']);
  const listen = [{ host: '127.0.0.1', port: 26257 }];
  t.match(await look({ dataDir: join(files, 'x'.repeat(100)), listen }), [
    /^error the path is longer than \d+ bytes/,
  ]);

  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  t.teardown(() => other.close());
  const { port } = other.address() as AddressInfo;
  const all = await check(
    options({
      listen: [
        { host: '127.0.0.1', port: 0 },
        { host: '127.0.0.1', port },
      ],
      // An address for documentation (RFC 5737), which no host has.
      metricsListen: { host: '192.0.2.1', port: 9187 },
    }),
  );
  t.match(
    all.filter(({ subject }) => /listen/.test(subject)),
    [
      { level: 'ok', subject: '--listen 127.0.0.1:0' },
      { level: 'warning', subject: `--listen 127.0.0.1:${port}`, text: /something listens there/ },
      { level: 'error', subject: '--metrics-listen 192.0.2.1:9187', text: /EADDRNOTAVAIL/ },
    ],
  );
});

t.test('the databases that pgsso itself logs in to', async (t) => {
  const server = await start(t, { hba: ['host all all 127.0.0.1/32 scram-sha-256'] });
  const passfile = file('own.pgpass', '*:*:*:keeper:secret\n*:*:*:scribe:secret\n');
  const own = (user: string, more = `&passfile=${passfile}`, database = 'postgres') =>
    `postgres://${user}@127.0.0.1:${server.port}/${database}?sslrootcert=${files}/ca.pem${more}`;
  const provisioning = { settings: [...good, 'security.provisioning.jwt.enabled=true'] };
  const directory = (more: Partial<CheckOptions>) => findings(/^--directory/, more);
  t.same(await directory({}), []);
  t.same(await directory(provisioning), [
    'error there is none, and security.provisioning.jwt.enabled needs it',
  ]);
  t.match(await directory({ ...provisioning, directory: own('keeper') }), [
    'ok keeper is logged in, and may do what the settings need',
  ]);
  t.match(await directory({ ...provisioning, directory: own('scribe') }), [
    /^error .*scribe may not create users/,
  ]);
  t.match(await directory({ directory: own('keeper', '') }), [/^error .*password/]);
  t.match(await directory({ directory: own('keeper', '&passfile=/nowhere') }), [
    /^error .*\/nowhere.*ENOENT/,
  ]);
  await t.rejects(check(options({ directory: 'postgres://127.0.0.1/x' })), { name: 'UsageError' });

  const settings = (settingsUrl: string) => findings(/^--settings/, { settingsUrl });
  t.match(await settings(own('scribe')), [/^error the tables are not there, and scribe may not/]);
  await server.query('GRANT CREATE ON DATABASE keeper TO scribe');
  const ok = 'ok scribe is logged in, and may read and change the settings';
  t.same(await settings(own('scribe', undefined, 'keeper')), [ok]);
  await server.query('CREATE SCHEMA pgsso; GRANT USAGE ON SCHEMA pgsso TO scribe');
  for (const table of ['settings', 'settings_history', 'api_keys', 'settings_revision'])
    await server.query(
      `CREATE TABLE pgsso.${table} (x int); GRANT ALL ON pgsso.${table} TO scribe`,
    );
  t.same(await settings(own('scribe')), [ok]);
  await server.query('REVOKE INSERT ON pgsso.api_keys FROM scribe');
  t.same(await settings(own('scribe')), ['error scribe lacks INSERT on pgsso.api_keys']);
});

t.test('passwords, trust, and TLS that is not as the URL says', async (t) => {
  const server = await start(t, { hba: ['host all alice 127.0.0.1/32 scram-sha-256'] });
  const how = {
    backendAuth: 'password',
    backendPassfile: file('passfile', '*:*:*:alice:secret\n'),
    user: 'alice',
  } as const;
  t.match(await findings(/^--backend/, { ...how, backend: url(server.port) }), [
    /^ok reachable/,
    /^ok CN=db/,
    /^ok alice is logged in with password/,
    /^ok its clock/,
    /^ok it refuses alice without/,
    /^ok it refuses postgres/,
  ]);
  t.match(
    await findings(/^--backend/, {
      ...how,
      backend: `postgres://127.0.0.1:${server.port}/?sslmode=verify-full`,
    }),
    [/^error .*certificate/],
  );
  t.match(
    await findings(/^--backend/, {
      ...how,
      backend: `postgres://127.0.0.1:${server.port}/?sslmode=disable`,
    }),
    [/^warning reachable, in plain text/, /^ok alice/, /^ok/, /^ok/, /^ok/],
  );
  const socket = `postgres:///?host=${server.socketDir}&port=${server.port}`;
  t.match(
    await findings(/^--backend/, { backend: socket, user: 'postgres', superusers: 'allow' }),
    [/^ok reachable/, /^ok postgres/, /^ok/, /^warning .*also logs in postgres/],
  );
  t.match(await findings(/^--backend/, { backend: 'postgres://127.0.0.1:1?sslmode=require' }), [
    /^warning .*trust over TCP/,
    /^error connect ECONNREFUSED/,
  ]);
});

t.test('every route is checked, or the one of a database', async (t) => {
  const routes = ['a=postgres://127.0.0.1:1', 'b=postgres://127.0.0.1:2,127.0.0.1:3'];
  const subjects = async (more: Partial<CheckOptions>) => {
    const all = await check(options({ routes, backend: 'postgres://127.0.0.1:4', ...more }));
    return all
      .filter(({ level, subject }) => level === 'error' && subject !== 'settings')
      .map(({ subject }) => subject);
  };
  t.same(await subjects({}), [
    '--route a 127.0.0.1:1',
    '--route b 127.0.0.1:2',
    '--route b 127.0.0.1:3',
    '--backend 127.0.0.1:4',
  ]);
  t.same(await subjects({ database: 'b' }), ['--route b 127.0.0.1:2', '--route b 127.0.0.1:3']);
  t.same(await subjects({ database: 'c' }), ['--backend 127.0.0.1:4']);
});
