/** Client credentials: what is sent where, the outcome, and what anybody can cause. */

import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';
import t from 'tap';
import { ExchangeLimits } from '../../src/oauth/exchange-limits.ts';
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

/** Logs in as each of many services at once. Each has a signal of its own. */
function attempts(
  { world }: World,
  count: number,
  from: (index: number) => { id?: string; address?: string },
): { outcomes: Promise<PromiseSettledResult<string>[]>; end: () => void } {
  const controllers = Array.from({ length: count }, () => new AbortController());
  const logins = controllers.map(({ signal }, index) => {
    const { id = ID, address } = from(index);
    return world.login(`wrong ${index}`, id, signal, address);
  });
  return {
    outcomes: Promise.allSettled(logins),
    end: () => {
      for (const controller of controllers) controller.abort(new Error('gone'));
    },
  };
}

/** Resolves when the token endpoint has been asked that often. */
async function askedTimes({ asked }: World, count: number): Promise<void> {
  while (asked.length < count) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** How long the endpoint is given for requests that must not come, in milliseconds. */
const A_WHILE = 100;
const aWhile = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, A_WHILE));

t.test(
  'wrong credentials at a slow issuer leave room for the good client (issue 16, 14)',
  async (t) => {
    const setup = await setUp(t);
    const { world, asked } = setup;
    setup.answer = () => undefined;
    const sameId = attempts(setup, 32, () => ({ address: '192.0.2.1' }));
    await askedTimes(setup, 4);
    await aWhile();
    t.equal(asked.length, 4, 'of one id and address');

    const manyIds = attempts(setup, 20, (index) => ({ id: `id ${index}`, address: '192.0.2.1' }));
    await askedTimes(setup, 8);
    await aWhile();
    t.equal(asked.length, 8, 'of one address');

    setup.answer = () => ({ access_token: world.token(KEY, { sub: 'reporting' }) });
    t.equal(await world.login(SECRET, ID, undefined, '192.0.2.2'), 'reporting', 'elsewhere');

    setup.answer = () => undefined;
    const flood = attempts(setup, 150, (index) => ({ id: `${index}`, address: `10.0.0.${index}` }));
    await askedTimes(setup, 9 + 24);
    await aWhile();
    t.equal(asked.length, 9 + 24, '32 in all');
    setup.answer = () => ({ access_token: world.token(KEY, { sub: 'reporting' }) });
    t.equal(
      await world.login(SECRET, ID, undefined, '192.0.2.1'),
      'reporting',
      'credentials that were right have places of their own, wherever they come from',
    );
    for (const { end } of [sameId, manyIds, flood]) end();
    for (const { outcomes } of [sameId, manyIds, flood])
      for (const outcome of await outcomes) t.match(outcome, { reason: { message: 'gone' } });
    t.equal(await world.login('new', 'id', undefined, '192.0.2.9'), 'reporting', 'room again');
  },
);

t.test('another id of the same address is not behind a flood of one id', async (t) => {
  const setup = await setUp(t);
  const { world } = setup;
  setup.answer = () => undefined;
  const flood = attempts(setup, 30, () => ({ id: 'guessed', address: '192.0.2.1' }));
  await askedTimes(setup, 4);
  setup.answer = () => ({ access_token: world.token(KEY, { sub: 'reporting' }) });
  t.equal(await world.login(SECRET, ID, undefined, '192.0.2.1'), 'reporting');
  flood.end();
  await flood.outcomes;
});

t.test('too many logins that wait are refused', async (t) => {
  const setup = await setUp(t);
  setup.answer = () => undefined;
  const flood = attempts(setup, 100, (index) => ({ id: `${index}`, address: '192.0.2.1' }));
  await askedTimes(setup, 8);
  t.equal(
    await setup.world.login(SECRET, ID, undefined, '192.0.2.1'),
    'client_credentials_refused',
  );
  flood.end();
  const refused = (await flood.outcomes).filter(({ status }) => status === 'fulfilled');
  t.equal(refused.length, 100 - 63, 'a quarter of those that may wait in all');
});

t.test('guesses of one address are slowed down (issue 16, 14)', async (t) => {
  let now = 0;
  const limits = new ExchangeLimits(250, 1, () => now);
  const { signal } = new AbortController();
  const guess = async (address: string): Promise<boolean> => {
    const abort = new AbortController();
    const applicant = { id: 'id', secret: 'wrong', address };
    const begun = limits.begin(applicant, abort.signal);
    const won = await Promise.race([begun, new Promise<void>((resolve) => setImmediate(resolve))]);
    if (won) won.end('wrong');
    abort.abort(new Error('gone'));
    await begun.catch(() => undefined);
    return won !== undefined;
  };
  const guesses = async (count: number, address = '192.0.2.1'): Promise<number> => {
    let begun = 0;
    for (let index = 0; index < count; index++) if (await guess(address)) begun++;
    return begun;
  };
  t.equal(await guesses(214), 20, 'a burst');
  t.equal(await guesses(5, '192.0.2.2'), 5, 'of another address');
  now += 1000;
  t.equal(await guesses(214), 10, 'in each further second');
  now += 3_600_000;
  t.equal(await guesses(214), 20, 'after a while');

  now += 3_600_000;
  for (let index = 0; index < 100; index++) {
    const applicant = { id: `${index}`, secret: 'right', address: '192.0.2.1' };
    (await limits.begin(applicant, signal)).end(index % 2 ? 'right' : 'failed');
  }
  t.equal(await guesses(214), 20, 'what is right, or fails at the issuer, does not count');
  const known = { id: '1', secret: 'right', address: '192.0.2.1' };
  (await limits.begin(known, signal)).end('wrong');
  t.pass('credentials that were right are not slowed down');
  const late = limits.begin(known, AbortSignal.timeout(20));
  await t.rejects(late, 'until they were wrong');
});

t.test('an address went on at full speed after the issuer had said 429', async (t) => {
  const setup = await setUp(t);
  const now = performance.now();
  t.intercept(performance, 'now', { value: () => now });
  const flood = async (status: number, address: string): Promise<number> => {
    setup.answer = () => status;
    const before = setup.asked.length;
    for (let guess = 0; guess < 20; guess++)
      await setup.world.login(SECRET, `${guess}`, undefined, address);
    const next = new AbortController();
    const begun = setup.world.login(SECRET, ID, next.signal, address).catch(() => undefined);
    if (status === 429) {
      await Promise.race([begun, new Promise((resolve) => setTimeout(resolve, 50))]);
      next.abort(new Error('gone'));
    }
    await begun;
    return setup.asked.length - before;
  };
  t.equal(await flood(429, '192.0.2.1'), 20, 'the next one waits');
  t.equal(await flood(503, '192.0.2.2'), 21, 'an issuer that is away slows nobody down');
});

t.test('nothing that may be a token is sent to the issuer (issue 16, 14)', async (t) => {
  const { world, asked } = await setUp(t);
  const token = world.token(KEY);
  const [header = '', payload = ''] = token.split('.');
  for (const password of [
    `${token}.`,
    `${token}...`,
    `.${token}`,
    ` ${token}.\n`,
    `${token}.x`,
    `${header}.${payload}`,
    `${header}.${payload}.`,
    header,
    `Bearer ${token}`,
    `"${token}"`,
    JSON.stringify({ payload }),
    'a.b.c',
    'a.b.',
    'a.b.c.',
    'a.b.c.d.e',
    'a..c.d.e',
    'a.b.c.d.e..',
    `a.b.c${'.'.repeat(60_000)}`,
  ]) {
    t.equal(await world.login(password, ID), 'malformed_token', password.slice(0, 20));
  }
  t.strictSame(asked, []);
  for (const secret of [SECRET, 'keyJoy', 'a.b', 'a.b.c.d', '.', 'x~Q8.eY-J_'])
    await world.login(secret, ID);
  t.equal(asked.length, 6, 'but secrets are');
});
