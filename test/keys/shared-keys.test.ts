/** Keys as a worker has them: when it uses them, when it asks, and when it refuses. */
import t from 'tap';
import type { KeyState } from '../../src/keys/issuer-keys.ts';
import { originDigest, originOf } from '../../src/keys/key-origin.ts';
import { SharedKeys } from '../../src/keys/shared-keys.ts';
import { keySetText, testKey } from '../support/tokens.ts';
import { valuesFor } from './key-world.ts';

const ISSUER = 'https://id.example.test';
const values = valuesFor(ISSUER, { 'pgsso.jwks_max_age': '1h' });
const ORIGIN = originDigest(originOf(ISSUER, values));
const { signal } = new AbortController();
const jwks = keySetText(testKey('RS256'));
const fresh: KeyState = {
  origin: ORIGIN,
  jwks,
  fetchedAt: Date.UTC(2026, 10, 23),
  age: 0,
  freshFor: 600_000,
  lastError: undefined,
};

/** Keys of a worker, with a clock. `answer` is what the node answers; each question is noted. */
function workerKeys(answer: () => Promise<KeyState | undefined>) {
  const world = { now: 0, asked: [] as string[], refused: 0 };
  const keys = new SharedKeys({
    ask(question, origin) {
      world.asked.push(`${question} ${origin === ORIGIN}`);
      return answer();
    },
    events: { refetchRefused: () => world.refused++ },
    waitingLimit: 4,
    waitingShare: 2,
    monotonic: () => world.now,
  });
  return { world, keys };
}

t.test('keys that were told are used until they are stale, and then asked for once', async (t) => {
  const { world, keys } = workerKeys(async () => ({ ...fresh, age: 5 }));
  await keys.adopt(fresh);
  const first = await keys.keysFor(ISSUER, values, signal);
  t.equal(first.length, 1);
  t.strictSame(world.asked, []);
  world.now = 600_000;
  const all = await Promise.all([1, 2, 3].map(() => keys.keysFor(ISSUER, values, signal)));
  t.strictSame(world.asked, ['keys true']);
  t.ok(
    all.every((set) => set === first),
    'the same text is the same set: verified tokens stay so',
  );
});

t.test(
  'during an outage the last good keys are used without a question, up to their age',
  async (t) => {
    const { world, keys } = workerKeys(async () => undefined);
    await keys.adopt({ ...fresh, age: 600_000, freshFor: 0, lastError: 'away' });
    t.equal((await keys.keysFor(ISSUER, values, signal)).length, 1);
    world.now = 3_600_000;
    await t.rejects(keys.keysFor(ISSUER, values, signal), {
      name: 'KeysUnavailable',
      message: /away.*2026-11-23.*pgsso\.jwks_max_age/,
      fault: 'identity provider',
    });
    t.strictSame(world.asked, []);
  },
);

t.test('keys of another place, or that are gone, are never used', async (t) => {
  const { keys } = workerKeys(async () => undefined);
  await keys.adopt(fresh);
  const moved = valuesFor(ISSUER, { 'pgsso.allow_insecure_http': 'true' });
  await t.rejects(keys.keysFor(ISSUER, moved, signal), { message: /settings have changed/ });
  await keys.adopt({ ...fresh, jwks: '{"keys":[]}' });
  t.strictSame(await keys.keysFor(ISSUER, values, signal), [], 'withdrawn at once');
  await keys.adopt(fresh);
  keys.forgetOthers(moved);
  await t.rejects(keys.keysFor(ISSUER, values, signal), { message: /settings have changed/ });
});

t.test('unknown key IDs cause one question a second, and few logins wait for it', async (t) => {
  let answer = (_: KeyState): void => undefined;
  const { world, keys } = workerKeys(
    () =>
      new Promise((resolve) => {
        answer = resolve;
      }),
  );
  await keys.adopt(fresh);
  const waiting = [1, 2, 3, 4].map(() => keys.refresh(ISSUER, values, signal));
  t.strictSame(world.asked, ['newer keys true']);
  t.equal(world.refused, 2, 'an issuer has its share of those that wait');
  answer({ ...fresh, jwks: keySetText(testKey('RS256'), testKey('ES256')) });
  const sets = await Promise.all(waiting);
  t.strictSame(
    sets.map((set) => set?.length),
    [2, 2, 1, 1],
  );
  t.equal((await keys.refresh(ISSUER, values, signal))?.length, 2, 'what was told meanwhile');
  t.equal(world.asked.length, 1);
  world.now = 1000;
  void keys.refresh(ISSUER, values, signal);
  t.equal(world.asked.length, 2);
});

t.test('a node that does not answer is nobody else’s fault', async (t) => {
  const { keys } = workerKeys(async () => {
    throw new Error('the other process of the node has ended');
  });
  await t.rejects(keys.keysFor(ISSUER, values, signal), { fault: 'us', message: /has ended/ });
});
