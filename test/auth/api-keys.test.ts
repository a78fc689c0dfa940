/** API keys in a login: the user, the fallback to the user claim, and dropped keys. */

import t from 'tap';
import { ApiKeyUses } from '../../src/auth/api-keys.ts';
import { explainLogin } from '../../src/auth/explain.ts';
import { creationRefusal } from '../../src/auth/refusals.ts';
import { VerifiedTokens } from '../../src/auth/verified-tokens.ts';
import {
  API_KEY_LIMIT,
  type ApiKey,
  digestOf,
  isSecret,
  newSecret,
} from '../../src/settings/api-keys.ts';
import { buildSnapshot, type LoginSettings } from '../../src/settings/snapshot.ts';
import {
  authenticatorOf,
  ISSUER,
  type LoginChange,
  login,
  NOW,
  refusalOf,
  requestOf,
  rulesOf,
  settingsOf,
} from './login.ts';

const SECRET = newSecret();
const KEY: ApiKey = {
  name: 'nightly',
  user: 'batch',
  digest: digestOf(SECRET),
  createdBy: 'root',
  createdAt: NOW - 1000,
  expiresAt: undefined,
};

function withKeys(...keys: readonly ApiKey[]): Partial<LoginSettings> {
  return {
    'server.jwt_authentication.api_key_claim': 'key',
    apiKeys: new Map([
      ['other', { ...KEY, name: 'other', digest: digestOf(newSecret()) }],
      ...keys.map((key) => [key.name, key] as const),
    ]),
  };
}

const change = (more: LoginChange = {}, key: Partial<ApiKey> = {}): LoginChange => ({
  user: undefined,
  ...more,
  claims: { key: SECRET, ...more.claims },
  settings: { ...withKeys({ ...KEY, ...key }), ...more.settings },
});

t.test('a secret has 256 random bits and is recognized by its form', async (t) => {
  const secrets = Array.from({ length: 100 }, newSecret);
  t.equal(new Set(secrets).size, 100);
  for (const secret of secrets) {
    t.ok(isSecret(secret));
    t.equal(Buffer.from(secret.slice('pgsso_'.length), 'base64url').length, 32);
  }
  for (const text of ['', 'pgsso_', `${SECRET}A`, `${SECRET}\n`, SECRET.slice(1), `x${SECRET}`])
    t.notOk(isSecret(text), text);
});

t.test(
  'a valid key decides the user, whatever the user claim and the identity map say',
  async (t) => {
    const expected = { user: 'batch', principal: 'nightly', apiKey: 'nightly', issuer: ISSUER };
    t.match(await login(change()), expected);
    t.match(await login(change({ claims: { sub: undefined } })), expected, 'without a user claim');
    t.match(
      await login(
        change({ settings: { 'server.identity_map.configuration': rulesOf(() => undefined) } }),
      ),
      expected,
    );
    t.match(await login(change({ user: 'Batch' })), expected, 'the startup user is folded');
    t.match(await login(change({}, { user: 'BATCH' })), expected, 'and so is that of the key');
    t.match(await login(change({}, { expiresAt: NOW + 1 })), expected, 'until it expires');
  },
);

t.test('without a valid key, the user claim decides', async (t) => {
  const fallbacks: [string, LoginChange][] = [
    ['an unknown key', change({ claims: { key: newSecret() } })],
    ['a key that expires now', change({}, { expiresAt: NOW })],
    ['a key that was dropped', change({ settings: withKeys() })],
    ['the digest in place of the secret', change({ claims: { key: KEY.digest } })],
    ['the name in place of the secret', change({ claims: { key: KEY.name } })],
    ['a list with the secret', change({ claims: { key: [SECRET] } })],
    ['null', change({ claims: { key: null } })],
    ['a very long text', change({ claims: { key: 'pgsso_'.repeat(5000) } })],
    ['no such claim', change({ claims: { key: undefined } })],
    [
      'no claim configured',
      change({ settings: { 'server.jwt_authentication.api_key_claim': '' } }),
    ],
    ['the secret in another claim', change({ claims: { key: undefined, api_key: SECRET } })],
    ['a key whose user is not a SQL name', change({}, { user: 'b\u200batch' })],
  ];
  for (const [what, login_] of fallbacks) {
    const identity = await login(login_);
    t.match(identity, { user: 'alice', principal: 'alice' }, what);
    t.notOk('apiKey' in identity, what);
  }
});

t.test(
  'all other checks are made as usual, and no refusal shows the key or its name',
  async (t) => {
    const refused: [LoginChange, string, RegExp | undefined][] = [
      [
        change({ user: 'alice' }),
        'user_not_in_token',
        /^token issued for \[an API key\] and login was for alice$/,
      ],
      [change({}, { user: 'root' }), 'reserved_user', /root$/],
      [change({ options: { reservedUsers: ['batch'] } }), 'reserved_user', /batch$/],
      [change({ claims: { aud: 'billing' } }), 'invalid_audience', /billing/],
      [change({ namesRole: true }), 'role_in_startup', undefined],
      [change({ claims: { exp: 1 } }), 'invalid_token', undefined],
      [change({ claims: { iss: 'https://evil.example' } }), 'invalid_issuer', undefined],
      [change({ header: { kid: 'other' } }), 'invalid_token', undefined],
      [
        change({ settings: { 'server.jwt_authentication.enabled': false } }),
        'jwt_not_enabled',
        undefined,
      ],
    ];
    for (const [attempt, code, detail] of refused) {
      const { message, reason, ...error } = await refusalOf(attempt);
      t.equal(error.code, code);
      if (detail) t.match(error.detail, detail);
      t.notMatch(`${message} ${error.detail}`, /nightly/, code);
      t.notMatch(`${message} ${error.detail} ${reason}`, SECRET, code);
    }
    const { values } = buildSnapshot({
      stored: new Map(),
      processDefaults: new Map(),
      previous: undefined,
    });
    t.notMatch(creationRefusal(await login(change()), values).detail, /nightly/);
  },
);

t.test('the log says why a key did not count', async (t) => {
  const none = { claims: { sub: undefined } };
  t.match(
    (await refusalOf(change(none, { expiresAt: NOW }))).reason,
    /no claim sub \(the expired API key nightly in the claim key\)/,
  );
  const unknown = change({ claims: { sub: undefined, key: newSecret() } });
  t.match((await refusalOf(unknown)).reason, /\(an unknown API key in the claim key\)/);
  t.match(
    (await refusalOf(change({ user: 'batch' }, { expiresAt: NOW }))).reason,
    /the expired API key nightly/,
  );
});

t.test(
  'a key that is dropped is refused at the next login, even with a verified token',
  async (t) => {
    const verified = new VerifiedTokens(() => NOW);
    const authenticator = authenticatorOf({ verified });
    const { signal } = new AbortController();
    const attempt = change({ user: 'batch' });
    const request = requestOf(attempt);
    const before = settingsOf(attempt.settings);
    t.match(await authenticator.authenticate(request, before, signal), { user: 'batch' });
    t.ok(
      verified.has(request.token, before['server.jwt_authentication.jwks'], before),
      'the signature is remembered',
    );
    const after = settingsOf({ ...before, ...withKeys() });
    await t.rejects(authenticator.authenticate(request, after, signal), {
      code: 'user_not_in_token',
    });
  },
);

t.test(
  'a key that expires between two logins with the same settings and token is refused',
  async (t) => {
    let now = NOW;
    const authenticator = authenticatorOf({ now: () => now });
    const { signal } = new AbortController();
    const attempt = change({ user: 'batch' }, { expiresAt: NOW + 1000 });
    const request = requestOf(attempt);
    const values = settingsOf(attempt.settings);
    t.match(await authenticator.authenticate(request, values, signal), { user: 'batch' });
    now += 1000;
    await t.rejects(authenticator.authenticate(request, values, signal), {
      code: 'user_not_in_token',
    });
  },
);

t.test(
  'the last use is that of a login that succeeded, not of an explanation or a refusal',
  async (t) => {
    const apiKeyUses = new ApiKeyUses();
    const options = { apiKeyUses };
    await refusalOf(change({ options, user: 'alice' }));
    const attempt = change();
    const { signal } = new AbortController();
    const { checks, identity } = await explainLogin(
      authenticatorOf(options),
      requestOf(attempt),
      settingsOf(attempt.settings),
      signal,
    );
    t.match(identity, { user: 'batch' });
    t.match(
      checks
        .filter(({ check }) => ['claim', 'principal', 'names'].includes(check))
        .map(({ found }) => found),
      ['key', 'the API key nightly', '[batch]'],
    );
    t.equal(apiKeyUses.lastUse(KEY), undefined);
    await login(change({ options }));
    t.equal(apiKeyUses.lastUse(KEY), NOW);
    t.equal(
      apiKeyUses.lastUse({ ...KEY, digest: digestOf(newSecret()) }),
      undefined,
      'a new key of the same name was not used',
    );
  },
);

t.test('the number of remembered uses is bounded, and the oldest is forgotten', async (t) => {
  const apiKeyUses = new ApiKeyUses();
  const note = (number: number): void =>
    apiKeyUses.note({ ...KEY, digest: `${number}` }, NOW + number);
  for (let number = 0; number < API_KEY_LIMIT; number++) note(number);
  note(0);
  note(API_KEY_LIMIT);
  t.equal(apiKeyUses.lastUse({ ...KEY, digest: '0' }), NOW, 'it was used again');
  t.equal(apiKeyUses.lastUse({ ...KEY, digest: '1' }), undefined);
  t.equal(apiKeyUses.lastUse({ ...KEY, digest: '2' }), NOW + 2);
});
