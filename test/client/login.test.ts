/** `pgsso login`, `token` and `logout` with a real OpenID provider, as processes of a user. */
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import {
  NATIVE_CLIENT,
  type PeopleProvider,
  SERVICE,
  startPeopleProvider,
} from '../support/people-provider.ts';
import { browse } from '../support/sign-in.ts';
import { newUser } from './world.ts';

const AUDIENCE = 'urn:databases';

const provider = await startPeopleProvider({ audience: AUDIENCE });
t.teardown(() => provider.stop());

/** The options of a login that no profile helps with. */
const options = ({ issuer }: PeopleProvider): string[] => [
  ...['--issuer', issuer, '--client-id', NATIVE_CLIENT, '--audience', AUDIENCE],
];

const claimsOf = (token: string) =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());

t.test(
  'a login by code is confirmed elsewhere; the other commands then need no option',
  async (t) => {
    const user = newUser();
    const login = user.start(['login', '--device', ...options(provider)]);
    const address = await login.says(/Open (\S+) on any device/);
    await browse(address, 'alice');
    t.match(await login.end(), {
      status: 0,
      stdout: '',
      stderr: /Logged in at \S+ as alice; .*Next: pgsso psql/s,
    });

    const { status, stdout } = await user.run(['token', '--json']);
    const found = JSON.parse(stdout);
    t.match([status, found], [0, { expires_at: /^20\d\d-/, issuer: provider.issuer }]);
    t.match(claimsOf(found.token), { sub: 'alice', aud: AUDIENCE, iss: provider.issuer });
    const idToken = (await user.run(['token'], { PGSSO_USE_TOKEN: 'id_token' })).stdout;
    t.match(claimsOf(idToken), { sub: 'alice', aud: NATIVE_CLIENT });

    const state = join(user.home, '.local/state/pgsso');
    const modes = [state, ...readdirSync(state).map((name) => join(state, name))].map((path) =>
      (statSync(path).mode & 0o777).toString(8),
    );
    t.strictSame(modes, ['700', '600'], 'nobody else reads the tokens, and no lock is left');
    const profile = join(user.home, '.config/pgsso/default.json');
    t.notMatch(readFileSync(profile, 'utf8'), /eyJ/, 'the profile has no secret');
    chmodSync(profile, 0o666);
    t.match(await user.run(['token']), { status: 1, stderr: /can write to it: chmod go-w/ });
    chmodSync(profile, 0o600);
    chmodSync(state, 0o755);
    t.match(await user.run(['token']), { status: 1, stderr: /chmod 700 / });
    chmodSync(state, 0o700);

    t.match(await user.run(['logout']), { status: 0, stderr: /forgotten here and revoked/ });
    t.ok((provider.requests.get('/token/revocation') ?? 0) >= 2, 'refresh and access token');
    t.match(await user.run(['token']), { status: 1, stdout: '', stderr: /run "pgsso login"/ });
  },
);

t.test('a login in the browser returns to this machine, and only from that browser', async (t) => {
  const user = newUser();
  const login = user.start(['login', '--browser', ...options(provider)]);
  const address = await login.says(/browser of this machine: (\S+)/);
  const { origin } = new URL(address);
  t.notMatch(address, /state|code/, 'nothing of the request is in the address that is opened');
  const strange = await fetch(`${origin}/callback?code=x&state=x`);
  t.equal(strange.status, 400, 'a stranger ends nothing');
  const named = await fetch(`${origin}/callback`, { headers: { cookie: 'pgsso=guess' } });
  t.equal(named.status, 400);
  const page = await browse(address, 'bob');
  t.match(page.text, /You are logged in/);
  t.match(await login.end(), { status: 0, stderr: /Logged in/ });
  t.match(claimsOf((await user.run(['token'])).stdout), { sub: 'bob' });
});

t.test('an address that was used already gives nothing', async (t) => {
  const login = newUser().start(['login', '--browser', ...options(provider)]);
  const address = await login.says(/browser of this machine: (\S+)/);
  const first = await fetch(address, { redirect: 'manual' });
  t.match(first.headers.get('set-cookie'), /HttpOnly; SameSite=Lax/);
  const sent = new URL(first.headers.get('location') ?? '').searchParams;
  t.match(Object.fromEntries(sent), {
    code_challenge_method: 'S256',
    code_challenge: /^[\w-]{43}$/,
    state: /^[\w-]{43}$/,
    nonce: /^[\w-]{43}$/,
    redirect_uri: /^http:\/\/127\.0\.0\.1:\d+\/callback$/,
  });
  const second = await fetch(address, { redirect: 'manual' });
  t.match([second.status, second.headers.get('set-cookie')], [410, null]);
  const cookie = first.headers.get('set-cookie')?.split(';')[0] ?? '';
  const state = sent.get('state') ?? '';
  const callback = new URL('/callback', address);
  callback.search = String(new URLSearchParams({ code: 'x', state, iss: 'https://evil.test' }));
  const mixed = await fetch(callback, { headers: { cookie } });
  t.equal(mixed.status, 400);
  t.match(await login.end(), { status: 1, stderr: /pgsso: .*iss/ }, 'RFC 9207');
});

t.test('a person who declines is told so', async (t) => {
  const user = newUser();
  const login = user.start(['login', '--device', ...options(provider)]);
  await browse(await login.says(/Open (\S+) on any device/), 'alice', 'decline');
  t.match(await login.end(), { status: 1, stderr: /access_denied/ });
  t.match(await user.run(['token']), { status: 1, stderr: /pgsso login/ });
});

t.test('a pgsso says at its pages what a login needs', async (t) => {
  const pages = createServer((request, response) => {
    response.setHeader('content-type', 'application/json');
    response.statusCode = request.url === '/.well-known/pgsso.json' ? 200 : 404;
    response.end(
      JSON.stringify({
        issuer: provider.issuer,
        client_id: NATIVE_CLIENT,
        audience: AUDIENCE,
        scope: 'openid offline_access',
        sql_host: 'localhost',
        sql_port: 26258,
      }),
    );
  });
  await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve));
  t.teardown(() => pages.close());
  const address = pages.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  const user = newUser();
  const url = `http://127.0.0.1:${port}`;
  const login = user.start(['login', '--device', '--profile', 'work', '--url', url]);
  await browse(await login.says(/Open (\S+) on any device/), 'alice');
  t.match(await login.end(), { status: 0, stderr: /Next: pgsso psql --profile work\n/ });
  const shown = await user.run(
    ['psql', '--profile', 'work', '--', 'sh', '-c', 'echo $PGHOST:$PGPORT $PGOPTIONS $PGPASSWORD'],
    {},
  );
  t.match(shown.stdout, /^localhost:26258 --crdb:jwt_auth_enabled=true eyJ/);
  t.match(await user.run(['token', '--profile', 'work', '--issuer', 'https://other.test']), {
    status: 1,
    stderr: /there is no token/,
  });
});

t.test('a service logs in with its secret, from a file that only it can read', async (t) => {
  const user = newUser();
  writeFileSync(join(user.home, 'secret'), `${SERVICE.secret}\n`, { mode: 0o644 });
  const service = [
    ...['--issuer', provider.issuer, '--client-id', SERVICE.id, '--audience', AUDIENCE],
    ...['--client-secret-file', 'secret'],
  ];
  t.match(await user.run(['login', ...service]), { status: 1, stderr: /secret: group or world/ });
  writeFileSync(join(user.home, 'own-secret'), `${SERVICE.secret}\n`, { mode: 0o600 });
  const { stdout } = await user.run(['token', ...service.slice(0, -1), 'own-secret']);
  t.match(claimsOf(stdout), { sub: SERVICE.id, aud: AUDIENCE });
  t.match(await user.run(['login', ...service.slice(0, -1), 'own-secret']), { status: 0 });
  t.match(claimsOf((await user.run(['token'])).stdout), { sub: SERVICE.id });
});
