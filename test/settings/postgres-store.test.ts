/**
 * Settings in a real PostgreSQL: two nodes, two operators, a database that is away, and values that
 * were written by hand.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Test } from 'tap';
import t from 'tap';
import { digestOf, newSecret } from '../../src/settings/api-keys.ts';
import type { SettingChange } from '../../src/settings/changes.ts';
import type { SettingsSnapshot } from '../../src/settings/snapshot.ts';
import { readLastSnapshot } from '../../src/settings/store/last-snapshot.ts';
import { PostgresStore } from '../../src/settings/store/postgres-store.ts';
import { startFrontEnd } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';

const database = await startPostgres({
  initSql: [
    'CREATE ROLE pgsso LOGIN',
    'CREATE DATABASE settings OWNER pgsso',
    'CREATE ROLE reader LOGIN',
  ],
});
t.teardown(() => database.close());

const CLAIM = 'server.jwt_authentication.claim';
const TOLERANCE = 'pgsso.clock_tolerance';

const setClaim = (text: string): SettingChange => ({ kind: 'set', name: CLAIM, text });
const claimOf = ({ current }: { current: SettingsSnapshot }): string => current.values[CLAIM];

interface Node {
  readonly store: PostgresStore;
  readonly problems: string[];
  readonly directory: string;
}

async function makeDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'pgsso-node-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function openNode(t: Test, name: string, directory?: string): Promise<Node> {
  const place = directory ?? (await makeDirectory(t));
  const problems: string[] = [];
  const store = await PostgresStore.open({
    connection: () => ({
      host: database.socketDir,
      port: database.port,
      user: 'pgsso',
      database: name,
      ssl: false,
    }),
    directory: place,
    processDefaults: new Map(),
    onProblem: ({ message }) => problems.push(message),
  });
  t.teardown(() => store.close());
  return { store, problems, directory: place };
}

async function makeDatabase(name: string): Promise<string> {
  await database.query(`CREATE DATABASE ${name} OWNER pgsso`);
  return name;
}

async function byHand(name: string, sql: string): Promise<void> {
  const client = new pg.Client({
    host: database.socketDir,
    port: database.port,
    user: 'postgres',
    database: name,
    ssl: false,
  });
  await client.connect();
  await client.query(sql);
  await client.end();
}

/** Waits until the condition holds; the test's time limit ends the wait. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await sleep(10);
}

t.test('a change reaches the other node within a second, and survives a restart', async (t) => {
  const name = await makeDatabase('shared');
  // Both create the tables at the same time.
  const [one, two] = await Promise.all([openNode(t, name), openNode(t, name)]);
  const snapshot = await one.store.change([setClaim('email')], 'alice');
  const durable = performance.now();
  t.equal(one.store.current, snapshot);
  await until(() => claimOf(two.store) === 'email');
  t.ok(performance.now() - durable < 1000);
  t.match(two.store.current.states[CLAIM], { origin: 'override' });
  t.match(await two.store.history(CLAIM), [{ text: 'email', user: 'alice' }]);
  t.equal(claimOf((await openNode(t, name)).store), 'email');
  t.strictSame([...one.problems, ...two.problems], []);
});

t.test(
  'API keys reach the other node and the copy on disk, and a dropped key is gone everywhere',
  async (t) => {
    const name = await makeDatabase('keys');
    const [one, two] = [await openNode(t, name), await openNode(t, name)];
    const expiresAt = Date.UTC(2027, 0, 31);
    const key = { name: 'nightly', user: 'batch', digest: digestOf(newSecret()), expiresAt };
    const { values } = await one.store.changeApiKeys({ kind: 'create', ...key }, 'alice');
    t.match(values.apiKeys.get('nightly'), { ...key, createdBy: 'alice' });
    await until(() => two.store.current.values.apiKeys.size === 1);
    await two.store.change([setClaim('email')], 'bob');
    t.same(two.store.current.values.apiKeys, values.apiKeys, 'a change of settings leaves them');
    t.same((await readLastSnapshot(two.directory))?.apiKeys, values.apiKeys);
    await t.rejects(two.store.changeApiKeys({ kind: 'create', ...key }, 'bob'), {
      code: 'duplicate_api_key',
    });

    await byHand(name, "UPDATE pgsso.api_keys SET expires_at = 'infinity'");
    await until(() => one.store.problem !== undefined);
    t.match(one.store.problem, /in pgsso\.api_keys: API key "nightly": a time that is none/);
    t.equal(
      one.store.current.values.apiKeys.get('nightly')?.expiresAt,
      expiresAt,
      'the last good ones stay',
    );
    await t.rejects(one.store.change([setClaim('sub')], 'alice'), {
      code: 'invalid_stored_setting',
    });
    await one.store.changeApiKeys({ kind: 'drop', name: 'nightly' }, 'alice');
    await until(() => two.store.current.values.apiKeys.size === 0);
    t.match(await two.store.history(), [
      { name: 'API KEY nightly', text: undefined, user: 'alice' },
      { name: CLAIM, text: 'email' },
      { name: 'API KEY nightly', text: 'FOR USER batch EXPIRES 2027-01-31T00:00:00.000Z' },
    ]);
  },
);

t.test('the tables of a version without API keys are completed', async (t) => {
  const name = await makeDatabase('older');
  const { store } = await openNode(t, name);
  await store.change([setClaim('email')], 'alice');
  await store.close();
  await byHand(name, 'DROP TABLE pgsso.api_keys');
  const { store: newer } = await openNode(t, name);
  t.equal(claimOf(newer), 'email');
  await newer.changeApiKeys(
    { kind: 'create', name: 'k', user: 'u', digest: digestOf(newSecret()), expiresAt: undefined },
    'alice',
  );
  t.equal(newer.current.values.apiKeys.size, 1);
});

t.test(
  'two operators at the same time lose no change, and the history has all of them',
  async (t) => {
    const name = await makeDatabase('contended');
    const nodes = await Promise.all([openNode(t, name), openNode(t, name)]);
    await Promise.all(
      nodes.flatMap(({ store }, node) =>
        Array.from({ length: 10 }, (_, step) => [
          store.change([setClaim(`c${node}${step}`)], `operator${node}`),
          store.change(
            [{ kind: 'set', name: TOLERANCE, text: `${node}${step}s` }],
            `operator${node}`,
          ),
        ]).flat(),
      ),
    );
    const [one, two] = nodes.map(({ store }) => store);
    const [newest, ...older] = (await one?.history(CLAIM)) ?? [];
    t.equal(older.length, 19);
    t.equal((await two?.history())?.length, 40);
    await until(() => nodes.every(({ store }) => claimOf(store) === newest?.text));
    await until(() => one?.current.states[TOLERANCE].text === two?.current.states[TOLERANCE].text);
  },
);

t.test('one bad change of several stops all of them', async (t) => {
  const { store } = await openNode(t, await makeDatabase('atomic'));
  await store.change([setClaim('email')], 'alice');
  const bad = store.change(
    [setClaim('sub'), { kind: 'set', name: TOLERANCE, text: '99h' }],
    'alice',
  );
  await t.rejects(bad, { code: 'invalid_setting_value' });
  t.equal(claimOf(store), 'email');
  t.equal((await store.history()).length, 1);
  await store.change([{ kind: 'reset', name: CLAIM }], 'bob');
  t.match(await store.history(CLAIM), [
    { text: undefined, user: 'bob' },
    { text: 'email', user: 'alice' },
  ]);
});

t.test(
  'a good value written by hand is adopted, and a bad one is refused, reported and replaceable',
  async (t) => {
    const name = await makeDatabase('handmade');
    const { store, problems } = await openNode(t, name);
    await store.change([setClaim('email')], 'alice');
    await byHand(name, "UPDATE pgsso.settings SET value = 'name'");
    await until(() => claimOf(store) === 'name');
    await byHand(name, `INSERT INTO pgsso.settings VALUES ('${TOLERANCE}', 'soon', 'hand', now())`);
    await until(() => store.problem !== undefined);
    t.match(
      store.problem,
      /setting pgsso\.clock_tolerance in pgsso\.settings: could not parse "soon"/,
    );
    t.equal(claimOf(store), 'name', 'the last good ones stay');
    const connection =
      "FROM pg_stat_activity WHERE datname = 'handmade' AND application_name = 'pgsso settings'";
    const { rows } = await database.query(`SELECT pg_terminate_backend(pid), pid ${connection}`);
    const looksAgain = `SELECT pid ${connection} AND pid <> ${rows[0].pid}
      AND query LIKE '%string_agg%' AND state = 'idle'`;
    while ((await database.query(looksAgain)).rows.length === 0) await sleep(20);
    t.match(store.problem, /clock_tolerance/, 'also over a new connection');
    await t.rejects(store.change([setClaim('sub')], 'alice'), {
      code: 'invalid_stored_setting',
      message: /clock_tolerance/,
    });
    await store.change([{ kind: 'reset', name: TOLERANCE }], 'alice');
    t.equal(store.problem, undefined);
    t.equal(problems.length, 1, 'it was reported once');
  },
);

t.test(
  'the last settings hold while the database is away, also after a restart, until it is back',
  async (t) => {
    const name = await makeDatabase('outage');
    const { store, directory, problems } = await openNode(t, name);
    await store.change([setClaim('email')], 'alice');
    await database.stop('immediate');
    await t.rejects(store.change([setClaim('sub')], 'alice'), {
      code: 'settings_store_failed',
      message: /^nothing was changed/,
    });
    await t.rejects(store.history(), { code: 'settings_store_failed' });
    t.equal(claimOf(store), 'email');
    await until(() => store.problem !== undefined);

    const restarted = await openNode(t, name, directory);
    t.equal(claimOf(restarted.store), 'email');
    t.match(restarted.store.problem, /those of \d{4}-\d\d-\d\dT.* are used/);
    await t.rejects(
      openNode(t, name),
      { message: /^the settings database: / },
      'a new node has no copy of the settings',
    );

    await database.restart();
    await until(() => store.problem === undefined && restarted.store.problem === undefined);
    await store.change([setClaim('sub')], 'alice');
    await until(() => claimOf(restarted.store) === 'sub');
    // A database that is starting up is another reason than one that is away.
    t.strictSame(problems, [...new Set(problems)], 'each reason is reported once');
  },
);

t.test('a role that may not create the tables gets the error of the database', async (t) => {
  const directory = await makeDirectory(t);
  const open = PostgresStore.open({
    connection: () => ({
      host: database.socketDir,
      port: database.port,
      user: 'reader',
      database: 'settings',
      ssl: false,
    }),
    directory,
    processDefaults: new Map(),
    onProblem: () => undefined,
  });
  await t.rejects(open, { message: /^the settings database: permission denied/ });
});

t.test(
  'two front-ends with --settings on one database: SET on one is in force on the other',
  async (t) => {
    const place = `host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
    const settingsUrl = `postgres://pgsso@/settings?${place}`;
    const backend = `postgres:///?${place}`;
    const one = await startFrontEnd(backend, { settingsUrl });
    t.teardown(() => one.close());
    const two = await startFrontEnd(backend, { settingsUrl });
    t.teardown(() => two.close());
    const [left, right] = [one, two].map(
      ({ dataDir, port }) =>
        new pg.Client({ host: dataDir, port, database: 'pgsso', user: 'operator' }),
    );
    await left?.connect();
    await right?.connect();
    await left?.query(`SET CLUSTER SETTING ${CLAIM} = 'email'`);
    for (;;) {
      const { rows } = (await right?.query(`SHOW CLUSTER SETTING ${CLAIM}`)) ?? { rows: [] };
      if (rows[0]?.[CLAIM] === 'email') break;
      await sleep(10);
    }
    const { rows } = (await right?.query('SHOW CLUSTER SETTING HISTORY')) ?? { rows: [] };
    t.match(rows, [
      { changed_by: 'operator (socket)', variable: CLAIM, operation: 'set', value: 'email' },
    ]);
    await byHand('settings', "UPDATE pgsso.settings SET name = 'nonsense'");
    for (;;) {
      const stats = (await left?.query('SHOW STATS'))?.rows ?? [];
      if (
        stats.some(({ name, value }) => name === 'settings.problem' && /nonsense/.test(value ?? ''))
      )
        break;
      await sleep(10);
    }
    const notices: string[] = [];
    left?.on('notice', ({ message }) => notices.push(String(message)));
    await left?.query('SHOW ISSUERS');
    t.match(notices, [/settings not read: setting nonsense/]);
    await left?.end();
    await right?.end();
  },
);
