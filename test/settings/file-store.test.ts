/**
 * Settings in files: what is durable, what is refused, and what other processes do at the same
 * time.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import t from 'tap';
import {
  API_KEY_LIMIT,
  type ApiKeys,
  applyApiKeyChange,
  digestOf,
  newSecret,
  noApiKeys,
} from '../../src/settings/api-keys.ts';
import { definitions } from '../../src/settings/definitions.ts';
import type { SettingsSnapshot } from '../../src/settings/snapshot.ts';
import { FileStore } from '../../src/settings/store/file-store.ts';
import { nodeCommand } from '../support/node-command.ts';

const NOW = Date.UTC(2026, 10, 22, 12);
const CLAIM = 'server.jwt_authentication.claim';
const GROUPS = 'server.jwt_authentication.group_claim';
const ENABLED = 'server.jwt_authentication.enabled';
const WRITER = fileURLToPath(new URL('./store-writer.js', import.meta.url));

interface Place {
  readonly directory: string;
  readonly problems: Error[];
  open(defaults?: [typeof CLAIM, string][]): Promise<FileStore>;
}

/** A directory and its stores, which the end of the test closes and removes. */
async function makePlace(t: Test): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), 'pgsso-settings-'));
  const problems: Error[] = [];
  const stores: FileStore[] = [];
  t.teardown(async () => {
    for (const store of stores) await store.close();
    await rm(directory, { recursive: true });
  });
  return {
    directory,
    problems,
    async open(defaults = []) {
      const onProblem = (error: Error): void => void problems.push(error);
      const store = await FileStore.open({
        directory,
        processDefaults: new Map(defaults),
        now: () => NOW,
        onProblem,
      });
      stores.push(store);
      return store;
    },
  };
}

const setClaim = (text: string) => ({ kind: 'set', name: CLAIM, text }) as const;

function fileWith(settings: object, format: unknown = 1): string {
  return JSON.stringify({ format, settings });
}

function entry(value: unknown): object {
  return { value, user: 'root', at: '2026-11-22T12:00:00Z' };
}

/** The store's first snapshot that satisfies the test; the test's time limit ends the wait. */
async function nextSnapshot(
  store: FileStore,
  wanted: (snapshot: SettingsSnapshot) => boolean,
): Promise<SettingsSnapshot> {
  while (!wanted(store.current)) await new Promise((resolve) => setTimeout(resolve, 10));
  return store.current;
}

t.test(
  'a change is in force at once and after a restart, and the history has its user and time',
  async (t) => {
    const place = await makePlace(t);
    const store = await place.open();
    t.equal(store.current.values[CLAIM], '');
    const snapshot = await store.change(
      [setClaim('email'), { kind: 'set', name: ENABLED, text: 'ON' }],
      'alice',
    );
    t.equal(store.current, snapshot);
    for (const read of [store, await place.open()]) {
      t.equal(read.current.values[CLAIM], 'email');
      t.same(read.current.states[ENABLED], {
        text: 'true',
        defaultText: 'false',
        origin: 'override',
      });
      t.same(await read.history(ENABLED), [
        { name: ENABLED, text: 'true', user: 'alice', at: NOW },
      ]);
    }
  },
);

t.test('a change parses no stored setting again, and its own value once', async (t) => {
  const place = await makePlace(t);
  const map = 'server.identity_map.configuration';
  const store = await place.open();
  const set = (text: string) => store.change([{ kind: 'set', name: map, text }], 'alice');
  await set('iss /^a$ b');
  const { parse } = definitions[map];
  const calls = t.capture(definitions[map], 'parse', parse);
  await store.change([setClaim('email')], 'alice');
  t.equal((await store.change([setClaim('sub')], 'alice')).states[map].text, 'iss /^a$ b');
  t.equal(calls().length, 0);
  t.match((await set('iss /^c$ d')).values[map].rules, [{ pattern: '^c$' }]);
  t.match((await set('iss /^e$ f')).values[map].rules, [{ pattern: '^e$' }]);
  t.equal(calls().length, 2);
  for (let attempt = 0; attempt < 2; attempt++)
    await t.rejects(set('no rule'), { message: /unable to parse line 1/ });
  t.equal(calls().length, 2, 'an error is not remembered');
});

t.test('only the owner can read the file', async (t) => {
  const place = await makePlace(t);
  await (await place.open()).change([setClaim('email')], 'alice');
  const names = await readdir(place.directory);
  t.equal(names.length, 1);
  for (const name of names) t.equal((await stat(join(place.directory, name))).mode & 0o777, 0o600);
});

const CREATE_KEY = {
  kind: 'create',
  name: '__proto__',
  user: 'batch',
  digest: digestOf(newSecret()),
  expiresAt: NOW + 1,
} as const;

t.test(
  'API keys are stored with the settings, as digests, and reach other stores of the directory',
  async (t) => {
    const place = await makePlace(t);
    const [store, other] = [await place.open(), await place.open()];
    await store.change([setClaim('email')], 'alice');
    const heard = nextSnapshot(other, ({ values }) => values.apiKeys.size === 1);
    const { values } = await store.changeApiKeys(CREATE_KEY, 'alice');
    const { kind: _, ...key } = CREATE_KEY;
    const expected = new Map([['__proto__', { ...key, createdBy: 'alice', createdAt: NOW }]]);
    for (const read of [values, (await heard).values, (await place.open()).current.values]) {
      t.same(read.apiKeys, expected);
      t.equal(read[CLAIM], 'email');
    }
    await store.change([setClaim('sub')], 'alice');
    t.equal(store.current.values.apiKeys.size, 1, 'a change of settings leaves them');
    await t.rejects(store.changeApiKeys(CREATE_KEY, 'alice'), { code: 'duplicate_api_key' });
    await other.changeApiKeys({ kind: 'drop', name: '__proto__' }, 'bob');
    t.equal((await place.open()).current.values.apiKeys.size, 0);
    t.match(await other.history(), [
      { name: 'API KEY __proto__', text: undefined, user: 'bob' },
      { name: CLAIM, text: 'sub' },
      {
        name: 'API KEY __proto__',
        text: `FOR USER batch EXPIRES ${new Date(NOW + 1).toISOString()}`,
        user: 'alice',
      },
      { name: CLAIM, text: 'email' },
    ]);
  },
);

t.test('a file with a bad API key is refused, also if the expiry is missing', async (t) => {
  const place = await makePlace(t);
  const good = {
    user: 'batch',
    sha256: CREATE_KEY.digest,
    createdBy: 'root',
    created: '2026-11-22T12:00:00Z',
    expires: null,
  };
  const path = join(place.directory, 'settings.1.json');
  const write = (key: unknown): Promise<void> =>
    writeFile(path, JSON.stringify({ format: 2, settings: {}, apiKeys: { nightly: key } }));
  const bad = [
    { expires: undefined },
    { expires: 'never' },
    { expires: 5 },
    { sha256: 'abc' },
    { user: '' },
    { created: 'x' },
  ];
  for (const change of bad) {
    await write({ ...good, ...change });
    await t.rejects(place.open(), { message: /API key "?nightly/ }, JSON.stringify(change));
  }
  await write(good);
  t.equal((await place.open()).current.values.apiKeys.size, 1);
});

t.test('there are at most 1,000 API keys', async (t) => {
  let keys: ApiKeys = noApiKeys;
  for (let number = 0; number < API_KEY_LIMIT; number++) {
    keys = applyApiKeyChange(keys, { ...CREATE_KEY, name: `k${number}` }, 'alice', NOW);
  }
  t.throws(() => applyApiKeyChange(keys, CREATE_KEY, 'alice', NOW), { code: 'too_many_api_keys' });
});

t.test('reset returns to the default of the process', async (t) => {
  const store = await (await makePlace(t)).open([[CLAIM, 'name']]);
  await store.change([setClaim('email')], 'alice');
  await store.change([{ kind: 'reset', name: CLAIM }], 'alice');
  t.match(store.current.states[CLAIM], { text: 'name', origin: 'default' });
});

t.test('one bad change of several stops all of them', async (t) => {
  const place = await makePlace(t);
  const store = await place.open();
  const before = store.current;
  const change = store.change(
    [setClaim('email'), { kind: 'set', name: ENABLED, text: 'maybe' }],
    'alice',
  );
  await t.rejects(change, { message: /^could not parse "maybe" as type bool/ });
  t.equal(store.current, before);
  t.same(await readdir(place.directory), []);
});

t.test('changes at the same time are made one after the other', async (t) => {
  const store = await (await makePlace(t)).open();
  await Promise.all(
    Array.from({ length: 20 }, (_, number) => store.change([setClaim(`c${number}`)], 'alice')),
  );
  t.equal(store.current.values[CLAIM], 'c19');
});

t.test('a change reaches another store of the directory, as one new snapshot', async (t) => {
  const place = await makePlace(t);
  const [here, elsewhere] = [await place.open(), await place.open()];
  const { version } = elsewhere.current;
  await here.change([setClaim('email')], 'alice');
  const seen = await nextSnapshot(elsewhere, ({ values }) => values[CLAIM] === 'email');
  t.equal(seen.version, version + 1);
  await elsewhere.change([setClaim('sub')], 'alice');
  t.equal(elsewhere.current.version, version + 2);
  t.same(place.problems, []);
});

t.test(
  'a file that cannot be read stops the start with its path and setting, and is not changed',
  async (t) => {
    const table: [string, string, RegExp][] = [
      ['an empty file', '', /not JSON/],
      ['half a file', fileWith({}).slice(0, -3), /not JSON/],
      ['no object', 'null', /damaged/],
      ['a newer form', fileWith({}, 3), /format is 3/],
      [
        'an unknown setting',
        fileWith({ 'server.new': entry('x') }),
        /server\.new.*unknown cluster setting/,
      ],
      [
        'a bad value',
        fileWith({ [ENABLED]: entry('maybe') }),
        /server\.jwt_authentication\.enabled.*"maybe"/,
      ],
      [
        'a value that is no text',
        fileWith({ [ENABLED]: entry(true) }),
        /server\.jwt_authentication\.enabled/,
      ],
      [
        'no time',
        fileWith({ [ENABLED]: { ...entry('true'), at: 'noon' } }),
        /server\.jwt_authentication\.enabled/,
      ],
      [
        'a sensitive value',
        fileWith({ 'server.jwt_authentication.issuers.custom_ca': entry('hidden') }),
        /custom_ca(?!.*hidden)/,
      ],
    ];
    for (const [name, text, message] of table) {
      const place = await makePlace(t);
      const path = join(place.directory, 'settings.1.json');
      await writeFile(path, text);
      const refusal = await place.open().then(
        () => 'it started',
        (error: Error) => error.message,
      );
      t.match(refusal, message, name);
      t.match(refusal, path, `${name}: names the file`);
      t.notMatch(refusal, '\n', `${name}: in one line`);
      t.equal(await readFile(path, 'utf8'), text, `${name}: is kept`);
    }
  },
);

t.test(
  'a file that is damaged at run time changes nothing, and a change on top of it is refused',
  async (t) => {
    const place = await makePlace(t);
    const store = await place.open();
    await store.change([setClaim('email')], 'alice');
    const path = join(place.directory, 'settings.1.json');
    await writeFile(path, 'spoilt');
    await t.rejects(store.change([setClaim('sub')], 'alice'), { message: new RegExp(`^${path}`) });
    t.equal(store.current.values[CLAIM], 'email');
    t.equal(await readFile(path, 'utf8'), 'spoilt');
    const mended = nextSnapshot(store, ({ values }) => values[CLAIM] === 'name');
    await writeFile(path, fileWith({ [CLAIM]: entry('name') }));
    await mended;
  },
);

t.test('a temporary file of a crash is ignored, and removed when it is old', async (t) => {
  const place = await makePlace(t);
  const [old, fresh] = ['a', 'b'].map(
    (letter) => `settings.${letter.repeat(8)}-0000-4000-8000-000000000000.tmp`,
  );
  for (const name of [old, fresh]) await writeFile(join(place.directory, String(name)), 'half');
  await utimes(join(place.directory, String(old)), 0, NOW / 1000 - 3600);
  await utimes(join(place.directory, String(fresh)), 0, NOW / 1000 - 1);
  await (await place.open()).change([setClaim('email')], 'alice');
  t.same((await readdir(place.directory)).sort(), ['settings.1.json', fresh].sort());
});

function startWriter(directory: string, setting: string, count: number): ChildProcess {
  return spawn(...nodeCommand(WRITER, directory, setting, String(count)), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

t.test('a process killed during changes loses no acknowledged one', async (t) => {
  const place = await makePlace(t);
  for (const acknowledgements of [1, 3, 8, 21]) {
    const writer = startWriter(place.directory, CLAIM, 1_000_000);
    const exit = once(writer, 'exit');
    let last = 0;
    if (writer.stdout === null) throw new Error('the writer has no output');
    for await (const line of createInterface(writer.stdout)) {
      last = Number(line);
      if (last === acknowledgements) writer.kill('SIGKILL');
    }
    await exit;
    const { current } = await place.open();
    // The next change may have become durable without being acknowledged.
    t.ok(
      [last, last + 1].includes(Number(current.values[CLAIM])),
      `${current.values[CLAIM]} after ${last}`,
    );
  }
  const store = await place.open();
  await store.change([setClaim('email')], 'alice');
  t.equal((await place.open()).current.values[CLAIM], 'email', 'and the next change succeeds');
});

t.test('two processes that change settings at the same time lose no change', async (t) => {
  const place = await makePlace(t);
  const writers = [CLAIM, GROUPS].map((setting) => startWriter(place.directory, setting, 40));
  for (const writer of writers) writer.stdout?.resume();
  t.same(await Promise.all(writers.map((writer) => once(writer, 'exit'))), [
    [0, null],
    [0, null],
  ]);
  const { values } = (await place.open()).current;
  t.same([values[CLAIM], values[GROUPS]], ['40', '40']);
  const numbers = (await readdir(place.directory)).map((name) => Number(/\d+/.exec(name)?.[0]));
  t.ok(Math.max(...numbers) >= 80, 'each change made a file of its own');
});

t.test(
  'a removed settings file is reported, the settings stay, and a change is refused',
  async (t) => {
    const place = await makePlace(t);
    const store = await place.open();
    await store.change([setClaim('email')], 'alice');
    for (const name of await readdir(place.directory)) await rm(join(place.directory, name));
    await t.rejects(store.change([setClaim('name')], 'alice'), {
      message: /settings\.1\.json: the settings file is gone/,
    });
    while (place.problems.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    t.match(place.problems[0], { message: /the settings file is gone/ });
    t.equal(store.current.values[CLAIM], 'email');
    t.same(await readdir(place.directory), []);
  },
);

t.test('a change that comes when the store is being closed is refused', async (t) => {
  const place = await makePlace(t);
  const store = await place.open();
  const begun = [store.change([setClaim('a')], 'alice'), store.change([setClaim('b')], 'alice')];
  const closing = store.close();
  await t.rejects(store.change([setClaim('c')], 'alice'), { message: /shutting down/ });
  await closing;
  await t.rejects(store.change([setClaim('d')], 'alice'), { message: /shutting down/ });
  t.equal((await Promise.all(begun)).length, 2, 'what came before is finished');
  t.equal((await place.open()).current.values[CLAIM], 'b');
});

t.test('the data directory is deleted and comes back', async (t) => {
  const place = await makePlace(t);
  const { directory, problems } = place;
  const store = await place.open();
  await store.change([setClaim('email')], 'alice');
  const aside = `${directory}-aside`;
  t.teardown(() => rm(aside, { recursive: true, force: true }));
  const refused = { code: 'settings_store_failed', sqlstate: '58030' };
  const isReported = async (): Promise<void> => {
    while (store.problem === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  const isWell = async (): Promise<void> => {
    while (store.problem !== undefined) await new Promise((resolve) => setTimeout(resolve, 10));
  };

  await t.test('moved away, and back as it was', async (t) => {
    await rename(directory, aside);
    await t.rejects(store.change([setClaim('sub')], 'alice'), {
      ...refused,
      message: /ENOENT.*pgsso/,
      hint: 'Nothing was changed.',
    });
    await isReported();
    t.equal(store.current.values[CLAIM], 'email', 'the settings stay');
    t.match(await store.history(), [{ text: 'email' }], 'and so does the history');
    await rename(aside, directory);
    await isWell();
    await store.change([setClaim('sub')], 'alice');
  });

  await t.test('deleted, and restored from a copy', async (t) => {
    await cp(directory, aside, { recursive: true });
    await rm(directory, { recursive: true });
    await isReported();
    const used = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const { user, system } = process.cpuUsage(used);
    t.ok(user + system < 500_000, `${Math.round((user + system) / 1000)} ms of 1500 were used`);
    // The file is removed before the directory.
    t.ok(problems.length <= 3, 'each problem is reported once');
    await mkdir(directory);
    await t.rejects(store.change([setClaim('name')], 'alice'), {
      ...refused,
      message: /the settings file is gone/,
    });
    await cp(aside, directory, { recursive: true });
    await isWell();
    await store.change([setClaim('name')], 'alice');
    t.match(await store.history(), [{ text: 'name' }, { text: 'sub' }, { text: 'email' }]);
    const other = await place.open();
    const seen = nextSnapshot(store, ({ values }) => values[CLAIM] === 'azp');
    await other.change([setClaim('azp')], 'bob');
    await seen;
  });
});

t.test('a link that leads nowhere is an error, not a loop', async (t) => {
  const place = await makePlace(t);
  const store = await place.open();
  await symlink(join(place.directory, 'nowhere'), join(place.directory, 'settings.7.json'));
  await t.rejects(store.change([setClaim('email')], 'alice'), {
    sqlstate: '58030',
    message: /settings\.7\.json/,
  });
  await t.rejects(place.open(), { message: /settings\.7\.json/ });
});

t.test('a check that hangs delays neither the changes behind it nor the end', async (t) => {
  const { directory } = await makePlace(t);
  let hangs = true;
  const store = await FileStore.open({
    directory,
    processDefaults: new Map(),
    now: () => NOW,
    onProblem: (error) => t.fail(error.message),
    vet: () => (hangs ? new Promise(() => undefined) : Promise.resolve()),
  });
  const begin = performance.now();
  const changes = ['a', 'b', 'c'].map((text) => store.change([setClaim(text)], 'alice'));
  for (const change of changes)
    await t.rejects(change, { sqlstate: '58030', message: 'no answer within 7 s' });
  t.ok(performance.now() - begin < 8000);
  hangs = false;
  await store.change([setClaim('d')], 'alice');
  hangs = true;
  const last = t.rejects(store.change([setClaim('e')], 'alice'), { code: 'settings_closed' });
  const end = performance.now();
  await store.close();
  t.ok(performance.now() - end < 5000);
  await last;
});
