/**
 * CREATE API KEY, SHOW API KEYS and DROP API KEY: in memory, then from the console to a session at
 * a real PostgreSQL.
 */
import pg from 'pg';
import t from 'tap';
import { digestOf, isSecret } from '../../src/settings/api-keys.ts';
import { AUDIENCE, JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { makeConsole } from './console-world.ts';

const world = await makeConsole();
const CREATED = '2026-11-23T12:00:00.000Z';

t.test(
  'the secret of a key is shown once and is not stored, listed, logged or in the history',
  async (t) => {
    const { rows: [row] = [], warnings } = await world.run(
      'CREATE API KEY Nightly FOR USER "Batch" EXPIRES \'2027-01-31\'',
    );
    const [name, user, expires, secret] = row ?? [];
    t.strictSame([name, user, expires], ['nightly', 'batch', '2027-01-31T00:00:00.000Z']);
    t.ok(isSecret(String(secret)));
    t.strictSame(warnings, [
      'server.jwt_authentication.api_key_claim is empty: no token can bring an API key',
    ]);
    t.strictSame((await world.run('SHOW API KEYS', world.session('viewer'))).rows, [
      ['nightly', 'batch', CREATED, 'alice', expires, undefined],
    ]);
    const { apiKeys } = world.services.settings.current.values;
    t.equal(apiKeys.get('nightly')?.digest, digestOf(String(secret)));
    const stored = JSON.stringify([
      ...apiKeys,
      await world.services.settings.history(),
      world.logged,
    ]);
    t.notMatch(stored, String(secret));
    const logged = world.logged.find((line) => line.includes('api_key_change')) ?? '';
    t.match(JSON.parse(logged), { user: 'alice', apiKey: 'nightly', kind: 'create' });
    await world.run('DROP API KEY nightly');
    t.strictSame((await world.run('SHOW API KEYS')).rows, []);
    t.strictSame((await world.run('SHOW CLUSTER SETTING HISTORY')).rows, [
      [CREATED, 'alice', 'API KEY nightly', 'drop', undefined],
      [
        CREATED,
        'alice',
        'API KEY nightly',
        'create',
        'FOR USER batch EXPIRES 2027-01-31T00:00:00.000Z',
      ],
    ]);
  },
);

t.test('invalid names, users and times are refused, and nothing is changed', async (t) => {
  await world.run('CREATE API KEY taken FOR USER batch');
  const before = world.services.settings.current;
  const refused: [string, string][] = [
    ['CREATE API KEY taken FOR USER batch', 'duplicate_api_key'],
    ['DROP API KEY gone', 'unknown_api_key'],
    ["CREATE API KEY '' FOR USER batch", 'invalid_api_key'],
    [`CREATE API KEY '${'x'.repeat(64)}' FOR USER batch`, 'invalid_api_key'],
    ["CREATE API KEY k FOR USER ''", 'invalid_api_key'],
    [`CREATE API KEY k FOR USER '${'ü'.repeat(32)}'`, 'invalid_api_key'],
    ["CREATE API KEY k FOR USER batch EXPIRES '2026-11-23T12:00:00Z'", 'invalid_api_key'],
    ["CREATE API KEY k FOR USER batch EXPIRES '2027-02-30'", 'invalid_api_key'],
    ["CREATE API KEY k FOR USER batch EXPIRES '2027-02-03T12:00:00'", 'invalid_api_key'],
    ["CREATE API KEY k FOR USER batch EXPIRES '2027-02-03T25:00:00Z'", 'invalid_api_key'],
    ["CREATE API KEY k FOR USER batch EXPIRES 'tomorrow'", 'invalid_api_key'],
    ["CREATE API KEY k FOR USER batch EXPIRES ''", 'invalid_api_key'],
    ['CREATE API KEY k', 'syntax_error'],
    ['CREATE API KEY k FOR USER batch EXPIRES', 'syntax_error'],
  ];
  for (const [text, code] of refused) await t.rejects(world.run(text), { code }, text);
  t.equal(world.services.settings.current, before);
  const session = world.session();
  await world.run('BEGIN', session);
  await t.rejects(world.run('CREATE API KEY k FOR USER batch', session), {
    code: 'inside_transaction',
  });
  t.equal(session.status, 'E');
  await world.run('ROLLBACK', session);
  await world.run('CREATE API KEY $1 FOR USER $2 EXPIRES $3', undefined, [
    'k',
    'u',
    '2027-02-28 12:00:00+01:00',
  ]);
  t.match(world.services.settings.current.values.apiKeys.get('k'), {
    user: 'u',
    expiresAt: Date.UTC(2027, 1, 28, 11),
  });
});

t.test('a key opens sessions as its user from CREATE API KEY until DROP API KEY', async (t) => {
  const database = await startPostgres({
    initSql: [
      'CREATE ROLE batch LOGIN',
      'CREATE ROLE alice LOGIN',
      'CREATE ROLE boss SUPERUSER LOGIN',
    ],
  });
  t.teardown(() => database.close());
  const frontEnd = await startFrontEnd(
    `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`,
    {
      settings: {
        'server.jwt_authentication.audience': AUDIENCE,
        'server.jwt_authentication.api_key_claim': 'key',
      },
    },
  );
  t.teardown(() => frontEnd.close());
  const { port, dataDir } = frontEnd;
  const admin = new pg.Client({ host: dataDir, port, database: 'pgsso', user: 'operator' });
  await admin.connect();
  t.teardown(() => admin.end());
  const make = async (name: string, user: string): Promise<string> =>
    (await admin.query(`CREATE API KEY ${name} FOR USER ${user}`)).rows[0].api_key;
  const [secret, superuser] = [await make('nightly', 'batch'), await make('top', 'boss')];
  const logIn = async (user: string, password: string): Promise<string> => {
    const client = new pg.Client({
      host: '127.0.0.1',
      port,
      user,
      password,
      database: 'postgres',
      options: JWT_OPTION,
    });
    client.on('error', () => undefined);
    await client.connect();
    const { rows } = await client.query('SELECT current_user AS name');
    await client.end();
    return rows[0].name;
  };
  const password = token('alice', { key: secret });
  t.equal(await logIn('batch', password), 'batch');
  t.match(await frontEnd.event({ event: 'login', outcome: 'accepted', user: 'batch' }), {
    apiKey: 'nightly',
    principal: 'nightly',
  });
  await t.rejects(logIn('alice', password), { code: '28000' }, 'the key decides, not the subject');
  await t.rejects(logIn('boss', token('alice', { key: superuser })), {
    code: '28000',
    message: /invalid identity/,
  });
  t.match((await admin.query('SHOW API KEYS')).rows, [
    { name: 'nightly', user: 'batch', last_used_at: /^\d{4}-/, expires_at: null },
    { name: 'top', user: 'boss' },
  ]);
  await admin.query('DROP API KEY nightly');
  await t.rejects(logIn('batch', password), { code: '28000' });
  t.equal(await logIn('alice', password), 'alice', 'it falls back to the subject');
  t.notMatch(JSON.stringify(frontEnd.events), secret);
});
