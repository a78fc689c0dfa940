/**
 * Connections to the console: over its socket and over a listener, with drivers, with psql and byte
 * by byte.
 */
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import pg from 'pg';
import postgres from 'postgres';
import t from 'tap';
import { settingNames } from '../../src/settings/definitions.ts';
import { formatMessage, int32, parseErrorFields } from '../../src/wire/messages.ts';
import { JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { runCommand } from '../support/node-command.ts';
import { startPostgres } from '../support/postgres.ts';
import { query, RawClient, startup } from '../support/raw-client.ts';

const database = await startPostgres({
  initSql: [
    ...['alice', 'vera', 'bob'].map((name) => `CREATE ROLE ${name} LOGIN`),
    "CREATE ROLE native LOGIN PASSWORD 'secret'",
    'CREATE ROLE boss LOGIN SUPERUSER',
  ],
  hba: ['local all native scram-sha-256', 'local all all trust'],
});
t.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
const frontEnd = await startFrontEnd(backend, {
  admins: ['Alice', 'native', 'boss'],
  viewers: ['vera'],
});
t.teardown(() => frontEnd.close());
const { port, dataDir } = frontEnd;

const socket: pg.ClientConfig = { host: dataDir, port, database: 'pgsso', user: 'operator' };

function listener(user: string, extra: pg.ClientConfig = {}): pg.ClientConfig {
  return {
    host: '127.0.0.1',
    port,
    database: 'pgsso',
    user,
    password: token(user),
    options: JWT_OPTION,
    ...extra,
  };
}

async function withClient<T>(
  config: pg.ClientConfig,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client(config);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function refusal(work: Promise<unknown>): Promise<pg.DatabaseError> {
  try {
    await work;
  } catch (error) {
    return error as pg.DatabaseError;
  }
  throw new Error('it was accepted');
}

async function rawConsole(): Promise<RawClient> {
  const raw = connect(join(dataDir, `.s.PGSQL.${port}`));
  await once(raw, 'connect');
  const client = new RawClient(raw);
  client.send(startup({ user: 'raw', database: 'pgsso' }));
  t.match((await client.until(0x5a)).types, /^RS+KZ$/);
  return client;
}

t.test('only the owner can open the socket, and it needs no login', async (t) => {
  const { mode } = await stat(join(dataDir, `.s.PGSQL.${port}`));
  t.equal(mode & 0o777, 0o600);
  const rows = await withClient(socket, async (client) => {
    await client.query('SET CLUSTER SETTING pgsso.clock_tolerance = $1', ['7s']);
    return (await client.query('SHOW CLUSTER SETTING pgsso.clock_tolerance')).rows;
  });
  t.match(rows, [{ 'pgsso.clock_tolerance': { seconds: 7 } }]);
  t.match(await refusal(withClient({ ...socket, database: 'other' }, async () => undefined)), {
    code: '3D000',
  });
});

t.test('a change applies to the next login', async (t) => {
  await withClient(socket, async (admin) => {
    await admin.query("SET CLUSTER SETTING server.jwt_authentication.audience = 'others'");
    t.match(
      await refusal(withClient(listener('bob', { database: 'postgres' }), async () => undefined)),
      { code: '28000' },
    );
    await admin.query('RESET CLUSTER SETTING server.jwt_authentication.audience');
  });
  await withClient(listener('bob', { database: 'postgres' }), async (client) => {
    t.strictSame((await client.query('SELECT current_user')).rows, [{ current_user: 'bob' }]);
  });
});

t.test(
  'over a listener admins change, viewers read, others and superusers with a token are refused',
  async (t) => {
    await withClient(listener('alice'), async (client) => {
      const { rows } = await client.query('SELECT current_user');
      t.strictSame(rows, [{ current_user: 'alice' }]);
      t.match(await client.query('SET CLUSTER SETTING pgsso.clock_tolerance = 5s'), {
        command: 'SET',
      });
    });
    await withClient(listener('vera'), async (client) => {
      t.match(await refusal(client.query('RESET CLUSTER SETTING pgsso.clock_tolerance')), {
        code: '42501',
      });
      t.ok((await client.query('SHOW CLUSTER SETTINGS')).rows.length > 10);
    });
    const denied = await refusal(withClient(listener('bob'), async () => undefined));
    t.match(denied, { code: '42501', severity: 'FATAL', message: /VIEWCLUSTERSETTING/ });
    t.match(await refusal(withClient(listener('boss'), async () => undefined)), {
      code: '28000',
      message: /invalid identity/,
    });
    t.match(
      await refusal(
        withClient(listener('alice', { password: token('bob') }), async () => undefined),
      ),
      { code: '28000' },
    );
  },
);

t.test('a native login opens the console when the backend accepts it', async (t) => {
  const native = { host: '127.0.0.1', port, database: 'pgsso', user: 'native', password: 'secret' };
  await withClient(native, async (client) => {
    await client.query('SET CLUSTER SETTING pgsso.clock_tolerance = 6s');
    const { rows } = await client.query('SHOW CLUSTER SETTING HISTORY pgsso.clock_tolerance');
    t.match(rows[0], { changed_by: 'native', value: '6s' });
  });
  t.match(await refusal(withClient({ ...native, password: 'wrong' }, async () => undefined)), {
    code: '28P01',
  });
  t.match(
    await refusal(withClient({ ...native, user: 'alice' }, async () => undefined)),
    { code: '28000' },
    'a backend that trusts everybody proves nothing',
  );
});

t.test('the connection to the backend is closed before the console answers', async (t) => {
  await withClient(listener('alice'), async () => {
    for (;;) {
      const { rows } = await database.query(
        "SELECT count(*)::int AS n FROM pg_stat_activity WHERE usename = 'alice'",
      );
      // The connection is closed already, but the process of the server ends later.
      if (rows[0].n === 0) break;
    }
    t.pass();
  });
});

t.test('sessions are listed and can be canceled', async (t) => {
  const client = new pg.Client(
    listener('bob', { database: 'postgres', application_name: 'reports' }),
  );
  await client.connect();
  const gone = once(client, 'error');
  await withClient(socket, async (admin) => {
    const { rows } = await admin.query('SHOW SESSIONS');
    const row = rows.find(({ user }) => user === 'bob');
    t.match(row, {
      database: 'postgres',
      principal: 'bob',
      issuer: 'https://id.example.test',
      client_address: /^127\.0\.0\.1:\d+$/,
      tls: null,
      application_name: 'reports',
      started: /^\d{4}-/,
      token_expiry: /^\d{4}-/,
      bytes_to_backend: '0',
      backend: /\.s\.PGSQL/,
    });
    await admin.query('CANCEL SESSION $1', [row.id]);
    await gone;
    t.match(await frontEnd.event({ event: 'session_end', endedBy: 'operator' }), { user: 'bob' });
    t.match(await refusal(admin.query(`CANCEL SESSION ${row.id}`)), { code: '42704' });
    t.match(await refusal(admin.query("CANCEL SESSION 'x'")), { code: '22023' });
    const stats = Object.fromEntries(
      (await admin.query('SHOW STATS')).rows.map(({ name, value }) => [name, value]),
    );
    t.ok(Number(stats['logins_accepted.token']) > 0);
    t.ok(Number(stats['logins_refused.not_an_operator']) > 0);
    t.ok(Number(stats['sessions.ended']) > 0);
  });
});

t.test('the driver postgres works with its defaults', async (t) => {
  const sql = postgres({
    host: '127.0.0.1',
    port,
    database: 'pgsso',
    user: 'alice',
    password: token('alice'),
    connection: { options: JWT_OPTION },
  });
  const value = '4s';
  await sql`SET CLUSTER SETTING pgsso.clock_tolerance = ${value}`;
  const rows = await sql`SHOW CLUSTER SETTING pgsso.clock_tolerance`;
  t.strictSame(
    rows.map((row) => ({ ...row })),
    [{ 'pgsso.clock_tolerance': '00:00:04' }],
  );
  // The driver sends a boolean as the text t or f, and says that it is one.
  const enabled = 'server.jwt_authentication.jwks_auto_fetch.enabled';
  for (const sent of [true, false]) {
    await sql`SET CLUSTER SETTING server.jwt_authentication.jwks_auto_fetch.enabled = ${sent}`;
    const [row] = await sql`SHOW CLUSTER SETTING server.jwt_authentication.jwks_auto_fetch.enabled`;
    t.strictSame({ ...row }, { [enabled]: sent });
  }
  await sql.begin(async (transaction) => {
    await transaction`SET CLUSTER SETTING pgsso.clock_tolerance = '3s'`;
  });
  await t.rejects(sql`SELECT * FROM pg_class`, { code: '0A000', position: '1' });
  t.strictSame((await sql`SHOW CLUSTER SETTING pgsso.clock_tolerance`)[0], {
    'pgsso.clock_tolerance': '00:00:03',
  });
  await sql.end();
});

t.test(
  'the driver pg works with its defaults: prepared statements, errors and transactions',
  async (t) => {
    await withClient(socket, async (client) => {
      const prepared = { name: 'set', text: 'SET CLUSTER SETTING pgsso.clock_tolerance = $1' };
      for (const value of ['1s', '2s']) await client.query({ ...prepared, values: [value] });
      t.match(await refusal(client.query({ ...prepared, values: ['soon'] })), { code: '22023' });
      t.match(await refusal(client.query({ ...prepared, values: [null] })), { code: '22004' });
      t.match(await refusal(client.query('SHOW $1', ['x'])), { code: '42601' });
      await client.query('BEGIN');
      await client.query({ ...prepared, values: ['9s'] });
      t.match(await refusal(client.query('SELECT 1 FROM x')), { code: '0A000' });
      t.match(await refusal(client.query('SHOW VERSION')), { code: '25P02' });
      t.match(await client.query('COMMIT'), { command: 'ROLLBACK' });
      t.match((await client.query('SHOW CLUSTER SETTING pgsso.clock_tolerance')).rows, [
        { 'pgsso.clock_tolerance': { seconds: 2 } },
      ]);
      const notices: string[] = [];
      client.on('notice', ({ severity, message }) => notices.push(`${severity}: ${message}`));
      await client.query(`SET CLUSTER SETTING server.identity_map.configuration = 'i /x y'`);
      t.match(notices, [/^WARNING: .*not anchored/]);
      await client.query('SHOW CLUSTER SETTING server.jwt_authentication.issuers');
      t.equal(
        notices.at(-1),
        'NOTICE: "server.jwt_authentication.issuers" is now an alias for ' +
          '"server.jwt_authentication.issuers.configuration", the preferred setting name',
      );
      await client.query('RESET CLUSTER SETTING server.identity_map.configuration');
      t.match(await client.query('SELECT 1 AS one'), {
        rows: [{ one: 1 }],
        command: 'SELECT',
        rowCount: 1,
      });
    });
  },
);

t.test(
  'psql: several statements, \\d and the socket without a password',
  { skip: (await runCommand(['psql', ['--version']])).status !== 0 },
  async (t) => {
    const env = { PGHOST: dataDir, PGPORT: String(port), PGDATABASE: 'pgsso', PGUSER: 'op' };
    const { stdout, stderr, status } = await runCommand(
      ['psql', ['-XAt']],
      env,
      'SHOW VERSION; SHOW server_version;\n\\d\n\\d x\n\\dn\n\\du\n' +
        'SHOW CLUSTER SETTING pgsso.clock_tolerance;\n',
    );
    t.match(stdout, /^pgsso \d.*\n13\.0 .*\npublic\|\n00:00:02\n$/);
    t.match(
      stderr,
      new RegExp(
        '^Did not find any relations\\.\nDid not find any relation named "x"\\.\n' +
          'ERROR: {2}this SELECT is not a statement of the console\n.*\n.*\nHINT: .*HELP',
      ),
    );
    t.equal(status, 0);
    const conninfo = `host=127.0.0.1 port=${port} dbname=pgsso user=alice options=${JWT_OPTION}`;
    const overListener = await runCommand(
      ['psql', ['-XAt', '-c', 'SHOW CLUSTER SETTING pgsso.clock_tolerance', conninfo]],
      { PGPASSWORD: token('alice') },
    );
    t.match(overListener, { stdout: '00:00:02\n', status: 0 });
  },
);

t.test(
  'the extended protocol: partial portals, skipping to Sync after an error, empty statements',
  async (t) => {
    const client = await rawConsole();
    const text = (value: string): Buffer => Buffer.from(`${value}\0`);
    const int16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
    const parse = (name: string, sql: string, ...types: number[]): Buffer =>
      formatMessage('P', text(name), text(sql), int16(types.length), ...types.map(int32));
    const bind = (portal: string, name: string, format: number, ...values: Buffer[]): Buffer =>
      formatMessage(
        'B',
        text(portal),
        text(name),
        int16(1),
        int16(format),
        int16(values.length),
        ...values.flatMap((value) => [int32(value.length), value]),
        int16(1),
        int16(1),
      );
    const describe = (what: string): Buffer => formatMessage('D', text(what));
    const execute = (portal: string, rows: number): Buffer =>
      formatMessage('E', text(portal), int32(rows));
    const sync = formatMessage('S');
    const answer = async (...messages: Buffer[]): Promise<string> => {
      client.send(...messages, sync);
      return (await client.until(0x5a)).types;
    };

    t.equal(
      await answer(
        parse('a', 'SHOW CLUSTER SETTINGS'),
        describe('Sa'),
        bind('p', 'a', 0),
        describe('Pp'),
        execute('p', 3),
        execute('p', 0),
      ),
      `1tT2TDDDs${'D'.repeat(settingNames.length - 3)}CZ`,
    );
    t.equal(await answer(execute('p', 0)), 'EZ', 'Sync ends the portal');
    t.equal(
      await answer(parse('', 'nonsense'), bind('', '', 0), execute('', 0)),
      'EZ',
      'one error, then messages are skipped',
    );
    t.equal(await answer(parse('', ''), bind('', '', 0), describe('P'), execute('', 0)), '12nIZ');
    t.equal(await answer(parse('a', 'HELP')), 'EZ', 'the name exists already');
    t.equal(await answer(formatMessage('C', text('Sa')), parse('a', 'HELP')), '31Z');
    t.equal(await answer(parse('', 'SHOW VERSION; HELP')), 'EZ', 'one statement only');
    t.equal(
      await answer(
        parse('', 'SET CLUSTER SETTING pgsso.clock_tolerance = $1', 23),
        bind('', '', 1, int32(8)),
        execute('', 0),
      ),
      '12CZ',
      'an integer in binary',
    );
    t.equal(
      await answer(
        parse('', 'SET CLUSTER SETTING pgsso.clock_tolerance = $1'),
        bind('', '', 1, Buffer.from('6s')),
        execute('', 0),
      ),
      '12CZ',
      'text in binary',
    );
    t.equal(
      await answer(
        parse('', 'SET CLUSTER SETTING pgsso.clock_tolerance = $1', 701),
        bind('', '', 1, Buffer.alloc(8)),
      ),
      '1EZ',
    );
    t.equal(
      await answer(parse('', 'SET CLUSTER SETTING pgsso.clock_tolerance = $1'), bind('', '', 0)),
      '1EZ',
      'a parameter is missing',
    );
    t.equal(await answer(parse('', 'SELECT 7'), bind('', '', 0), execute('', 0)), '12DCZ');
    t.equal(
      await answer(
        parse('', 'SHOW CLUSTER SETTING server.jwt_authentication.issuers'),
        bind('', '', 0),
        execute('', 0),
      ),
      '12DNCZ',
      'the notice about an alias',
    );
    t.equal(await answer(bind('', 'nobody', 0)), 'EZ');
    const long = `HELP --${'x'.repeat(1024 * 1024 - 100)}`;
    t.equal(
      await answer(...[1, 2, 3, 4, 5].map((number) => parse(`long${number}`, long))),
      '111EZ',
      'the size of prepared statements is bounded',
    );
    client.send(query('DISCARD ALL'));
    t.equal((await client.until(0x5a)).types, 'CZ');
    client.send(
      query('SHOW VERSION; SELECT 1; ; nonsense'),
      query('SHOW VERSION; CANCEL SESSION 999; HELP'),
    );
    t.equal(
      (await client.until(0x5a)).types,
      'EZ',
      'no statement of a text with a syntax error runs',
    );
    t.equal(
      (await client.until(0x5a)).types,
      'TDCEZ',
      'the first statement that fails is the last',
    );
    client.send(Buffer.from([0x64, 0, 0, 0, 4]), query('-- nothing'));
    t.equal((await client.until(0x5a)).types, 'IZ', 'COPY data is ignored');
    client.close();
  },
);

t.test('a protocol error closes the connection, and nothing else does', async (t) => {
  const broken: [string, Buffer][] = [
    ['an unknown type', Buffer.from([0x7e, 0, 0, 0, 4])],
    ['a length above the limit', Buffer.from([0x51, 0x7f, 0xff, 0xff, 0xff])],
    ['a query without a terminator', formatMessage('Q', Buffer.from('SHOW VERSION'))],
    ['a truncated Bind', formatMessage('B', Buffer.from([0, 0, 0, 1]))],
    ['a Parse with a wrong count', formatMessage('P', Buffer.from([0, 0, 0xff, 0xff]))],
    ['a Describe of nothing', formatMessage('D', Buffer.from([0x41, 0]))],
  ];
  for (const [name, bytes] of broken) {
    const client = await rawConsole();
    client.send(bytes);
    t.match(await client.error(), { severity: 'FATAL', sqlstate: '08P01' }, name);
    await client.ended();
  }
  const client = await rawConsole();
  client.send(formatMessage('Q', Buffer.from([0x53, 0xff, 0])));
  const { last } = await client.until(0x45);
  t.equal(
    parseErrorFields(last?.body ?? Buffer.alloc(0)).code,
    '22021',
    'text that is not UTF-8 fails only the query',
  );
  t.equal((await client.until(0x5a)).types, 'Z');
  client.close();
});

t.test('a shutdown ends a console connection over a listener with an error message', async (t) => {
  const own = await startFrontEnd(backend, { admins: ['alice'] });
  t.teardown(() => own.close());
  const client = new pg.Client({ ...listener('alice'), port: own.port });
  await client.connect();
  const error = once(client, 'error');
  client.on('error', () => undefined);
  await Promise.all([own.drain(), error]);
  t.match((await error)[0], { code: '57P01' });
});
