/**
 * Settings that need a directory: the directory is asked when they are changed, and nothing is
 * written if it lacks a right.
 */

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Directory } from '../../src/directory/directory.ts';
import { vetWithDirectory } from '../../src/server/directory.ts';
import { FileStore } from '../../src/settings/store/file-store.ts';
import type { Vet } from '../../src/settings/store/store.ts';
import { settingWarnings } from '../../src/settings/warnings.ts';
import { startPostgres } from '../support/postgres.ts';

const PROVISIONING = 'security.provisioning.jwt.enabled';
const SYNC = 'server.jwt_authentication.authorization.enabled';
const set = (name: typeof PROVISIONING | typeof SYNC, text = 'true') => [
  { kind: 'set', name, text } as const,
];

async function openStore(vet?: Vet) {
  const directory = await mkdtemp(join(tmpdir(), 'pgsso-settings-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const store = await FileStore.open({
    directory,
    processDefaults: new Map(),
    now: () => 0,
    onProblem: () => undefined,
    ...(vet && { vet }),
  });
  t.teardown(() => store.close());
  return { store, files: () => readdir(directory) };
}

t.test('without a directory the settings can be switched off, but not on', async (t) => {
  const { store, files } = await openStore();
  for (const name of [PROVISIONING, SYNC] as const) {
    await t.rejects(store.change(set(name), 'ops'), {
      sqlstate: '22023',
      message: new RegExp(`'${name}' needs --directory`),
    });
    t.equal(store.current.values[name], false);
  }
  t.strictSame(await files(), []);
  await store.change(set(PROVISIONING, 'off'), 'ops');
});

t.test('the directory is asked only about settings that change', async (t) => {
  const { store } = await openStore(async (values, changed) => {
    if (values[SYNC] && changed.has(SYNC) && changed.size > 1) throw new Error('asked');
  });
  await store.change(set(SYNC), 'ops');
  await store.change(
    [{ kind: 'set', name: 'server.jwt_authentication.audience', text: 'a' }],
    'ops',
  );
  await t.rejects(store.change([...set(SYNC), ...set(PROVISIONING)], 'ops'), { message: 'asked' });
});

t.test('with a directory, the present rights of its role decide', async (t) => {
  const database = await startPostgres({
    initSql: ['CREATE ROLE keeper LOGIN', 'CREATE ROLE readers'],
  });
  t.teardown(() => database.close());
  const { socketDir: host, port } = database;
  const connection = {
    label: host,
    host,
    port,
    database: 'postgres',
    user: 'keeper',
    password: () => undefined,
    tls: () => undefined,
  };
  const directory = new Directory(connection);
  t.teardown(() => directory.close());
  const { store } = await openStore(vetWithDirectory(directory));

  await t.rejects(store.change(set(PROVISIONING), 'ops'), {
    sqlstate: '22023',
    message: /keeper may not create users: .*CREATEROLE/,
  });
  await database.query('ALTER ROLE keeper CREATEROLE');
  t.equal((await store.change(set(PROVISIONING), 'ops')).values[PROVISIONING], true);

  await t.rejects(store.change(set(SYNC), 'ops'), {
    sqlstate: '22023',
    message: /keeper may grant no role: .*ADMIN OPTION/,
  });
  await database.query('GRANT readers TO keeper WITH ADMIN OPTION');
  await database.query('ALTER ROLE keeper SUPERUSER');
  await t.rejects(store.change(set(SYNC), 'ops'), {
    sqlstate: '22023',
    message: /keeper is a superuser/,
  });
  await database.query('ALTER ROLE keeper NOSUPERUSER');
  await store.change(set(SYNC), 'ops');

  await database.stop();
  await store.change(set(SYNC, 'off'), 'ops');
  await t.rejects(store.change(set(SYNC), 'ops'), { sqlstate: '57P03', message: /not available/ });
});

t.test(
  'the pattern of provisioning is a regular expression, and one without anchors is warned of',
  async (t) => {
    const { store } = await openStore();
    const pattern = (text: string) =>
      store.change([{ kind: 'set', name: 'pgsso.provisioning.pattern', text }], 'ops');
    await t.rejects(pattern('('), { sqlstate: '22023', message: /missing/ });
    await t.rejects(pattern('[9-0]'), {
      sqlstate: '22023',
      message: /range/,
      hint: /0-9 was probably meant/,
    });
    await t.rejects(pattern('a'.repeat(4097)), { sqlstate: '22023', message: /longer than 4096/ });
    await t.rejects(pattern('(a{1000}){20}'), { sqlstate: '22023', message: /./ });
    const loose = await pattern('svc');
    t.match(settingWarnings(loose.values), [/^pgsso\.provisioning\.pattern is not anchored/]);
    const exact = await pattern('^svc-[a-z]+$');
    t.strictSame(settingWarnings(exact.values), []);
    t.equal(exact.values['pgsso.provisioning.pattern']?.allows('svc-a'), true);
    t.equal(exact.values['pgsso.provisioning.pattern']?.allows('xsvc-a'), false);
    t.equal((await pattern('')).values['pgsso.provisioning.pattern'], undefined);
    const map = await store.change(
      [{ kind: 'set', name: 'pgsso.role_map.configuration', text: 'iss a b\niss /dev developers' }],
      'ops',
    );
    t.match(settingWarnings(map.values), [
      /line 2 of pgsso\.role_map\.configuration is not anchored/,
    ]);
  },
);
