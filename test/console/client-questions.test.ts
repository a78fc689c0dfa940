/** SELECT at the console: what clients ask when they connect, and columns and rows of a SHOW. */
import t from 'tap';
import { parseQueryText } from '../../src/console/statements/grammar.ts';
import { PgError } from '../../src/lib/errors.ts';
import { clientQuestions } from './client-questions.ts';
import { makeConsole } from './console-world.ts';

const world = await makeConsole();

t.test('the questions that clients ask by themselves have true answers', async (t) => {
  const viewer = world.session('viewer');
  for (const { client, text, parameters = [], columns, rows } of clientQuestions) {
    const [statement, ...more] = parseQueryText(text);
    if (!statement) throw new Error(`${client}: no statement`);
    const names = statement.columns.map(({ name }) => name);
    const outcome = await viewer.execute(statement, parameters);
    t.strictSame(
      [
        more,
        statement.tag,
        statement.parameterCount,
        names.slice(0, columns.length),
        (outcome.rows ?? []).map((row) => row.slice(0, columns.length)),
      ],
      [[], 'SELECT', parameters.length, columns, rows],
      `${client}: ${text}`,
    );
    for (const row of outcome.rows ?? []) t.equal(row.length, names.length, `${client}: ${text}`);
  }
});

t.test('a question that only looks like one of them stays 0A000', async (t) => {
  for (const text of [
    'SELECT * FROM pg_class',
    "select oid, typbasetype from pg_type where typname = 'lo' or true",
    "select oid from pg_type where typname = 'lo'",
    'SELECT nspname FROM pg_catalog.pg_namespace ORDER BY 2',
    'SELECT count(*) FROM pg_catalog.pg_database d ORDER BY 1',
    'SELECT current_schema(),pg_sleep(9)',
    'SELECT pg_catalog.set_config($1, $2, false)',
    `select ${'n.nspname, '.repeat(2000)} where 1<>1 limit 1`,
  ]) {
    let error: unknown;
    try {
      parseQueryText(text);
    } catch (thrown) {
      error = thrown;
    }
    t.ok(error instanceof PgError && error.sqlstate === '0A000', text.slice(0, 90));
  }
});

t.test(
  'SELECT … FROM [SHOW …] takes columns and rows, with the types and rights of the SHOW',
  async (t) => {
    const select = async (text: string, ...parameters: string[]) =>
      (await world.run(`SELECT ${text}`, undefined, parameters)).rows;
    await world.run("SET CLUSTER SETTING server.jwt_authentication.claim = 'e_mail'");
    await world.run('SET CLUSTER SETTING pgsso.clock_tolerance = 7s');
    const settings = '[SHOW CLUSTER SETTINGS]';
    const row = [['server.jwt_authentication.claim', 'e_mail']];
    t.strictSame(
      await select(
        `variable, value FROM ${settings} WHERE variable = 'server.jwt_authentication.claim'`,
      ),
      row,
    );
    t.strictSame(
      await select(
        `variable, value from ${settings} where variable like $1 and origin = $2`,
        '%claim',
        'override',
      ),
      row,
    );
    const patterns: [string, boolean][] = [
      ['e_mail', true],
      ['e\\_mail', true],
      ['email', false],
      ['%', true],
      ['%%%', true],
      ['_%_', true],
      ['______', true],
      ['_____', false],
      ['%e%m%l', true],
      ['%ma%ma%', false],
      ['E_MAIL', false],
      ['e\\%mail', false],
      ['e_mail\\', false],
      ['', false],
    ];
    for (const [pattern, matches] of patterns)
      t.equal(
        (
          await select(
            `value FROM ${settings} WHERE variable LIKE '%t_auth%.claim' AND value LIKE $1`,
            pattern,
          )
        )?.length,
        matches ? 1 : 0,
        pattern,
      );
    t.strictSame(
      await select(
        '* FROM [SHOW CLUSTER SETTING pgsso.clock_tolerance] WHERE pgsso.clock_tolerance = $1',
        '7 sec',
      ),
      [[7000]],
    );
    const all = 'variable FROM [SHOW ALL CLUSTER SETTINGS] WHERE public =';
    t.strictSame(await select(`${all} false`), []);
    t.strictSame(
      await select(`${all} $1`, 't'),
      await select('variable FROM [SHOW CLUSTER SETTINGS]'),
    );
    t.strictSame(
      await select("name FROM [SHOW STATS] WHERE value = '1' AND name LIKE 'sessions%'"),
      [],
    );
    await t.rejects(select(`* FROM ${settings} WHERE value LIKE $1`, '%'.repeat(101)), {
      code: 'value_too_long',
    });
    const [statement] = parseQueryText(`SELECT value AS v FROM ${settings}`);
    t.match(statement, {
      tag: 'SELECT',
      requires: { right: 'view' },
      columns: [{ name: 'v', type: 'text' }],
    });
    t.match(
      await world.run('SELECT * FROM [SHOW CLUSTER SETTING server.jwt_authentication.issuers]'),
      {
        notices: [/is now an alias for/],
      },
    );
  },
);

t.test('LIKE on a value of a megabyte takes no long time', async (t) => {
  const value = 'ab'.repeat(500_000);
  await world.run('SET CLUSTER SETTING server.jwt_authentication.audience = $1', undefined, [
    value,
  ]);
  const started = process.cpuUsage();
  await world.run('SELECT variable FROM [SHOW CLUSTER SETTINGS] WHERE value LIKE $1', undefined, [
    `%${'ab'.repeat(45)}%_${'ab'.repeat(3)}c`,
  ]);
  const { user } = process.cpuUsage(started);
  // Exponential time would never end. Five seconds leave room for a busy machine.
  t.ok(user < 5_000_000, `${Math.round(user / 1000)} ms`);
});
