/** Which backend a database goes to, each with its own method to log in. */

import { writeFileSync } from 'node:fs';
import fc from 'fast-check';
import pg from 'pg';
import t from 'tap';
import { type RouteOptions, Routes } from '../../src/backend/routes.ts';
import { makeAuthority } from '../support/certificates.ts';
import { JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';

const base: RouteOptions = {
  sourceOf: () => 'flag',
  routes: [],
  backendAuth: 'trust',
  backendAhead: 0,
};

/** The port of the backend of each database; 0 for none. */
async function ports(options: Partial<RouteOptions>, ...databases: string[]): Promise<number[]> {
  const routes = await Routes.open({ ...base, ...options }, () => undefined);
  return databases.map((database) => {
    try {
      return routes.find(database).target.url.hosts[0]?.port ?? 0;
    } catch (error) {
      t.match(error, { sqlstate: '3D000', message: `database "${database}" does not exist` });
      return 0;
    }
  });
}

t.test('the first matching pattern, then --backend, then nothing', async (t) => {
  const routes = [
    'sales=postgres://127.0.0.1:1',
    'sales_*=postgres://127.0.0.1:2',
    '*_eu_*=postgres://127.0.0.1:3',
  ];
  const databases = ['sales', 'sales_eu_1', 'hr_eu_1', 'hr', 'Sales', 'sales_', 'xsales_'];
  t.same(
    await ports({ routes, backend: 'postgres://127.0.0.1:9' }, ...databases),
    [1, 2, 3, 9, 9, 2, 9],
  );
  t.same(await ports({ routes }, ...databases), [1, 2, 3, 0, 0, 2, 0]);
  t.same(await ports({ routes: [...routes, '*=postgres://127.0.0.1:4'] }, 'hr', ''), [4, 4]);
});

t.test('a pattern means what the regular expression would mean', async (t) => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', '*'), minLength: 1, maxLength: 8 });
  const name = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 10 });
  await fc.assert(
    fc.asyncProperty(word, name, async (pattern, database) => {
      const [port] = await ports(
        { routes: [`${pattern}=postgres://127.0.0.1:1`], backend: 'postgres://127.0.0.1:2' },
        database,
      );
      return (port === 1) === new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(database);
    }),
    { numRuns: 300 },
  );
  t.pass('300 patterns');
});

t.test('an error names the option', async (t) => {
  const cases: [string, Partial<RouteOptions>, RegExp][] = [
    ['nothing', {}, /--backend <URL> \(or PGSSO_BACKEND\) is missing/],
    ['no pattern', { routes: ['=postgres://a'] }, /--route: give DATABASE_PATTERN=URL/],
    ['no URL', { routes: ['sales'] }, /--route: give DATABASE_PATTERN=URL/],
    ['a bad URL', { routes: ['x=mysql://a'] }, /^--route x: .*postgres:\/\//],
    [
      'a password in a flag',
      { routes: ['x=postgres://:hush@a'] },
      /^--route x: a password in a flag/,
    ],
    [
      'a needless file',
      { backend: 'postgres://a', issueCaKey: 'k' },
      /^--issue-ca-key is of no use with --backend-auth trust/,
    ],
    [
      'no certificate',
      { routes: ['x=postgres://a?backend_auth=cert'] },
      /^--route x: .*sslcert and sslkey/,
    ],
    [
      'no authority',
      { backend: 'postgres://a', backendAuth: 'issue-cert' },
      /^--backend: .*--issue-ca-cert.*pgsso ca init/,
    ],
    [
      'no password file',
      { backend: 'postgres://a?backend_auth=password' },
      /^--backend: .*needs --backend-passfile/,
    ],
    [
      'a file for another method',
      { backend: 'postgres://a?passfile=f' },
      /^--backend: passfile in the URL is of no use with .*trust/,
    ],
    [
      'opened ahead for a user who is not known',
      { backend: 'postgres://a', backendAuth: 'issue-cert', backendAhead: 2 },
      /^--backend-ahead is of no use/,
    ],
  ];
  for (const [name, options, message] of cases) {
    await t.rejects(
      Routes.open({ ...base, ...options }, () => undefined),
      { name: 'UsageError', message },
      name,
    );
  }
  const missing = Routes.open(
    { ...base, routes: ['x=postgres://a?sslrootcert=/nowhere.pem'] },
    () => undefined,
  );
  await t.rejects(missing, {
    name: 'Error',
    message: /^--route x: sslrootcert \/nowhere.pem: ENOENT/,
  });
});

t.test(
  'one front-end for three clusters: by password, one certificate, a certificate for each user',
  async (t) => {
    const servers = makeAuthority('servers');
    const clients = makeAuthority('clients');
    const ssl = { ...servers.issue({ cn: 'db', san: ['127.0.0.1'] }), ca: clients.cert };
    const start = (hba: string[], ident?: string[]) =>
      startPostgres({
        ssl,
        hba,
        ident,
        initSql: [
          "CREATE ROLE alice LOGIN PASSWORD 'secret'",
          'CREATE DATABASE "b_1"',
          'CREATE DATABASE c',
        ],
      });
    const [byPassword, byCertificate, byIssued] = await Promise.all([
      start(['hostssl all all 127.0.0.1/32 scram-sha-256']),
      start(['hostssl all alice 127.0.0.1/32 cert map=front'], ['front front alice']),
      start(['hostssl all alice 127.0.0.1/32 cert']),
    ]);
    const directory = t.testdir({ 'ca.pem': servers.cert });
    const file = (name: string, text: string): string => {
      writeFileSync(`${directory}/${name}`, text, { mode: 0o600 });
      return `${directory}/${name}`;
    };
    const front = clients.issue({ cn: 'front', usage: 'client' });
    const root = `sslrootcert=${directory}/ca.pem`;
    const url = (port: number, more = ''): string => `postgres://127.0.0.1:${port}/?${root}${more}`;
    const certificate =
      `&backend_auth=cert&sslcert=${file('front.crt', front.cert)}` +
      `&sslkey=${file('front.key', front.key)}`;
    const issued =
      `&backend_auth=issue-cert&issue_ca_cert=${file('ca.crt', clients.cert)}` +
      `&issue_ca_key=${file('ca.key', clients.key)}`;
    const frontEnd = await startFrontEnd(url(byPassword.port), {
      backendAuth: 'password',
      backendPassfile: file('passfile', '*:*:*:alice:secret\n'),
      backendAhead: 1,
      routes: [`b_*=${url(byCertificate.port, certificate)}`, `c=${url(byIssued.port, issued)}`],
    });
    for (const [database, { port }] of [
      ['postgres', byPassword],
      ['b_1', byCertificate],
      ['c', byIssued],
    ] as const) {
      const config = { host: '127.0.0.1', port: frontEnd.port, user: 'alice', database };
      const client = new pg.Client({ ...config, password: token('alice'), options: JWT_OPTION });
      await client.connect();
      const { rows } = await client.query(
        'SELECT session_user AS user, inet_server_port() AS port',
      );
      t.same(rows, [{ user: 'alice', port }], database);
      await client.end();
    }

    // A client without a token does not log in by the certificates of the front-end.
    for (const database of ['b_1', 'c']) {
      const config = { host: '127.0.0.1', port: frontEnd.port, user: 'alice', database };
      const client = new pg.Client({ ...config, password: 'secret' });
      await t.rejects(
        client.connect(),
        { code: '28000', message: /did not admit alice/ },
        database,
      );
    }
    await frontEnd.close();
    await Promise.all([byPassword.close(), byCertificate.close(), byIssued.close()]);
  },
);

t.test('an unknown database does not flood the log', async (t) => {
  const options = { ...base, routes: ['sales=postgres://127.0.0.1:1'] };
  const routes = await Routes.open(options, () => undefined);
  t.throws(() => routes.find(`\x1b[2J${'x'.repeat(9000)}`), {
    code: 'unknown_database',
    message: `database "\\x1b[2J${'x'.repeat(249)}" does not exist`,
  });
});
