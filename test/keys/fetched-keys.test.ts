/**
 * Keys that are fetched: from where, how often, and what happens while an identity provider is
 * slow, unavailable or faulty, or rotates its keys.
 */

import type { Test } from 'tap';
import t from 'tap';
import { providerAccess } from '../../src/keys/discovery.ts';
import { keysBySetting } from '../../src/keys/key-source.ts';
import type { SettingName } from '../../src/settings/definitions.ts';
import { bearerSettings } from '../../src/settings/oauthbearer.ts';
import { makeAuthority } from '../support/certificates.ts';
import { DISCOVERY, JWKS, misbehave, startIssuer, type TestIssuer } from '../support/issuer.ts';
import { publicJwk, testKey } from '../support/tokens.ts';
import { KeyWorld, memoryStore, valuesFor } from './key-world.ts';

const KEY = testKey('ES256', 'one');
const NEXT = testKey('ES256', 'two');
const STRANGER = testKey('ES256', 'stranger');
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

type Change = Partial<Record<SettingName, string>>;

async function setUp(
  t: Test,
  change: Change | ((issuer: TestIssuer) => Change) = {},
  options: ConstructorParameters<typeof KeyWorld>[1] = {},
): Promise<{ issuer: TestIssuer; world: KeyWorld }> {
  const issuer = await startIssuer([KEY]);
  const settings = typeof change === 'function' ? change(issuer) : change;
  const world = new KeyWorld(valuesFor(issuer.issuer, settings), options);
  t.teardown(async () => {
    await world.close();
    await issuer.close();
  });
  return { issuer, world };
}

/** A second process with the same settings. */
function restart(
  t: Test,
  { values, now }: KeyWorld,
  options: ConstructorParameters<typeof KeyWorld>[1],
): KeyWorld {
  const world = new KeyWorld(values, options);
  world.now = now;
  t.teardown(() => world.close());
  return world;
}

const map = (issuer: TestIssuer, uri = `${issuer.issuer}${JWKS}`): Change => ({
  'server.jwt_authentication.issuers.configuration': JSON.stringify({
    issuer_jwks_map: { [issuer.issuer]: uri },
  }),
});

t.test('the keys of an issuer are discovered', async (t) => {
  const { issuer, world } = await setUp(t);
  t.equal(await world.login(world.token(KEY)), 'alice');
  t.strictSame(issuer.requests, [DISCOVERY, JWKS]);
  t.match(world.fetched.describe(world.values), [
    {
      issuer: issuer.issuer,
      source: `${issuer.issuer}${JWKS}`,
      keyIds: ['one'],
      fetchedAt: world.now,
      lastError: undefined,
    },
  ]);
  t.strictSame(world.details('keysChanged'), [{ added: ['one'], removed: [], skipped: [] }]);
});

t.test('the keys of an issuer that only OAUTHBEARER has are fetched and renewed', async (t) => {
  const other = await startIssuer([NEXT]);
  t.teardown(() => other.close());
  const { issuer, world } = await setUp(t, {
    'server.oauthbearer_authentication.enabled': 'true',
    'server.oauthbearer_authentication.issuers': other.issuer,
  });
  world.fetched.start(() => world.values);
  await world.fetches(2);
  world.fetched.renew(world.values);
  t.ok(world.fetched.wereTried(world.values));
  t.strictSame(
    [issuer.requests, other.requests],
    [
      [DISCOVERY, JWKS],
      [DISCOVERY, JWKS],
    ],
  );
  t.match(keysBySetting(world.fetched).describe(world.values), [
    { issuer: issuer.issuer, keyIds: ['one'] },
    { issuer: other.issuer, keyIds: ['two'] },
  ]);
  const bearer = bearerSettings(world.values);
  const request = {
    token: world.token(NEXT, { iss: other.issuer }),
    user: 'alice',
    namesRole: false,
  };
  const { signal } = new AbortController();
  t.match(await world.authenticator.authenticate(request, bearer, signal), { user: 'alice' });
  await t.rejects(world.authenticator.authenticate(request, world.values, signal), {
    code: 'invalid_issuer',
  });
  t.equal(other.requests.length, 2, 'nothing was forgotten and fetched again');
});

t.test('with an issuer_jwks_map nothing is discovered', async (t) => {
  const { issuer, world } = await setUp(t, (issuer) => map(issuer));
  t.equal(await world.login(world.token(KEY)), 'alice');
  t.strictSame(issuer.requests, [JWKS]);
});

t.test(
  'an issuer without an entry in the map is refused by check 4, and the log says why',
  async (t) => {
    const { issuer, world } = await setUp(t);
    const name = 'server.jwt_authentication.issuers.configuration';
    world.values = { ...world.values, [name]: { issuers: [issuer.issuer], jwksUris: new Map() } };
    const error = await world.refusal(world.token(KEY));
    t.match(error, {
      code: 'keys_unavailable',
      detail: undefined,
      fault: 'us',
      reason: /no entry for .* in the issuer_jwks_map/,
    });
  },
);

t.test('without auto-fetch no request is sent', async (t) => {
  const jwks = JSON.stringify({ keys: [publicJwk(KEY)] });
  const { issuer, world } = await setUp(t, {
    'server.jwt_authentication.jwks_auto_fetch.enabled': 'false',
    'server.jwt_authentication.jwks': jwks,
  });
  t.equal(await world.login(world.token(KEY)), 'alice');
  t.equal(await world.login(world.token(STRANGER)), 'invalid_token');
  t.strictSame(issuer.requests, []);
});

t.test('an issuer on https is verified by the custom CA only', async (t) => {
  const authority = makeAuthority();
  const issuer = await startIssuer([KEY], authority.issue({ cn: 'localhost', san: ['localhost'] }));
  const ca: SettingName = 'server.jwt_authentication.issuers.custom_ca';
  const trusting = new KeyWorld(valuesFor(issuer.issuer, { [ca]: authority.cert }));
  const other = new KeyWorld(valuesFor(issuer.issuer, { [ca]: makeAuthority('another').cert }));
  const without = new KeyWorld(valuesFor(issuer.issuer));
  t.teardown(async () => {
    for (const { close } of [trusting, other, without, issuer].map((each) => ({
      close: () => each.close(),
    })))
      await close();
  });
  t.equal(await trusting.login(trusting.token(KEY)), 'alice');
  t.equal(await other.login(other.token(KEY)), 'keys_unavailable');
  t.equal(await without.login(without.token(KEY)), 'keys_unavailable');

  issuer.document = { jwks_uri: `http://127.0.0.1:${issuer.port}${JWKS}` };
  const fresh = new KeyWorld(valuesFor(issuer.issuer, { [ca]: authority.cert }));
  t.teardown(() => fresh.close());
  t.match(
    (await fresh.refusal(fresh.token(KEY))).reason,
    /an issuer on https names an address that is not/,
  );
});

for (const [how, behaviour] of Object.entries(misbehave)) {
  t.test(
    `check 4 refuses, and the client is told no reason, if the issuer answers with: ${how}`,
    async (t) => {
      const { issuer, world } = await setUp(t, (issuer) => ({
        'server.jwt_authentication.client.timeout': '1s',
        ...map(issuer),
      }));
      issuer.behaviour = behaviour;
      const error = await world.refusal(world.token(KEY));
      t.match(error, {
        code: 'keys_unavailable',
        sqlstate: '28000',
        message: 'JWT authentication: unable to validate token',
      });
      t.equal(error.detail, undefined);
      t.equal(error.fault, 'identity provider');
      t.match(error.reason, new RegExp(`could not be fetched: (${issuer.issuer}${JWKS}: )?.`));
      t.notMatch(error.reason, /secret/);
      t.notOk(issuer.requests.includes('/elsewhere'), 'a redirect is not followed');
    },
  );
}

t.test('a discovery document must name the issuer and the address of its keys', async (t) => {
  for (const [document, reason] of [
    [{ issuer: 'https://evil.example' }, /names "https:\/\/evil.example" instead of "http/],
    [{ issuer: undefined }, /names no issuer/],
    [{ jwks_uri: undefined }, /has no jwks_uri/],
    [{ jwks_uri: '' }, /has no jwks_uri/],
    [{ jwks_uri: 'ftp://127.0.0.1/keys' }, /begins with ftp: instead of https:/],
    [{ jwks_uri: 'not an address' }, /not a URL/],
    [
      { jwks_uri: 'http://id.example.test/keys' },
      /id\.example\.test\/keys: not https; pgsso\.allow_insecure_http/,
    ],
    [{ jwks_uri: 'https://me:secret@id.example.test/keys' }, /a user name in the address$/],
  ] as const) {
    const { issuer, world } = await setUp(t);
    issuer.document = document;
    const error = await world.refusal(world.token(KEY));
    t.equal(error.code, 'keys_unavailable');
    t.match(error.reason?.split('; ').slice(0, -2).join('; '), reason);
    t.notMatch(error.reason, /secret/);
  }
});

t.test(
  'plain http to other hosts needs a setting and uses the proxy; to this host it never does',
  async (t) => {
    const proxied: string[] = [];
    const proxy = await startIssuer([]);
    t.teardown(() => proxy.close());
    proxy.behaviour = (request, response) => {
      proxied.push(request.url ?? '');
      response.writeHead(503).end();
    };
    const environment = {
      HTTP_PROXY: proxy.issuer,
      https_proxy: proxy.issuer,
      NO_PROXY: 'direct.invalid',
    };
    const { world: local } = await setUp(t, {}, { environment });
    t.equal(await local.login(local.token(KEY)), 'alice');
    t.strictSame(proxy.requests, [], 'what is on this host stays here');

    const tunnels: string[] = [];
    const { createServer } = await import('node:http');
    const connectProxy = createServer().on('connect', (request, socket) => {
      tunnels.push(request.url ?? '');
      socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
    });
    await new Promise<void>((resolve) => connectProxy.listen(0, '127.0.0.1', resolve));
    t.teardown(() => connectProxy.close());
    const { port } = connectProxy.address() as { port: number };
    const uri = `http://127.0.0.1:${port}`;
    for (const [issuer, allow] of [
      ['https://id.example.test', 'false'],
      ['http://id.example.test', 'true'],
      ['http://id.example.test', 'false'],
      ['https://direct.invalid', 'false'],
    ] as const) {
      const world = new KeyWorld(valuesFor(issuer, { 'pgsso.allow_insecure_http': allow }), {
        environment: { HTTP_PROXY: uri, HTTPS_PROXY: uri, NO_PROXY: 'direct.invalid' },
      });
      t.equal(await world.login(world.token(KEY)), 'keys_unavailable');
      await world.close();
    }
    t.strictSame(
      tunnels,
      ['id.example.test:443', 'id.example.test:80'],
      'neither what is not allowed nor NO_PROXY',
    );
  },
);

t.test(
  '1,000 concurrent logins at a cold start cause one discovery and one fetch of keys',
  async (t) => {
    const { issuer, world } = await setUp(t);
    const held: (() => void)[] = [];
    issuer.behaviour = (_request, _response, ordinary) => held.push(ordinary);
    const logins = Array.from({ length: 1000 }, () => world.login(world.token(KEY)));
    await issuer.asked(DISCOVERY, 1);
    issuer.behaviour = undefined;
    for (const ordinary of held) ordinary();
    const users = await Promise.all(logins);
    t.ok(users.every((user) => user === 'alice'));
    t.strictSame(issuer.requests, [DISCOVERY, JWKS]);
  },
);

t.test(
  '10,000 forged tokens with random key IDs cause at most two fetches, and delay no good login',
  async (t) => {
    const { issuer, world } = await setUp(t);
    // The tokens are made first: that may take longer than an idle connection stays open.
    const tokens = Array.from({ length: 10_000 }, (_, number) =>
      world.token(STRANGER, {}, { kid: `${number}` }),
    );
    await world.login(world.token(KEY));
    issuer.behaviour = misbehave.hang;
    const first = world.login(tokens[0] ?? '');
    await issuer.asked(JWKS, 2);
    const forged = tokens.slice(1, 5000).map((token) => world.login(token));
    t.equal(
      await world.login(world.token(KEY, { jti: 'good' })),
      'alice',
      'while the fetch that they caused hangs',
    );
    const late = tokens.slice(5000).map((token) => world.login(token));
    t.equal(await world.login(world.token(KEY, { jti: 'late' })), 'alice');
    world.fetched.close();
    t.strictSame(
      new Set(await Promise.all([first, ...forged, ...late])),
      new Set(['invalid_token']),
    );
    t.equal(issuer.count(JWKS), 2, 'the first fetch, and one for all of them');
    t.equal(issuer.count(DISCOVERY), 1);
    t.equal(world.details('refetchRefused').length, 10_000 - 125, 'a bounded number waits');
  },
);

t.test(
  'an unknown key causes one fetch, at most one in 30 seconds, and the login uses the fresh set',
  async (t) => {
    const { issuer, world } = await setUp(t);
    await world.login(world.token(KEY));
    issuer.keys = [publicJwk(KEY), publicJwk(NEXT)];
    t.strictSame(
      await Promise.all([world.login(world.token(NEXT)), world.login(world.token(NEXT))]),
      ['alice', 'alice'],
    );
    t.equal(issuer.count(JWKS), 2);
    t.strictSame(world.details('keysChanged').at(-1), { added: ['two'], removed: [], skipped: [] });

    t.equal(await world.login(world.token(STRANGER)), 'invalid_token');
    world.now += 30 * SECOND - 1;
    t.equal(await world.login(world.token(STRANGER)), 'invalid_token');
    t.equal(issuer.count(JWKS), 2, 'not within the cool-down');
    t.strictSame(world.details('refetchRefused'), [issuer.issuer, issuer.issuer]);

    world.now += 1;
    issuer.behaviour = misbehave.away;
    t.equal(await world.login(world.token(STRANGER)), 'invalid_token');
    t.equal(issuer.count(JWKS), 3);
    issuer.behaviour = undefined;
    world.now += 29 * SECOND;
    t.equal(await world.login(world.token(STRANGER)), 'invalid_token');
    t.equal(issuer.count(JWKS), 3, 'nor after a fetch that failed');

    world.clockError = -HOUR;
    t.equal(await world.login(world.token(STRANGER)), 'invalid_token');
    t.equal(issuer.count(JWKS), 3, 'a clock that is set back does not shorten it');
    world.now += SECOND;
    t.equal(await world.login(world.token(STRANGER)), 'invalid_token');
    t.equal(issuer.count(JWKS), 4, 'nor prolong it');
  },
);

t.test('only a fetch that an unknown key caused begins the cool-down', async (t) => {
  const { issuer, world } = await setUp(t);
  await world.login(world.token(KEY));
  world.advance(9 * MINUTE);
  await world.fetches(2);
  issuer.keys = [publicJwk(NEXT)];
  t.equal(await world.login(world.token(NEXT)), 'alice');
});

t.test('keys are renewed in the background before they expire, so no login waits', async (t) => {
  const { issuer, world } = await setUp(t);
  await world.login(world.token(KEY));
  world.advance(7 * MINUTE);
  t.equal(issuer.count(JWKS), 1, 'not yet due');
  issuer.behaviour = misbehave.hang;
  world.advance(MINUTE + 1);
  await issuer.asked(DISCOVERY, 1);
  await issuer.asked(JWKS, 2);
  t.equal(await world.login(world.token(KEY, { jti: 'a' })), 'alice', 'while the renewal hangs');
});

t.test('the freshness that the issuer states is limited to bounds', async (t) => {
  const fresh: readonly [string, Record<string, string>, number][] = [
    ['nothing', {}, 10 * MINUTE],
    ['max-age', { 'cache-control': 'public, max-age=1200' }, 20 * MINUTE],
    ['max-age and Age', { 'cache-control': 'max-age="1200"', age: '600' }, 10 * MINUTE],
    ['too short', { 'cache-control': 'max-age=1' }, MINUTE],
    ['none', { 'cache-control': 'no-store, max-age=1200' }, MINUTE],
    ['no-cache', { 'cache-control': 'no-cache' }, MINUTE],
    ['too long', { 'cache-control': 'max-age=9999999999' }, 24 * HOUR],
    [
      'Expires',
      { date: 'Sun, 22 Nov 2026 00:00:00 GMT', expires: 'Sun, 22 Nov 2026 02:00:00 GMT' },
      2 * HOUR,
    ],
    ['Expires that is no date', { expires: '0' }, MINUTE],
    ['both', { 'cache-control': 's-maxage=5, max-age=1200', expires: '0' }, 20 * MINUTE],
  ];
  for (const [what, headers, lifetime] of fresh) {
    const { issuer, world } = await setUp(t, (issuer) => map(issuer));
    issuer.headers = headers;
    await world.login(world.token(KEY));
    // Renewal comes after 0.75 to 0.85 of the lifetime; the middle with the tests' random number.
    world.advance(lifetime * 0.8 - 1);
    t.equal(issuer.count(JWKS), 1, `${what}: not before`);
    world.advance(1);
    await issuer.asked(JWKS, 2);
    await world.fetches(2);
  }
});

t.test('no login fails during an outage of an hour', async (t) => {
  const { issuer, world } = await setUp(t);
  await world.login(world.token(KEY));
  issuer.behaviour = misbehave.away;
  const lost: string[] = [];
  let fetches = 1;
  for (let minute = 0; minute < 60; minute++) {
    for (let half = 0; half < 2; half++) {
      world.advance(30 * SECOND);
      const outcome = await world.login(world.token(KEY, { jti: `${minute} ${half}` }));
      if (outcome !== 'alice') lost.push(`${minute}: ${outcome}`);
    }
    // The keys end after ten minutes; from then on there is one attempt a minute.
    if (minute < 8) continue;
    fetches++;
    await world.fetches(fetches);
  }
  t.strictSame(lost, []);
  t.ok(world.details('fetchFailed').length >= 50, 'it was asked again and again');
  t.match(world.details('fetchFailed').at(-1), { reason: /127\.0\.0\.1/, keysAge: Number });
  t.match(world.fetched.describe(world.values), [{ keyIds: ['one'], lastError: /127\.0\.0\.1/ }]);

  issuer.behaviour = undefined;
  issuer.keys = [publicJwk(NEXT)];
  world.advance(MINUTE);
  await issuer.asked(JWKS, 2);
  await world.fetches(fetches + 1);
  t.equal(await world.login(world.token(NEXT)), 'alice', 'and is over when the issuer is back');
  t.match(world.fetched.describe(world.values), [{ lastError: undefined }]);
});

t.test('failures back off from a second to a minute, with jitter', async (t) => {
  const { issuer, world } = await setUp(t);
  issuer.behaviour = misbehave.away;
  t.equal(await world.login(world.token(KEY)), 'keys_unavailable');
  for (let failures = 1; failures < 9; failures++) {
    const { retryIn } = world.details('fetchFailed').at(-1) as { retryIn: number };
    world.advance(retryIn - 1);
    t.equal(world.details('fetchFailed').length, failures, 'not before');
    t.equal(await world.login(world.token(KEY)), 'keys_unavailable', 'at once meanwhile');
    world.advance(1);
    await world.fetches(failures + 1);
  }
  t.strictSame(
    world
      .details('fetchFailed')
      .map((failure) => (failure as { retryIn: number }).retryIn / SECOND),
    [1, 1.5, 3, 6, 12, 24, 45, 45, 45],
    'three quarters of what it may be at most, with the random number of the tests',
  );
});

t.test('the last good keys are used up to pgsso.jwks_max_age, then check 4 refuses', async (t) => {
  const { issuer, world } = await setUp(t, { 'pgsso.jwks_max_age': '2h' });
  await world.login(world.token(KEY));
  issuer.behaviour = misbehave.away;
  world.advance(2 * HOUR - 1);
  await world.fetches(2);
  t.equal(await world.login(world.token(KEY)), 'alice');
  world.now += 1;
  const error = await world.refusal(world.token(KEY));
  t.match(error, {
    code: 'keys_unavailable',
    reason: /the last good ones are of 2026-.*pgsso\.jwks_max_age/,
  });
});

t.test('with a maximum age of 0, keys are used as long as they are fresh', async (t) => {
  const { issuer, world } = await setUp(t, { 'pgsso.jwks_max_age': '0' });
  await world.login(world.token(KEY));
  issuer.behaviour = misbehave.away;
  world.advance(10 * MINUTE - 1);
  await world.fetches(2);
  t.equal(await world.login(world.token(KEY)), 'alice');
  world.now += 1;
  t.equal(await world.login(world.token(KEY)), 'keys_unavailable');
});

t.test('logins work after a restart during an outage', async (t) => {
  const store = memoryStore();
  const { issuer, world } = await setUp(t, {}, { store });
  await world.login(world.token(KEY));
  for (const behaviour of [misbehave.away, misbehave.hang]) {
    issuer.behaviour = behaviour;
    const again = restart(t, world, { store });
    again.now += HOUR;
    t.equal(await again.login(again.token(KEY)), 'alice');
    t.match(again.fetched.describe(again.values), [
      { fetchedAt: world.now, source: 'the data directory' },
    ]);
  }
  issuer.behaviour = misbehave.away;
  const late = restart(t, world, { store });
  late.now += 24 * HOUR;
  t.equal(await late.login(late.token(KEY)), 'keys_unavailable', 'but not for ever');
});

t.test('after a restart, stored keys are used only if the issuer does not answer', async (t) => {
  const store = memoryStore();
  const { issuer, world } = await setUp(t, {}, { store });
  await world.login(world.token(KEY));
  issuer.keys = [publicJwk(NEXT)];
  const again = restart(t, world, { store });
  t.equal(await again.login(again.token(KEY)), 'invalid_token', 'the key was withdrawn meanwhile');
});

t.test('stored keys of another origin, or from the future, are not used', async (t) => {
  const store = memoryStore();
  const { issuer, world } = await setUp(t, {}, { store });
  await world.login(world.token(KEY));
  issuer.behaviour = misbehave.away;
  const earlier = restart(t, world, { store });
  earlier.now -= 1;
  t.equal(await earlier.login(earlier.token(KEY)), 'keys_unavailable');
  const other = restart(t, world, { store });
  other.values = valuesFor(issuer.issuer, {
    'server.jwt_authentication.issuers.custom_ca': makeAuthority().cert,
  });
  t.equal(await other.login(other.token(KEY)), 'keys_unavailable');
});

t.test('a store that cannot be used is reported, and logins work', async (t) => {
  const store = {
    read: () => Promise.reject(new Error('no reading')),
    write: () => Promise.reject(new Error('no writing')),
  };
  const { world } = await setUp(t, {}, { store });
  t.equal(await world.login(world.token(KEY)), 'alice');
  await new Promise(setImmediate);
  t.strictSame(world.details('notStored'), [
    'cannot be read: no reading',
    'cannot be written: no writing',
  ]);
});

t.test('no login fails during a rotation with overlap', async (t) => {
  const { issuer, world } = await setUp(t);
  await world.login(world.token(KEY));
  issuer.keys = [publicJwk(KEY), publicJwk(NEXT)];
  t.equal(await world.login(world.token(NEXT)), 'alice', 'the new key, from the first token on');
  t.equal(await world.login(world.token(KEY)), 'alice', 'the old one');
  issuer.keys = [publicJwk(NEXT)];
  world.advance(9 * MINUTE);
  await world.fetches(3);
  t.equal(await world.login(world.token(NEXT)), 'alice');
  t.equal(await world.login(world.token(KEY)), 'invalid_token', 'after it was withdrawn');
  t.strictSame(world.details('keysChanged').at(-1), { added: [], removed: ['one'], skipped: [] });
});

t.test('one key may stand in place of a set', async (t) => {
  const { issuer, world } = await setUp(t);
  let body: unknown = publicJwk(KEY);
  issuer.behaviour = (request, response, ordinary) => {
    if (request.url !== JWKS) ordinary();
    else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  t.equal(await world.login(world.token(KEY)), 'alice');
  for (const other of [{}, { error: 'busy' }, { kty: 7 }, { keys: publicJwk(NEXT) }]) {
    body = other;
    world.advance(HOUR);
    await world.fetches(world.details('fetched').length + world.details('fetchFailed').length + 1);
    t.equal(await world.login(world.token(KEY)), 'alice', 'what is neither replaces no key');
  }
  t.match(world.details('fetchFailed'), [{ reason: /not valid: its keys are not an array/ }]);
  body = { ...publicJwk(KEY), kty: 'oct', k: 'c2VjcmV0' };
  world.advance(HOUR);
  await world.fetches(world.details('fetched').length + world.details('fetchFailed').length + 1);
  t.match(world.details('keysChanged').at(-1), { skipped: [/is symmetric/] });
});

t.test('a key set that fails is looked for again where the document says', async (t) => {
  const { issuer, world } = await setUp(t);
  issuer.document = { jwks_uri: `${issuer.issuer}/old` };
  t.equal(await world.login(world.token(KEY)), 'keys_unavailable');
  issuer.document = {};
  world.advance(MINUTE);
  await world.fetches(2);
  t.equal(await world.login(world.token(KEY)), 'alice');
  const before = issuer.count(DISCOVERY);

  const mapped = await setUp(t, (other) => map(other, `${other.issuer}/none`));
  const { world: fixed } = mapped;
  const { discovery } = fixed;
  const { ca, timeout, allowInsecure } = providerAccess(fixed.values);
  await discovery.find(mapped.issuer.issuer, { ca, timeout, allowInsecure });
  t.equal(await fixed.login(fixed.token(KEY)), 'keys_unavailable');
  await discovery.find(mapped.issuer.issuer, { ca, timeout, allowInsecure });
  t.strictSame(
    [before, mapped.issuer.count(DISCOVERY)],
    [2, 1],
    'an address of the settings says nothing against the document',
  );
});

t.test('an unusable key is skipped and reported, and the set is used', async (t) => {
  const { issuer, world } = await setUp(t);
  issuer.keys = [
    { kty: 'oct', k: 'c2VjcmV0', kid: 'shared' },
    'nonsense',
    publicJwk(NEXT, { use: 'enc' }),
    publicJwk(KEY),
  ];
  t.equal(await world.login(world.token(KEY)), 'alice');
  const [change] = world.details('keysChanged') as { skipped: string[] }[];
  t.match(change?.skipped, [
    /^key 1 \(kid "shared"\) is symmetric/,
    /^key 2 is not a JSON object/,
    /^key 3 .*is not for signatures/,
  ]);
  t.notMatch(change?.skipped.join(), /c2VjcmV0/);
});

t.test(
  'a change of the origin takes effect at once, and the earlier keys are forgotten',
  async (t) => {
    const { issuer, world } = await setUp(t);
    const other = await startIssuer([NEXT]);
    t.teardown(() => other.close());
    t.equal(await world.login(world.token(KEY)), 'alice');
    world.values = valuesFor(issuer.issuer, map(issuer, `${other.issuer}${JWKS}`));
    t.equal(await world.login(world.token(KEY)), 'invalid_token');
    t.equal(await world.login(world.token(NEXT)), 'alice');
    world.fetched.renew(world.values);

    other.behaviour = misbehave.away;
    world.values = valuesFor(issuer.issuer, {
      'server.jwt_authentication.issuers.custom_ca': makeAuthority().cert,
    });
    world.fetched.renew(world.values);
    issuer.behaviour = misbehave.away;
    t.equal(
      await world.login(world.token(KEY)),
      'keys_unavailable',
      'keys that were fetched with another CA',
    );
  },
);

t.test('a fetch that hangs delays no login with known keys', async (t) => {
  const { issuer, world } = await setUp(t);
  const other = await startIssuer([KEY]);
  t.teardown(() => other.close());
  world.values = valuesFor(JSON.stringify([issuer.issuer, other.issuer]));
  t.equal(await world.login(world.token(KEY)), 'alice');
  other.behaviour = misbehave.hang;
  const abort = new AbortController();
  const stuck = world.login(world.token(KEY, { iss: other.issuer }), 'alice', abort.signal);
  await other.asked(DISCOVERY, 1);
  t.equal(await world.login(world.token(KEY, { jti: 'a' })), 'alice');
  const gone = new Error('the client went away');
  abort.abort(gone);
  await t.rejects(stuck, gone, 'a login that is given up does not wait for it');
  t.equal(world.fetched.wereTried(world.values), false);
});

t.test('keys are fetched in advance at the start', async (t) => {
  const { issuer, world } = await setUp(t);
  t.equal(world.fetched.wereTried(world.values), false);
  world.fetched.start(() => world.values);
  await issuer.asked(JWKS, 1);
  await world.fetches(1);
  t.equal(world.fetched.wereTried(world.values), true);
  t.equal(await world.login(world.token(KEY)), 'alice');
  t.equal(issuer.count(JWKS), 1);

  const { issuer: away, world: lost } = await setUp(t);
  away.behaviour = misbehave.away;
  lost.fetched.start(() => lost.values);
  await lost.fetches(1);
  t.equal(lost.fetched.wereTried(lost.values), true, 'or it is known that they cannot be had');
});

t.test('a clock that is set back stops no renewal (issue 16, 24)', async (t) => {
  const { issuer, world } = await setUp(t);
  await world.login(world.token(KEY));
  world.clockError = -24 * HOUR;
  world.advance(9 * MINUTE);
  await world.fetches(2);
  t.equal(issuer.count(JWKS), 2, 'the renewal');

  issuer.behaviour = misbehave.away;
  world.advance(9 * MINUTE);
  await world.fetches(3);
  world.clockError -= 24 * HOUR;
  issuer.behaviour = undefined;
  world.advance(2 * SECOND);
  await world.fetches(4);
  t.equal(world.details('fetched').length, 3, 'the attempt after a failure');
});

t.test('a clock that is set does not change the age of keys (issue 16, 24)', async (t) => {
  const { issuer, world } = await setUp(t, { 'pgsso.jwks_max_age': '2h' });
  const token = () => world.token(KEY, { iat: 0, exp: 4_000_000_000 });
  await world.login(token());
  issuer.behaviour = misbehave.away;
  world.clockError = 100 * 24 * HOUR;
  t.equal(await world.login(token()), 'alice', 'a clock that is ahead makes none too old');
  world.advance(2 * HOUR - 1);
  await world.fetches(2);
  t.equal(await world.login(token()), 'alice');
  world.clockError = -100 * 24 * HOUR;
  world.now += 1;
  t.equal(await world.login(token()), 'keys_unavailable', 'one that is behind keeps none alive');
});

t.test(
  'stored keys whose time lies ahead are distrusted, others age on (issue 16, 24)',
  async (t) => {
    const store = memoryStore();
    const { issuer, world } = await setUp(t, { 'pgsso.jwks_max_age': '2h' }, { store });
    await world.login(world.token(KEY));
    issuer.behaviour = misbehave.away;
    const token = world.token(KEY, { iat: 0 });
    const behind = restart(t, world, { store });
    behind.clockError = -1;
    t.equal(await behind.login(token), 'keys_unavailable');

    const later = restart(t, world, { store });
    // The monotonic clock of another process begins anywhere.
    later.now = 0;
    later.clockError = world.now + HOUR;
    t.equal(await later.login(token), 'alice');
    later.clockError -= HOUR;
    later.now += HOUR - 1;
    t.equal(await later.login(token), 'alice');
    later.now += 1;
    t.equal(await later.login(token), 'keys_unavailable', 'they are of two hours ago');
  },
);

t.test('an issuer whose keys hang leaves room for those that wait for others', async (t) => {
  const { issuer, world } = await setUp(t);
  const other = await startIssuer([KEY]);
  t.teardown(() => other.close());
  world.values = valuesFor(JSON.stringify([issuer.issuer, other.issuer]));
  const tokenOf = ({ issuer: iss }: TestIssuer, kid: string): string =>
    world.token(kid === 'two' ? NEXT : STRANGER, { iss }, { kid });
  await world.login(world.token(KEY));
  await world.login(world.token(KEY, { iss: other.issuer }));
  issuer.behaviour = misbehave.hang;
  const stuck = Array.from({ length: 300 }, (_, i) => world.login(tokenOf(issuer, `${i}`)));
  await issuer.asked(JWKS, 2);
  t.equal(world.details('refetchRefused').length, 300 - 125);
  other.keys = [publicJwk(NEXT)];
  t.equal(await world.login(tokenOf(other, 'two')), 'alice');
  world.fetched.close();
  await Promise.all(stuck);
});

t.test('a fetch that hangs because of an unknown key holds up no known one', async (t) => {
  const { issuer, world } = await setUp(t, { 'server.jwt_authentication.client.timeout': '0' });
  await world.login(world.token(KEY));
  world.now += 9 * MINUTE;
  issuer.behaviour = misbehave.hang;
  const stuck = world.login(world.token(STRANGER));
  await issuer.asked(JWKS, 2);
  t.equal(await world.login(world.token(KEY, { jti: 'fresh' })), 'alice');
  // The keys go stale. A login gives the fetch that is under way two seconds from its begin.
  world.advance(2 * MINUTE);
  const began = performance.now();
  t.equal(await world.login(world.token(KEY, { jti: 'a' })), 'alice');
  t.equal(await world.login(world.token(KEY, { jti: 'b' })), 'alice', 'and the next one none');
  t.ok(performance.now() - began < 4000);
  world.fetched.close();
  t.equal(await stuck, 'invalid_token');
});

t.test('key IDs of an issuer are cut in the log and in the console (issue 16, 4)', async (t) => {
  const { issuer, world } = await setUp(t);
  issuer.keys = [
    publicJwk(KEY),
    ...Array.from({ length: 900 }, (_, i) => publicJwk(KEY, { kid: `${i}\n${'x'.repeat(500)}` })),
    ...Array.from({ length: 99 }, (_, i) => ({ kty: 'x'.repeat(99), kid: `${i}\u202e` })),
  ];
  t.equal(await world.login(world.token(KEY)), 'alice');
  const [change] = world.details('keysChanged') as { added: string[]; skipped: string[] }[];
  t.equal(change?.added.at(-1), '… (901 in all)');
  t.equal(change?.skipped.at(-1), '… (99 in all)');
  const [state] = world.fetched.describe(world.values);
  t.match(state, { keyCount: 901 });
  for (const text of [JSON.stringify(change), JSON.stringify(state)]) {
    t.ok(Buffer.byteLength(text) < 16_000, `${Buffer.byteLength(text)} bytes`);
    t.notMatch(text, /\\n|\u202e/);
  }
});

t.test('an address of a discovery document is not longer than the log takes', async (t) => {
  for (const length of [2000, 900_000]) {
    const { issuer, world } = await setUp(t);
    issuer.document = { jwks_uri: `${issuer.issuer}/${'x'.repeat(length)}` };
    const { code, reason = '' } = await world.refusal(world.token(KEY));
    t.equal(code, 'keys_unavailable');
    t.ok(reason.length < 1500, `${reason.length} characters`);
    t.ok(JSON.stringify(world.happened).length < 1500);
  }
});
