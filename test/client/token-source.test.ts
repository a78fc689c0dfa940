/** Where a token comes from, in which order, and that processes and connections share it. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { TokenSource } from '../../src/client/token-source.ts';
import { storedTokens, TokenStore } from '../../src/client/token-store.ts';
import { JsonClient } from '../../src/http/json-client.ts';
import { token as tokenFor } from '../support/front-end.ts';
import { NATIVE_CLIENT, startPeopleProvider } from '../support/people-provider.ts';
import { browse } from '../support/sign-in.ts';
import { newUser } from './world.ts';

const AUDIENCE = 'urn:databases';
const provider = await startPeopleProvider({ audience: AUDIENCE });
t.teardown(() => provider.stop());
const client = { issuer: provider.issuer, clientId: NATIVE_CLIENT, audience: AUDIENCE };
const variables = {
  PGSSO_ISSUER: provider.issuer,
  PGSSO_CLIENT_ID: NATIVE_CLIENT,
  PGSSO_AUDIENCE: AUDIENCE,
};
const http = new JsonClient({});
t.teardown(() => http.close());
const { signal } = new AbortController();
const refreshes = (): number => provider.requests.get('/token refresh_token') ?? 0;

function sourceFor(home: string, settings: Partial<ConstructorParameters<typeof TokenSource>[0]>) {
  return new TokenSource({
    environment: {},
    client,
    useToken: 'access_token',
    state: join(home, '.local/state/pgsso'),
    fetch: http.fetch,
    loginCommand: 'run "pgsso login"',
    tell: () => undefined,
    now: Date.now,
    ...settings,
  });
}

t.test('the environment comes first, in its order, and a file is read again', async (t) => {
  const { home } = newUser();
  const file = join(home, 'token');
  const [first, second] = [tokenFor('first'), tokenFor('second')];
  writeFileSync(file, `${first}\n`);
  const command = 'printf . >> count; printf %s "$ANSWER"';
  const all = { PGSSO_TOKEN: 'a.b.c', PGSSO_TOKEN_FILE: file, PGSSO_TOKEN_COMMAND: command };
  t.equal((await sourceFor(home, { environment: all }).get(signal)).token, 'a.b.c');
  const byFile = sourceFor(home, { environment: { ...all, PGSSO_TOKEN: '' } });
  t.match(await byFile.get(signal), { token: first, issuer: 'https://id.example.test' });
  writeFileSync(file, second);
  t.equal((await byFile.get(signal)).token, second, 'it was rotated');
  rmSync(file);
  await t.rejects(byFile.get(signal), { message: /^PGSSO_TOKEN_FILE .*ENOENT/ });
});

t.test('a command is run once for many, and its failure is told', async (t) => {
  const { home } = newUser();
  const count = join(home, 'count');
  const given = tokenFor('alice');
  const command = `printf . >> '${count}'; echo ${given}`;
  const source = sourceFor(home, { environment: { PGSSO_TOKEN_COMMAND: command } });
  const all = await Promise.all(Array.from({ length: 8 }, () => source.get(signal)));
  t.ok(all.every(({ token }) => token === given));
  t.equal(readFileSync(count, 'utf8'), '.');
  for (const [bad, message] of [
    ['exit 3', /PGSSO_TOKEN_COMMAND: the command ended with exit status 3/],
    ['true', /PGSSO_TOKEN_COMMAND: it gives no token/],
    ['echo two words', /white space/],
  ] as const)
    await t.rejects(
      sourceFor(home, { environment: { PGSSO_TOKEN_COMMAND: bad } }).get(signal),
      { message },
      bad,
    );
});

t.test('a token that ends soon is refreshed once, by whoever comes first', async (t) => {
  const user = newUser();
  const login = user.start(['login', '--device'], variables);
  await browse(await login.says(/Open (\S+) on any device/), 'alice');
  t.match(await login.end(), { status: 0 });

  const soon = (): number => Date.now() + 3_550_000;
  const source = sourceFor(user.home, { now: soon });
  const tokens = await Promise.all(Array.from({ length: 20 }, () => source.get(signal)));
  t.equal(new Set(tokens.map(({ token }) => token)).size, 1);
  t.equal(refreshes(), 1, 'connections of one process');

  // Another clock is not to be had in a process, so the stored times are moved.
  const store = await TokenStore.open(join(user.home, '.local/state/pgsso'), client);
  const stored = await store.read();
  if (!stored?.access) throw new Error('nothing is stored');
  await store.write({
    ...stored,
    access: { ...stored.access, obtainedAt: Date.now() - 3_500_000, expiresAt: Date.now() + 5000 },
  });
  const outcomes = await Promise.all(
    Array.from({ length: 5 }, () => user.run(['token'], variables)),
  );
  // On a loaded machine they wait long enough to be told so.
  t.match(outcomes, Array(5).fill({ status: 0, stderr: /^(?:Waiting for another pgsso .*\n)?$/ }));
  t.equal(new Set(outcomes.map(({ stdout }) => stdout)).size, 1);
  t.equal(refreshes(), 2, 'processes');
  const left = readdirSync(join(user.home, '.local/state/pgsso'));
  t.match(left, [/^\w{32}\.json$/], 'no lock is left');
});

t.test('while the issuer is away, a token is used to its end, and then it is told', async (t) => {
  const { home } = newUser();
  const now = Date.now();
  const store = await TokenStore.open(join(home, '.local/state/pgsso'), client);
  const granted = { accessToken: tokenFor('alice'), idToken: undefined, refreshToken: 'r' };
  await store.write(storedTokens({ ...granted, lifetime: 600_000 }, now));
  provider.failWith = 503;
  t.teardown(() => {
    provider.failWith = undefined;
  });
  const told: string[] = [];
  const late = sourceFor(home, { now: () => now + 580_000, tell: (line) => told.push(line) });
  t.equal((await late.get(signal)).token, granted.accessToken);
  t.match(told, [/is used as long as it is good/]);
  const after = sourceFor(home, { now: () => now + 600_000 });
  await t.rejects(after.get(signal), { message: new RegExp(provider.issuer) });
  provider.failWith = undefined;
  await t.rejects(after.get(signal), { message: /nobody to ask here: run "pgsso login"/ });
});

t.test('a token ends when it or its issuer says, whichever comes first', async (t) => {
  const now = Date.now();
  const granted = { accessToken: 'opaque', idToken: undefined, refreshToken: undefined };
  const end = (accessToken: string, lifetime: number | undefined) =>
    (storedTokens({ ...granted, accessToken, lifetime }, now).access?.expiresAt ?? 0) - now;
  const tenMinutes = tokenFor('alice');
  t.equal(end('opaque', 60_000), 60_000);
  t.equal(end('opaque', undefined), 300_000, 'nobody says');
  t.ok(Math.abs(end(tenMinutes, undefined) - 600_000) <= 1000);
  t.equal(end(tenMinutes, 60_000), 60_000);
  t.ok(Math.abs(end(tenMinutes, 6_000_000) - 600_000) <= 1000);
  const source = sourceFor(newUser().home, {
    logIn: async () => ({ ...granted, lifetime: 60_000 }),
  });
  await t.rejects(source.get(signal), { message: /not a JSON web token.*--audience/ });
});
