/** Client credentials: what is sent where, the outcome, and what anybody can cause. */

import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';
import t from 'tap';
import type { SettingName } from '../../src/settings/definitions.ts';
import { KeyWorld, valuesFor } from '../keys/key-world.ts';
import { publicJwk, testKey } from '../support/tokens.ts';

const KEY = testKey('ES256', 'one');
const ID = 'svc:reports ü';
const SECRET = 'a b+c/%&=:secret';

interface TokenRequest {
  readonly authorization: string | undefined;
  readonly form: Record<string, string>;
}

interface World {
  readonly world: KeyWorld;
  readonly asked: TokenRequest[];
  /** What the token endpoint answers next. A number is a status. */
  answer: (world: KeyWorld) => unknown;
}

async function setUp(t: Test, change: Partial<Record<SettingName, string>> = {}): Promise<World> {
  const asked: TokenRequest[] = [];
  const server = createServer(async (request, response) => {
    const { port } = server.address() as AddressInfo;
    const issuer = `http://127.0.0.1:${port}`;
    let status = 200;
    let body: unknown = { keys: [publicJwk(KEY)] };
    if (request.url === '/.well-known/openid-configuration') {
      body = { issuer, jwks_uri: `${issuer}/keys`, token_endpoint: `${issuer}/token` };
    } else if (request.url === '/token') {
      asked.push({ authorization: request.headers.authorization, form: await readForm(request) });
      body = setup.answer(setup.world);
      if (body === undefined) return;
      if (typeof body === 'number')
        [status, body] = [body, { error: 'invalid_client', error_description: SECRET }];
    }
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const world = new KeyWorld(
    valuesFor(issuer, { 'pgsso.client_credentials.issuer': issuer, ...change }),
  );
  const setup: World = {
    world,
    asked,
    answer: () => ({ access_token: world.token(KEY, { sub: 'reporting' }) }),
  };
  t.teardown(async () => {
    await world.close();
    server.closeAllConnections();
    server.close();
  });
  return setup;
}

async function readForm(request: IncomingMessage): Promise<Record<string, string>> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return Object.fromEntries(new URLSearchParams(text));
}

t.test('id and secret are exchanged for a token, which decides the user', async (t) => {
  const { world, asked } = await setUp(t);
  t.equal(await world.login(SECRET, ID), 'reporting', 'whatever the id is called');
  const [{ authorization = '', form } = { form: {} }] = asked;
  t.strictSame(form, { grant_type: 'client_credentials' });
  const [scheme, credentials = ''] = authorization.split(' ');
  t.equal(scheme, 'Basic');
  const halves = Buffer.from(credentials, 'base64').toString().split(':');
  t.strictSame(
    halves.map((half) => new URLSearchParams(`x=${half}`).get('x')),
    [ID, SECRET],
    'form-encoded, RFC 6749 section 2.3.1',
  );
});

t.test('audience and scope are sent when they are set', async (t) => {
  const { world, asked } = await setUp(t, {
    'pgsso.client_credentials.audience': 'pgsso',
    'pgsso.client_credentials.scope': 'db.read db.write',
  });
  await world.login(SECRET, ID);
  t.match(asked, [{ form: { audience: 'pgsso', scope: 'db.read db.write' } }]);
});

t.test('the token is checked as any other', async (t) => {
  const setup = await setUp(t);
  const { world } = setup;
  for (const [claims, code] of [
    [{ aud: 'others' }, 'invalid_audience'],
    [{ sub: 'root' }, 'reserved_user'],
    [{ exp: 1 }, 'invalid_token'],
    [{ iss: 'https://evil.example' }, 'invalid_issuer'],
  ] as const) {
    setup.answer = () => ({ access_token: world.token(KEY, claims) });
    t.equal(await world.login(SECRET, ID), code);
  }
});

t.test(
  'a password of three parts is checked as a token and never sent; if it is off, every one is',
  async (t) => {
    const { world, asked } = await setUp(t);
    t.equal(await world.login('a.b.c', ID), 'malformed_token');
    t.equal(await world.login(world.token(KEY)), 'alice');
    const off = await setUp(t, { 'pgsso.client_credentials.issuer': '' });
    t.equal(await off.world.login(SECRET, ID), 'malformed_token');
    const disabled = await setUp(t, { 'server.jwt_authentication.enabled': 'false' });
    t.equal(await disabled.world.login(SECRET, ID), 'jwt_not_enabled');
    t.strictSame([...asked, ...off.asked, ...disabled.asked], []);
  },
);

t.test(
  'a failed exchange is a failed password, without the secret or text from the issuer',
  async (t) => {
    const setup = await setUp(t, { 'server.jwt_authentication.client.timeout': '1s' });
    for (const [answer, fault, reason] of [
      [401, 'client', /status 401, error invalid_client/],
      [400, 'client', /status 400/],
      [500, 'identity provider', /status 500/],
      [undefined, 'identity provider', /no complete answer within 1000 ms/],
      [{}, 'identity provider', /not a JSON web token/],
      [{ access_token: SECRET }, 'identity provider', /not a JSON web token/],
    ] as const) {
      setup.answer = () => answer;
      const error = await setup.world.refusal(SECRET, ID);
      t.match(error, {
        code: 'client_credentials_refused',
        sqlstate: '28P01',
        message: `password authentication failed for user "${ID}"`,
        detail: undefined,
        fault,
        reason,
      });
      t.match(error.reason, /pgsso\.client_credentials\.issuer$/);
      t.notOk(JSON.stringify([error.message, error.reason]).includes(SECRET));
    }
  },
);

t.test(
  'at most 32 exchanges are in progress, and a login that is aborted ends its own',
  async (t) => {
    const setup = await setUp(t);
    setup.answer = () => undefined;
    const abort = new AbortController();
    const waiting = Array.from({ length: 32 }, () => setup.world.login(SECRET, ID, abort.signal));
    t.match(await setup.world.refusal(SECRET, ID), {
      sqlstate: '28P01',
      fault: 'us',
      reason: /32 exchanges are under way/,
    });
    abort.abort(new Error('gone'));
    for (const outcome of await Promise.allSettled(waiting))
      t.match(outcome, { status: 'rejected', reason: { message: 'gone' } });
    setup.answer = () => ({ access_token: setup.world.token(KEY) });
    t.equal(await setup.world.login(SECRET, ID), 'alice', 'there is room again');
  },
);
