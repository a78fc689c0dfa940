/**
 * The statements of the console, in memory: syntax, error messages, privileges and results.
 */
import fc from 'fast-check';
import t from 'tap';
import { parseQueryText, rules } from '../../src/console/statements/grammar.ts';
import { PgError } from '../../src/lib/errors.ts';
import { Audit } from '../../src/observe/audit.ts';
import { makeAuthority } from '../support/certificates.ts';
import { makeConsole } from './console-world.ts';

const world = await makeConsole();

async function refusal(work: () => unknown): Promise<PgError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof PgError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

t.test('a value can be written in every way that SQL has', async (t) => {
  const table: [string, string][] = [
    ["'email'", 'email'],
    ["'it''s'", "it's"],
    ["''", ''],
    ["E'a\\tb\\'c\\\\\\x41\\101\\u00e9\\U0001f600\\q'", "a\tb'c\\AA\u00e9\u{1f600}q"],
    ["e'it''s'", "it's"],
    ["'back\\slash'", 'back\\slash'],
    ['$$a $1 b$$', 'a $1 b'],
    ['$x$ it is $$ $x$', ' it is $$ '],
    ['$größe$ä$größe$', 'ä'],
    ["'; DROP --'", '; DROP --'],
    ['Email', 'email'],
    ['"Email"', 'Email'],
    ['"a""b"', 'a"b'],
    ['realm_access.roles', 'realm_access.roles'],
    ['42', '42'],
    ['-1.5', '-1.5'],
    ['15s', '15s'],
    ["'x' /* a /* nested */ comment */ -- and another", 'x'],
  ];
  for (const [written, value] of table) {
    await world.run(`SET CLUSTER SETTING server.jwt_authentication.claim = ${written}`);
    t.equal(
      world.services.settings.current.values['server.jwt_authentication.claim'],
      value,
      written,
    );
  }
});

t.test('keywords and names can have any case, names can be quoted, TO can replace =', async (t) => {
  const texts = [
    "SET CLUSTER SETTING pgsso.clock_tolerance = '9s'",
    "set cluster setting PGSSO.Clock_Tolerance to '9s'",
    'Set Cluster Setting "pgsso.clock_tolerance" = 9s',
    'SET CLUSTER SETTING "pgsso"."clock_tolerance" TO \'00:00:09\'',
    'SET/**/CLUSTER\n--\nSETTING\tpgsso . clock_tolerance="9 seconds";;',
  ];
  for (const text of texts) {
    await world.run('RESET CLUSTER SETTING pgsso.clock_tolerance');
    await world.run(text);
    t.strictSame(
      (await world.run('SHOW CLUSTER SETTING pgsso.clock_tolerance')).rows,
      [[9000]],
      text,
    );
  }
  await world.run('SET CLUSTER SETTING pgsso.clock_tolerance = DEFAULT');
  t.equal(world.services.settings.current.states['pgsso.clock_tolerance'].origin, 'default');
  for (const [text, value] of Object.entries({
    on: true,
    OFF: false,
    Yes: true,
    no: false,
    1: true,
    0: false,
    T: true,
    f: false,
    true: true,
  })) {
    await world.run(`SET CLUSTER SETTING server.jwt_authentication.enabled = ${text}`);
    t.equal(
      world.services.settings.current.values['server.jwt_authentication.enabled'],
      value,
      text,
    );
  }
});

t.test('tags and columns are those of the contract', async (t) => {
  const table: [string, string, string[]][] = [
    ['SET CLUSTER SETTING pgsso.clock_tolerance = 5s', 'SET CLUSTER SETTING', []],
    ['RESET CLUSTER SETTING pgsso.clock_tolerance', 'RESET CLUSTER SETTING', []],
    [
      'SHOW CLUSTER SETTING server.jwt_authentication.issuers',
      'SHOW',
      ['server.jwt_authentication.issuers.configuration'],
    ],
    [
      'SHOW CLUSTER SETTINGS',
      'SHOW',
      ['variable', 'value', 'setting_type', 'description', 'default_value', 'origin'],
    ],
    [
      'SHOW PUBLIC CLUSTER SETTINGS',
      'SHOW',
      ['variable', 'value', 'setting_type', 'description', 'default_value', 'origin'],
    ],
    [
      'SHOW ALL CLUSTER SETTINGS',
      'SHOW',
      ['variable', 'value', 'setting_type', 'description', 'default_value', 'origin', 'public'],
    ],
    [
      'SHOW CLUSTER SETTING ALL',
      'SHOW',
      ['variable', 'value', 'setting_type', 'description', 'default_value', 'origin', 'public'],
    ],
    [
      'SHOW CLUSTER SETTING HISTORY',
      'SHOW',
      ['changed_at', 'changed_by', 'variable', 'operation', 'value'],
    ],
    ['SHOW USERS', 'SHOW', ['user', 'origin', 'last_login', 'roles']],
    [
      "EXPLAIN LOGIN 'x' DATABASE d FOR USER u",
      'EXPLAIN',
      ['check', 'result', 'found', 'expected', 'setting'],
    ],
    ['BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE', 'BEGIN', []],
    ['START TRANSACTION', 'START TRANSACTION', []],
    ['END', 'COMMIT', []],
    ['ABORT', 'ROLLBACK', []],
    ["SET TIME ZONE 'UTC'", 'SET', []],
    ['SET search_path TO a, b', 'SET', []],
    ['SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY', 'SET', []],
    ['SHOW transaction_isolation', 'SHOW', ['transaction_isolation']],
    ['SHOW TRANSACTION ISOLATION LEVEL', 'SHOW', ['transaction_isolation']],
    ['SELECT 1', 'SELECT', ['?column?']],
    ['SELECT version() AS v', 'SELECT', ['v']],
    ['select pg_catalog.version()', 'SELECT', ['version']],
    ['SELECT current_schema(),session_user', 'SELECT', ['current_schema', 'session_user']],
    ['SELECT variable, value AS v FROM [SHOW ALL CLUSTER SETTINGS]', 'SELECT', ['variable', 'v']],
    ['SELECT * FROM [ SHOW VERSION ]', 'SELECT', ['version']],
    ['DISCARD ALL', 'DISCARD ALL', []],
    ['UNLISTEN *', 'UNLISTEN', []],
  ];
  for (const [text, tag, columns] of table) {
    const [statement, ...more] = parseQueryText(text);
    t.strictSame(
      [statement?.tag, statement?.columns.map(({ name }) => name), more],
      [tag, columns, []],
      text,
    );
  }
  for (const text of ['', ' ', ';', '-- ping', '/**/;;'])
    t.strictSame(parseQueryText(text), [], `"${text}" is no statement`);
});

t.test('a text that is not understood is refused with SQLSTATE, position and hint', async (t) => {
  const table: [string, string, number, RegExp, RegExp?][] = [
    [
      "SET CLUSTER SETTING server.jwt_authentication.enabeld = 'x'",
      '42704',
      21,
      /unknown cluster setting 'server.*enabeld'/,
      /enabled/,
    ],
    [
      'SHOW CLUSTER SETTING nonsense',
      '42704',
      22,
      /^unknown cluster setting 'nonsense'$/,
      /The nearest setting is/,
    ],
    ['SELECT * FROM pg_class', '0A000', 1, /SELECT/, /HELP/],
    ['SELECT 1 FROM x', '0A000', 1, /SELECT/, /HELP/],
    ['SELECT count(*) FROM [SHOW CLUSTER SETTINGS]', '0A000', 1, /SELECT/, /HELP/],
    ['SELECT * FROM [SHOW SESSIONS] ORDER BY id', '0A000', 1, /SELECT/, /HELP/],
    ['SELECT * FROM [SHOW SESSIONS] WHERE id > 1', '0A000', 1, /SELECT/, /HELP/],
    ['SELECT * FROM [SHOW USERS] s, [SHOW USERS] t', '0A000', 1, /SELECT/, /HELP/],
    ['SELECT user, x FROM [SHOW USERS]', '42703', 14, /^column "x" does not exist$/],
    ["SELECT * FROM [SHOW USERS] WHERE x = 'y'", '42703', 34, /^column "x" does not exist$/],
    ['SELECT * FROM [RESET CLUSTER SETTING pgsso.clock_tolerance]', '42601', 16, /near "RESET"/],
    [
      'SELECT * FROM [SHOW CLUSTER SETTING nonsense]',
      '42704',
      37,
      /unknown cluster setting/,
      /nearest/,
    ],
    ['SELECT * FROM [SHOW USERS', '42601', 26, /at end of input/],
    ['SELECT * FROM [SHOW USERS [SHOW USERS]]', '42601', 27, /near "\["/],
    ['SELECT a[1] FROM x', '0A000', 1, /SELECT/, /HELP/],
    ['SELECT pg_catalog.pg_sleep(9)', '0A000', 1, /SELECT/, /HELP/],
    ['SELECT 1, pg_sleep(9)', '0A000', 1, /SELECT/, /HELP/],
    ['SHOW VERSION;\n  insert into x values (1)', '0A000', 17, /INSERT/, /HELP/],
    ['EXPLAIN SELECT 1', '0A000', 1, /EXPLAIN/, /HELP/],
    ['frobnicate', '42601', 1, /syntax error at or near "frobnicate"/],
    ['SET CLUSTER SETTING', '42601', 20, /at end of input/],
    ['SET CLUSTER SETTING pgsso.clock_tolerance', '42601', 42, /at end of input/],
    ['SET CLUSTER SETTING pgsso.clock_tolerance 5s', '42601', 43, /near "5s"/],
    ['SET CLUSTER SETTING pgsso.clock_tolerance = 5 6', '42601', 47, /near "6"/],
    ['SET CLUSTER SETTING pgsso.clock_tolerance = ;', '42601', 45, /near ";"/],
    ["SHOW CLUSTER SETTING 'x'", '42601', 22, /near "'x'"/],
    ["SHOW 'ä', \u{1f600}", '42601', 11, /near "\u{1f600}"/u],
    ["SHOW VERSION; SHOW 'unfinished", '42601', 20, /unterminated quoted string/],
    ['SHOW VERSION /* never', '42601', 14, /unterminated \/\* comment/],
    ['SHOW "x', '42601', 6, /unterminated quoted identifier/],
    ['SHOW ""', '42601', 6, /zero-length/],
    ['SHOW $a$x$b$', '42601', 6, /unterminated dollar/],
    ["SET x = E'\\xff'", '42601', 11, /no character/],
    ["SET x = E'\\u12'", '42601', 11, /escape/],
    ['CANCEL SESSION', '42601', 15, /end of input/],
    ["EXPLAIN LOGIN 'a' FOR USER", '42601', 27, /end of input/],
  ];
  for (const [text, sqlstate, position, message, hint = /^undefined$/] of table) {
    const error = await refusal(() => parseQueryText(text));
    t.match(
      [error.sqlstate, error.position, error.message, String(error.hint)],
      [sqlstate, position, message, hint],
      text,
    );
  }
  t.match(await refusal(() => world.run("SET CLUSTER SETTING pgsso.clock_tolerance = 'soon'")), {
    sqlstate: '22023',
  });
  t.match(await refusal(() => world.run('SET pgsso.clock_tolerance = 5s')), {
    sqlstate: '42704',
    hint: /CLUSTER SETTING/,
  });
  t.match(await refusal(() => world.run('SHOW no_such')), { sqlstate: '42704' });
  t.match(await refusal(() => world.run('SET server_version = 1')), { sqlstate: '55P02' });
  t.match(await refusal(() => world.run("SET client_encoding = 'LATIN1'")), { sqlstate: '22023' });
});

t.test('no statement of a text runs if one of them has a syntax error', async (t) => {
  const { version } = world.services.settings.current;
  await refusal(() =>
    world.run("SET CLUSTER SETTING pgsso.clock_tolerance = '8s'; SELECT * FROM x"),
  );
  t.equal(world.services.settings.current.version, version);
});

t.test(
  'no text crashes the parser, and every syntax error has a position inside the text',
  async (t) => {
    const pieces = fc.constantFrom(
      ...rules.flatMap(({ begins }) => [begins, ...begins.split(' ')]),
      ...[
        "'",
        '"',
        '$$',
        '$1',
        '/*',
        '*/',
        '--',
        '\n',
        ';',
        '.',
        '=',
        "E'\\",
        'x',
        "'s'",
        '15s',
        '\0',
        'ä',
        '\u{1f600}',
        '(',
        '\ud800',
      ],
      'pgsso.clock_tolerance',
    );
    const texts = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 200 }),
      fc.array(pieces, { maxLength: 30 }).map((list) => list.join(' ')),
    );
    fc.assert(
      fc.property(texts, (text) => {
        try {
          parseQueryText(text);
        } catch (error) {
          if (!(error instanceof PgError)) throw error;
          const { position = 0 } = error;
          return position >= 1 && position <= [...text].length + 1;
        }
        return true;
      }),
      { numRuns: 3000 },
    );
    t.pass();
  },
);

t.test('any text of a megabyte is parsed in linear time', async (t) => {
  const size = 1024 * 1024;
  const texts = [
    `'${"''".repeat(size / 2)}`,
    `E'${'\\'.repeat(size)}`,
    '/*'.repeat(size / 2),
    '$'.repeat(size),
    '$a$'.repeat(size / 3 - 1),
    '"'.repeat(size + 1),
    'a.'.repeat(size / 2),
    `SET x = ${'a,'.repeat(10_000)}`,
  ];
  for (const text of texts) {
    const started = process.cpuUsage();
    await refusal(() => parseQueryText(text));
    const { user } = process.cpuUsage(started);
    // Quadratic time would be minutes. Five seconds leave room for a busy machine.
    t.ok(user < 5_000_000, `${text.slice(0, 6)}…: ${Math.round(user / 1000)} ms`);
  }
});

t.test('a viewer may run the statements that read, and none that change', async (t) => {
  const viewer = world.session('viewer');
  const denied = [
    'SET CLUSTER SETTING pgsso.clock_tolerance = 5s',
    'SET CLUSTER SETTING pgsso.clock_tolerance = DEFAULT',
    'RESET CLUSTER SETTING pgsso.clock_tolerance',
  ];
  for (const text of denied) {
    const error = await refusal(() => world.run(text, viewer));
    t.match(
      [error.sqlstate, error.message],
      [
        '42501',
        'only users with the MODIFYCLUSTERSETTING privilege are allowed to ' +
          "set cluster setting 'pgsso.clock_tolerance'",
      ],
      text,
    );
  }
  for (const text of ['CANCEL SESSION 1', 'CREATE API KEY k FOR USER u', 'DROP API KEY k']) {
    t.match(await refusal(() => world.run(text, viewer)), { sqlstate: '42501' }, text);
  }
  for (const text of [
    'SHOW CLUSTER SETTINGS',
    'SHOW CLUSTER SETTING HISTORY',
    'SHOW API KEYS',
    'SHOW ISSUERS',
    'SHOW SESSIONS',
    'SHOW STATS',
    'SHOW VERSION',
    'HELP',
    "EXPLAIN LOGIN 'x'",
  ]) {
    t.ok((await world.run(text, viewer)).rows, text);
  }
});

t.test('a sensitive value is shown to admins only and is not stored in the history', async (t) => {
  const { cert } = makeAuthority();
  const name = 'server.jwt_authentication.issuers.custom_ca';
  await world.run(`SET CLUSTER SETTING ${name} = $1`, undefined, [cert]);
  const viewer = world.session('viewer');
  t.strictSame((await world.run(`SHOW CLUSTER SETTING ${name}`)).rows, [[cert]]);
  t.strictSame((await world.run(`SHOW CLUSTER SETTING ${name}`, viewer)).rows, [['<redacted>']]);
  t.notMatch(
    JSON.stringify((await world.run('SHOW ALL CLUSTER SETTINGS', viewer)).rows),
    /BEGIN CERTIFICATE/,
  );
  t.notMatch(
    JSON.stringify((await world.run('SHOW CLUSTER SETTING HISTORY')).rows),
    /BEGIN CERTIFICATE/,
  );
  t.strictSame((await world.run(`SHOW CLUSTER SETTING HISTORY ${name}`)).rows?.[0], [
    '2026-11-23T12:00:00.000Z',
    'alice',
    name,
    'set',
    '<redacted>',
  ]);
});

t.test('COMMIT applies all changes of a transaction or none', async (t) => {
  const session = world.session();
  const tolerance = (): string =>
    world.services.settings.current.states['pgsso.clock_tolerance'].text;
  await world.run('RESET CLUSTER SETTING pgsso.clock_tolerance');
  await world.run(
    'BEGIN; SET CLUSTER SETTING pgsso.clock_tolerance = 11s; ' +
      'SET CLUSTER SETTING pgsso.clock_tolerance = 12s',
    session,
  );
  t.strictSame(
    (await world.run('SHOW CLUSTER SETTING pgsso.clock_tolerance', session)).rows,
    [[12_000]],
    'the session sees them',
  );
  t.equal(tolerance(), '5s', 'and no other session does');
  await world.run('ROLLBACK', session);
  t.equal(tolerance(), '5s');

  await world.run('BEGIN; SET CLUSTER SETTING pgsso.clock_tolerance = 11s', session);
  await refusal(() =>
    world.run("SET CLUSTER SETTING server.jwt_authentication.enabled = 'maybe'", session),
  );
  t.equal(session.status, 'E');
  t.match(await refusal(() => world.run('SHOW VERSION', session)), { sqlstate: '25P02' });
  t.match(await world.run('COMMIT', session), { tag: 'ROLLBACK' });
  t.equal(tolerance(), '5s');
  t.equal(session.status, 'I');

  await world.run(
    'BEGIN; SET CLUSTER SETTING pgsso.clock_tolerance = 11s; ' +
      'RESET CLUSTER SETTING pgsso.clock_tolerance; ' +
      'SET CLUSTER SETTING pgsso.clock_tolerance = 12s; COMMIT',
    session,
  );
  t.equal(tolerance(), '12s');
  t.match((await world.run('COMMIT', session)).warnings, [/no transaction/]);
});

t.test('a doubtful setting is accepted with a WARNING, which SHOW ISSUERS repeats', async (t) => {
  const { warnings } = await world.run(
    `SET CLUSTER SETTING server.jwt_authentication.issuers = '["https://a.test","https://b.test"]'`,
  );
  const ofRules = (all: readonly string[] | undefined) =>
    all?.filter((warning) => /has no rule/.test(warning));
  t.match(ofRules(warnings), [/"https:\/\/a.test" has no rule/, /"https:\/\/b.test" has no rule/]);
  const shown = await world.run('SHOW ISSUERS');
  t.strictSame(ofRules(shown.warnings), ofRules(warnings));
  t.strictSame(
    shown.rows?.map(([issuer]) => issuer),
    ['https://a.test', 'https://b.test'],
  );
  t.strictSame(
    (await world.run('SET CLUSTER SETTING pgsso.clock_tolerance = 5s')).warnings,
    [],
    'a change of another setting does not repeat it',
  );
  await world.run('RESET CLUSTER SETTING server.jwt_authentication.issuers');
});

t.test('SHOW STATS shows the figures of the metrics since the start', async (t) => {
  const { services, run } = await makeConsole();
  const shown = async (): Promise<unknown> =>
    Object.fromEntries((await run('SHOW STATS')).rows ?? []);
  const start = {
    started: '2026-11-23T12:00:00.000Z',
    uptime_seconds: 0,
    'logins_accepted.token': 0,
    'logins_accepted.native': 0,
    'refusals.delayed': 0,
    'device_logins.waiting': 0,
    'login_ms.mean': undefined,
    'login_ms.max': undefined,
    'sessions.running': 0,
    'sessions.ended': 0,
    'bytes.to_backend': 0,
    'sessions.copy': 'handles',
    'bytes.to_client': 0,
    'settings.version': 1,
    'settings.problem': undefined,
  };
  t.strictSame(await shown(), start);

  const { metrics } = services;
  const audit = new Audit(services.log, metrics);
  const login = { session: 1, client: '::1', method: 'token' } as const;
  audit.accepted(login, 10.1);
  audit.accepted({ ...login, method: 'native' }, 20.3);
  audit.accepted(login, 3);
  const refusal = new PgError({ code: 'invalid_audience', message: '' });
  audit.refused(login, refusal, 500);
  audit.refused({ ...login, method: undefined }, refusal, 500);
  audit.refused(login, new Error('bug'), 500);
  audit.abandoned(login, 'left');
  metrics.refusalDelayed();
  const traffic = { toBackend: 3, toClient: 4 };
  metrics.sessionBegins(traffic);
  metrics.sessionBegins({ toBackend: 10, toClient: 20 });
  metrics.sessionEnds(traffic);
  const end = { durationMs: 1, bytesToBackend: 3, bytesToClient: 4, endedBy: 'client' };
  audit.ended(login, { ...end, error: undefined });
  t.strictSame(await shown(), {
    ...start,
    'logins_accepted.token': 2,
    'logins_accepted.native': 1,
    'logins_refused.internal_error': 1,
    'logins_refused.invalid_audience': 2,
    'refusals.delayed': 1,
    'login_ms.mean': 11.1,
    'login_ms.max': 20.3,
    'sessions.ended': 1,
    'bytes.to_backend': 13,
    'sessions.copy': 'handles',
    'bytes.to_client': 24,
  });
});

t.test('SHOW USERS without a directory says what is missing, also to a viewer', async (t) => {
  for (const role of ['admin', 'viewer'] as const) {
    t.match(await refusal(() => world.run('SHOW USERS', world.session(role))), {
      sqlstate: '55000',
      message: 'there is no directory of users and roles',
      hint: /--directory/,
    });
  }
});

t.test('HELP lists every statement for operators', async (t) => {
  const { rows = [] } = await world.run('HELP');
  t.equal(rows.length, rules.filter(({ help }) => help).length);
  for (const { begins, help } of rules) {
    if (help) t.match(help.syntax.replace('[PUBLIC | ALL] ', ''), new RegExp(`^${begins}`));
  }
});

t.test('the log names who changed which setting, and no value', async (t) => {
  await world.run("SET CLUSTER SETTING server.jwt_authentication.claim = 'very-special'");
  const line = world.logged.findLast((text) => text.includes('setting_change')) ?? '';
  t.match(JSON.parse(line), {
    user: 'alice',
    client: '::1',
    setting: 'server.jwt_authentication.claim',
    kind: 'set',
  });
  t.notMatch(world.logged.join(''), /very-special/);
});
