/** The settings' database does not answer, and its users send notifications. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import t, { type Test } from 'tap';
import { errorText, PgError } from '../../src/lib/errors.ts';
import type { SettingChange } from '../../src/settings/changes.ts';
import { PostgresStore } from '../../src/settings/store/postgres-store.ts';
import { type FaultyProxy, startProxy } from '../support/faulty-proxy.ts';
import { startPostgres } from '../support/postgres.ts';

const database = await startPostgres({
  conf: { log_statement: 'all' },
  initSql: ['CREATE ROLE pgsso LOGIN', 'CREATE ROLE stranger LOGIN'],
});
t.teardown(() => database.close());

// Most of these tests wait for a deadline.
t.jobs = 4;

const CLAIM = 'server.jwt_authentication.claim';
const setClaim = (text: string): SettingChange => ({ kind: 'set', name: CLAIM, text });

interface Node {
  readonly store: PostgresStore;
  readonly proxy: FaultyProxy;
}

/** A store whose connections go through a proxy. */
async function openNode(
  t: Test,
  name: string,
  vet: () => Promise<void> = async () => undefined,
): Promise<Node> {
  await database.query(`CREATE DATABASE ${name} OWNER pgsso`);
  const proxy = await startProxy(database.port);
  const directory = await mkdtemp(join(tmpdir(), 'pgsso-stalled-'));
  const store = await PostgresStore.open({
    connection: () => ({
      host: '127.0.0.1',
      port: proxy.port,
      user: 'pgsso',
      database: name,
      ssl: false,
    }),
    directory,
    processDefaults: new Map(),
    vet,
    onProblem: () => undefined,
  });
  t.teardown(async () => {
    await store.close();
    proxy.close();
    await rm(directory, { recursive: true, force: true });
  });
  return { store, proxy };
}

interface Refusal {
  readonly error: PgError;
  readonly ms: number;
}

/** How a promise fails, and how long that takes. */
async function refusalOf(promise: Promise<unknown>): Promise<Refusal> {
  const begin = performance.now();
  try {
    await promise;
  } catch (error) {
    if (error instanceof PgError) return { error, ms: performance.now() - begin };
    throw new Error(`no PgError: ${errorText(error)}`);
  }
  throw new Error('it did not fail');
}

t.test(
  'each of several SETs at a frozen database fails within 8 s of when it came',
  { buffered: true },
  async (t) => {
    const { store, proxy } = await openNode(t, 'sets');
    await store.change([setClaim('email')], 'ops');
    proxy.freeze();
    const first = Array.from({ length: 4 }, () => refusalOf(store.change([setClaim('a')], 'ops')));
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const later = [
      refusalOf(store.change([setClaim('b')], 'ops')),
      refusalOf(store.history()),
      refusalOf(store.changeApiKeys({ kind: 'drop', name: 'none' }, 'ops')),
    ];
    const refusals = await Promise.all([...first, ...later]);
    for (const [index, { error, ms }] of refusals.entries()) {
      t.equal(error.code, 'settings_store_failed');
      t.match(
        error.message,
        index === 5 ? /^the history .* cannot be read/ : /^nothing was changed/,
      );
      t.ok(ms < 8000, `${Math.round(ms)} ms`);
    }
    t.equal(store.current.values[CLAIM], 'email');
    proxy.thaw();
    await store.change([setClaim('sub')], 'ops');
    t.match(await store.history(), [{ text: 'sub' }, { text: 'email' }], 'none of them was made');
  },
);

t.test(
  'a database that freezes at COMMIT leaves the outcome unknown, and says so',
  { buffered: true },
  async (t) => {
    let freeze = (): void => undefined;
    const { store, proxy } = await openNode(t, 'commit', async () => freeze());
    const client = new pg.Client({
      host: database.socketDir,
      port: database.port,
      user: 'postgres',
      database: 'commit',
      ssl: false,
    });
    await client.connect();
    // COMMIT is slow, since a deferred trigger sleeps.
    await client.query(`
    CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql
      AS 'BEGIN PERFORM pg_sleep(3); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON pgsso.settings_history
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.slow()`);
    freeze = () => void setTimeout(() => proxy.freeze(), 1000);
    const { error, ms } = await refusalOf(store.change([setClaim('email')], 'ops'));
    t.equal(error.code, 'settings_change_unknown');
    t.ok(ms < 8000, `${Math.round(ms)} ms`);
    proxy.thaw();
    await client.end();
  },
);

t.test(
  'a check that hangs does not hold up the changes behind it',
  { buffered: true },
  async (t) => {
    let hangs = true;
    const { store } = await openNode(t, 'vetted', () =>
      hangs ? new Promise(() => undefined) : Promise.resolve(),
    );
    const hung = await refusalOf(store.change([setClaim('email')], 'ops'));
    t.equal(hung.error.code, 'settings_store_failed');
    t.ok(hung.ms < 8000, `${Math.round(hung.ms)} ms`);
    hangs = false;
    await store.change([setClaim('sub')], 'ops');
    t.match(await store.history(), [{ text: 'sub' }]);
  },
);

t.test('a store closes within 5 s while its database is frozen', { buffered: true }, async (t) => {
  const table: [string, (node: Node) => Promise<Refusal>[]][] = [
    ['idle', () => []],
    [
      'during changes',
      ({ store }) => [
        refusalOf(store.change([setClaim('a')], 'ops')),
        refusalOf(store.change([setClaim('b')], 'ops')),
      ],
    ],
  ];
  for (const [name, begin] of table) {
    const node = await openNode(t, `closing_${name.replace(' ', '_')}`);
    node.proxy.freeze();
    const changes = begin(node);
    const start = performance.now();
    await node.store.close();
    const ms = performance.now() - start;
    t.ok(ms < 5000, `${name}: ${Math.round(ms)} ms`);
    for (const { error } of await Promise.all(changes)) t.equal(error.code, 'settings_closed');
    const late = await refusalOf(node.store.change([setClaim('c')], 'ops'));
    t.equal(late.error.code, 'settings_closed');
    node.proxy.thaw();
    while (node.proxy.size > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  }
});

t.test('a flood of notifications costs a few looks a second', async (t) => {
  const { store } = await openNode(t, 'flooded');
  const flooder = new pg.Client({
    host: database.socketDir,
    port: database.port,
    user: 'stranger',
    database: 'flooded',
    ssl: false,
  });
  await flooder.connect();
  const looks = (): number => database.log().split('pgsso.settings) AS settings').length;
  const before = looks();
  const begin = performance.now();
  let sent = 0;
  const changing: Promise<unknown>[] = [];
  while (performance.now() - begin < 2000) {
    await flooder.query(`NOTIFY pgsso_settings, '${sent}'`);
    if (++sent % 500 === 0) changing.push(store.change([setClaim(`c${sent}`)], 'ops'));
  }
  const seconds = (performance.now() - begin) / 1000;
  const count = looks() - before;
  t.ok(sent > 10 * count, `${Math.round(sent / seconds)} notifications a second`);
  t.ok(count - changing.length <= 11 * seconds, `${(count / seconds).toFixed(1)} looks a second`);
  await Promise.all(changing);
  await flooder.end();
});
