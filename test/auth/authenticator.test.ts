/** The eleven checks: their texts for the client and the log, and their order. */

import t from 'tap';
import { CheckFailure, type CheckName, checks } from '../../src/auth/refusals.ts';
import type { KeySource } from '../../src/keys/key-source.ts';
import { mintToken, testKey } from '../support/tokens.ts';
import {
  authenticatorOf,
  CLAIMS,
  ISSUER,
  KEY,
  type LoginChange,
  login,
  NOW,
  refusalOf,
  requestOf,
  rulesOf,
  SECONDS,
  settingsOf,
  verificationKey,
} from './login.ts';

const long = 'x'.repeat(300);
const invalidClaim = (value: string) => `the value ${value} for the issuer ${ISSUER} is invalid`;

interface Refused {
  readonly when: string;
  readonly change: LoginChange;
  readonly check: CheckName;
  readonly detail: string | undefined;
}

function claim(name: string): NonNullable<LoginChange['settings']> {
  return { 'server.jwt_authentication.claim': name };
}

/** A source whose issuer is unavailable. */
const unavailableKeys: KeySource = {
  keysFor: () =>
    Promise.reject(
      new CheckFailure('keys', { found: 'an issuer that is away', fault: 'identity provider' }),
    ),
  refresh: async () => undefined,
  describe: () => [],
};

const refused: readonly Refused[] = [
  {
    when: 'token logins are not enabled',
    change: { settings: { 'server.jwt_authentication.enabled': false } },
    check: 'enabled',
    detail: undefined,
  },
  {
    when: 'the password is not a token',
    change: { token: 'secret' },
    check: 'token',
    detail: 'token parsing failed: the token is not three parts separated by dots',
  },
  {
    when: 'the issuer is not a configured one',
    change: { claims: { iss: 'https://evil.example' } },
    check: 'issuer',
    detail: 'token issued by https://evil.example',
  },
  {
    when: 'the issuer differs by a slash',
    change: { claims: { iss: `${ISSUER}/` } },
    check: 'issuer',
    detail: `token issued by ${ISSUER}/`,
  },
  {
    when: 'the token has no issuer',
    change: { claims: { iss: undefined } },
    check: 'issuer',
    detail: 'token issued by ',
  },
  {
    when: 'an empty issuer is configured and sent',
    change: {
      claims: { iss: '' },
      settings: {
        'server.jwt_authentication.issuers.configuration': { issuers: [''], jwksUris: undefined },
      },
    },
    check: 'issuer',
    detail: 'token issued by ',
  },
  {
    when: 'the keys cannot be had',
    change: { options: { keys: unavailableKeys } },
    check: 'keys',
    detail: undefined,
  },
  {
    when: 'the key ID is unknown',
    change: { header: { kid: 'stranger' } },
    check: 'signature',
    detail:
      'unable to parse token: key provider 0 failed: ' +
      'failed to find key with key ID "stranger" in key set',
  },
  {
    when: 'another key signed under the known key ID',
    change: { token: mintToken(testKey('ES256', 'stranger'), CLAIMS, { kid: KEY.kid }) },
    check: 'signature',
    detail: 'unable to parse token: could not verify message using any of the signatures or keys',
  },
  {
    when: 'the token expires now',
    change: { claims: { exp: SECONDS } },
    check: 'signature',
    detail: 'unable to parse token: "exp" not satisfied',
  },
  {
    when: 'exp lies before 1970',
    change: { claims: { exp: -1 } },
    check: 'signature',
    detail: 'unable to parse token: "exp" not satisfied',
  },
  {
    when: 'the token never expires',
    change: { claims: { exp: undefined } },
    check: 'signature',
    detail: 'unable to parse token: "exp" not satisfied: required claim not found',
  },
  {
    when: 'nbf is further ahead than the tolerance',
    change: { claims: { nbf: SECONDS + 5.001 } },
    check: 'signature',
    detail: 'unable to parse token: "nbf" not satisfied',
  },
  {
    when: 'iat is further ahead than the tolerance',
    change: { claims: { iat: SECONDS + 5.001 } },
    check: 'signature',
    detail: 'unable to parse token: "iat" not satisfied',
  },
  {
    when: 'there is no subject',
    change: { claims: { sub: undefined } },
    check: 'claim',
    detail: 'token does not contain a claim for sub',
  },
  {
    when: 'the subject is empty',
    change: { claims: { sub: '' } },
    check: 'claim',
    detail: 'token does not contain a claim for sub',
  },
  {
    when: 'the configured claim is missing',
    change: { settings: claim('email') },
    check: 'claim',
    detail: 'token does not contain a claim for email',
  },
  {
    when: 'the configured claim is an empty array',
    change: { claims: { names: [] }, settings: claim('names') },
    check: 'claim',
    detail: 'token does not contain a claim for names',
  },
  ...['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'length'].map(
    (name): Refused => ({
      when: `the claim ${name} is only inherited`,
      change: { settings: claim(name) },
      check: 'claim',
      detail: `token does not contain a claim for ${name}`,
    }),
  ),
  ...(
    [
      ['null', null, 'null'],
      ['a fraction', 1.5, '1.5'],
      ['an integer that JSON rounds', 2 ** 53, '9007199254740992'],
      ['an object', { id: 1 }, '{"id":1}'],
      ['an array in an array', [['alice']], '["alice"]'],
      ['alice beside an object', ['alice', {}], '{}'],
      ['an array of empty text', [''], ''],
      ['text with a newline', 'alice\nbob', 'alice\\x0abob'],
      ['text with NUL', 'alice\0', 'alice\\x00'],
      ['text with a zero-width space', 'ali\u200bce', 'ali\\xe2\\x80\\x8bce'],
      ['text with a right-to-left override', '\u202eecila', '\\xe2\\x80\\xaeecila'],
      ['half a surrogate pair', 'alice\ud83d', 'alice\\xef\\xbf\\xbd'],
      ['a name of 64 bytes', 'x'.repeat(64), 'x'.repeat(64)],
      ['a name of 300 bytes', long, 'x'.repeat(256)],
      ['a name that folding makes longer than 63 bytes', '\u0130'.repeat(31), '\u0130'.repeat(31)],
      [
        'more principals than are considered',
        Array(257).fill('a'),
        JSON.stringify(Array(257).fill('a')).slice(0, 256),
      ],
    ] as const
  ).map(
    ([what, value, shown]): Refused => ({
      when: `the principal is ${what}`,
      change: { claims: { who: value }, settings: claim('who') },
      check: 'principal',
      detail: invalidClaim(shown),
    }),
  ),
  ...[false, 'false', null, 0].map(
    (verified): Refused => ({
      when: `the address is not verified: ${JSON.stringify(verified)}`,
      change: { claims: { email: 'alice', email_verified: verified }, settings: claim('email') },
      check: 'principal',
      detail: invalidClaim('alice'),
    }),
  ),
  {
    when: 'the address is not verified, and found by a pointer',
    change: { claims: { email: 'alice', email_verified: false }, settings: claim('/email') },
    check: 'principal',
    detail: invalidClaim('alice'),
  },
  {
    when: 'a pointer finds nothing',
    change: { claims: { a: { b: 'alice' } }, settings: claim('/a/c') },
    check: 'claim',
    detail: 'token does not contain a claim for /a/c',
  },
  {
    when: 'a pointer finds an object',
    change: { claims: { a: { b: { c: 'alice' } } }, settings: claim('/a/b') },
    check: 'principal',
    detail: invalidClaim('{"c":"alice"}'),
  },
  {
    when: 'the identity map yields nothing but an unusable name',
    change: { settings: { 'server.identity_map.configuration': rulesOf(() => long) } },
    check: 'principal',
    detail: invalidClaim('alice'),
  },
  {
    when: 'the issuer has rules and none matches',
    change: {
      claims: { who: ['alice', 'bob'] },
      settings: { ...claim('who'), 'server.identity_map.configuration': rulesOf(() => undefined) },
    },
    check: 'names',
    detail: invalidClaim('[alice bob]'),
  },
  {
    when: 'the user is another',
    change: { claims: { who: ['alice', 'bob'] }, settings: claim('who'), user: 'Carol' },
    check: 'user',
    detail: 'token issued for [alice bob] and login was for carol',
  },
  {
    when: 'the user is another than the one that the principal is mapped to',
    change: { settings: { 'server.identity_map.configuration': rulesOf(() => 'mapped') } },
    check: 'user',
    detail: 'token issued for [alice] and login was for alice',
  },
  {
    when: 'there is no user and two to choose from',
    change: { claims: { who: ['alice', 'bob'] }, settings: claim('who'), user: undefined },
    check: 'user',
    detail: 'token issued for [alice bob] and login was for ',
  },
  {
    when: 'the list of principals is long',
    change: { claims: { who: Array(200).fill('a') }, settings: claim('who'), user: 'b' },
    check: 'user',
    detail: `token issued for [${'a '.repeat(16)}…] and login was for b`,
  },
  ...[
    'root',
    'ROOT',
    'node',
    'public',
    'none',
    'admin',
    'postgres',
    'pg_monitor',
    'PG_x',
    'crdb_internal_x',
    'Operator',
  ].map(
    (user): Refused => ({
      when: `the user ${user} is reserved`,
      change: { claims: { sub: user }, user, options: { reservedUsers: ['OPERATOR'] } },
      check: 'reserved',
      detail: `cannot use JWT auth to login to a reserved user ${user.toLowerCase()}`,
    }),
  ),
  {
    when: 'a principal is mapped to a reserved user',
    change: {
      settings: { 'server.identity_map.configuration': rulesOf(() => 'Root') },
      user: undefined,
    },
    check: 'reserved',
    detail: 'cannot use JWT auth to login to a reserved user root',
  },
  {
    when: 'the token is for others',
    change: { claims: { aud: ['a', 'b'] } },
    check: 'audience',
    detail: 'token issued with an audience of [a b]',
  },
  {
    when: 'the token is for nobody',
    change: { claims: { aud: undefined } },
    check: 'audience',
    detail: 'token issued with an audience of []',
  },
  {
    when: 'an empty audience is configured and sent',
    change: { claims: { aud: '' } },
    check: 'audience',
    detail: 'token issued with an audience of []',
  },
  {
    when: 'audiences differ by case',
    change: { claims: { aud: 'PGSSO' } },
    check: 'audience',
    detail: 'token issued with an audience of [PGSSO]',
  },
  {
    when: 'the startup message names a role',
    change: { namesRole: true },
    check: 'role',
    detail: 'a login with a token may not name role or session_authorization',
  },
];

for (const { when, change, check, detail } of refused) {
  t.test(`refused by check ${checks[check].number} (${check}) when ${when}`, async (t) => {
    const error = await refusalOf(change);
    t.equal(error.code, checks[check].code);
    t.equal(error.sqlstate, '28000');
    t.equal(error.message, checks[check].message);
    t.equal(error.detail, detail);
    t.match(error.reason, new RegExp(`^check ${checks[check].number} \\(${check}\\): found `));
    t.equal(error.fault, check === 'keys' ? 'identity provider' : 'client');
  });
}

t.test('messages are those of the contract', async (t) => {
  t.strictSame(
    Object.values(checks).map(({ message }) => message.replace('JWT authentication: ', '')),
    [
      'not enabled',
      'invalid token',
      'invalid issuer',
      'unable to validate token',
      'invalid token',
      'missing claim',
      'invalid claim value',
      'invalid principal',
      'invalid principal',
      'invalid identity',
      'invalid audience',
      'insufficient scope',
      'claim not accepted',
      'invalid identity',
      'JWT authorization: groups are missing from the token',
      'JWT authorization: No userinfo endpoint',
      'JWT authorization: userinfo lookup failed',
      'JWT authorization: empty group list',
      'invalid identity',
    ],
  );
  t.strictSame(
    Object.values(checks).map(({ number }) => number),
    Object.values(checks).map((_, index) => index + 1),
    'in their order',
  );
  t.equal(
    new Set(Object.values(checks).map(({ code }) => code)).size,
    Object.keys(checks).length,
    'each with a code of its own',
  );
});

t.test('if several checks would fail, the first one decides', async (t) => {
  // Each repair makes one more check pass, and the later ones still fail.
  const wrong = {
    header: { kid: 'stranger' },
    claims: {
      iss: 'https://evil.example',
      exp: 0,
      who: undefined,
      aud: 'others',
      sub: 1,
    } as Record<string, unknown>,
    user: 'bob' as string | undefined,
    namesRole: true,
    settings: {
      ...claim('who'),
      'server.jwt_authentication.enabled': false,
      'server.identity_map.configuration': rulesOf((principal) =>
        principal === 'root' ? 'root' : undefined,
      ),
    } as LoginChange['settings'] & object,
    options: { keys: unavailableKeys } as LoginChange['options'] & object,
  };
  const repairs: readonly [CheckName, () => void][] = [
    ['enabled', () => Object.assign(wrong.settings, { 'server.jwt_authentication.enabled': true })],
    ['token', () => Object.assign(wrong.claims, { sub: '' })],
    ['issuer', () => Object.assign(wrong.claims, { iss: ISSUER })],
    ['keys', () => Object.assign(wrong, { options: {} })],
    ['signature', () => Object.assign(wrong.header, { kid: KEY.kid })],
    ['signature', () => Object.assign(wrong.claims, { exp: SECONDS + 1 })],
    ['claim', () => Object.assign(wrong.claims, { who: 'ro\0ot' })],
    ['principal', () => Object.assign(wrong.claims, { who: 'someone' })],
    ['names', () => Object.assign(wrong.claims, { who: 'root' })],
    ['user', () => Object.assign(wrong, { user: undefined })],
    [
      'reserved',
      () =>
        Object.assign(wrong.settings, {
          'server.identity_map.configuration': rulesOf(() => 'alice'),
        }),
    ],
    ['audience', () => Object.assign(wrong.claims, { aud: 'pgsso' })],
    ['role', () => Object.assign(wrong, { namesRole: false })],
  ];
  for (const [check, repair] of repairs) {
    t.equal((await refusalOf(wrong)).code, checks[check].code, check);
    repair();
  }
  t.match(await login(wrong), { user: 'alice', principal: 'root' });
});

t.test(
  'an examination reports the checks that passed, in order, and stops at a failure',
  async (t) => {
    const passed: string[] = [];
    const { signal } = new AbortController();
    const change = { claims: { aud: 'others' } };
    await t.rejects(
      authenticatorOf().examine(requestOf(change), settingsOf(), signal, (check, found) => {
        passed.push(`${check}: ${found()}`);
      }),
      { name: 'CheckFailure', check: 'audience', details: { found: '[others]' } },
    );
    t.strictSame(passed, [
      'enabled: true',
      'token: algorithm ES256',
      `issuer: ${ISSUER}`,
      'keys: 1 key',
      'signature: a valid signature and exp 2026-11-22T12:05:00.000Z',
      'claim: sub',
      'principal: [alice]',
      'names: [alice]',
      'user: alice',
      'reserved: alice',
    ]);
  },
);

t.test(
  'an identity has the user, the principal, the issuer, the expiry, and groups if they matter',
  async (t) => {
    const expiresAt = NOW + 300_000;
    t.strictSame(await login(), {
      user: 'alice',
      principal: 'alice',
      issuer: ISSUER,
      expiresAt,
      groups: undefined,
    });
  },
);

t.test('a login passes', async (t) => {
  const mapped = rulesOf(
    () => undefined,
    () => 'First',
    (principal) => principal.toUpperCase(),
    () => 'first',
  );
  const passing: readonly [string, LoginChange, object][] = [
    [
      'whatever the case of the user and of the principal',
      { claims: { sub: 'ALICE' }, user: 'aLiCe' },
      { user: 'alice', principal: 'ALICE' },
    ],
    [
      'whatever the normal form',
      { claims: { sub: 'Zoe\u0308' }, user: 'ZO\u00cb' },
      { user: 'zo\u00eb' },
    ],
    ['without a user, when there is one to choose', { user: undefined }, { user: 'alice' }],
    ['with an empty user, likewise', { user: '' }, { user: 'alice' }],
    [
      'without a user, if two principals fold to one name',
      { user: '', claims: { who: ['Bob', 'BOB'] }, settings: claim('who') },
      { principal: 'Bob' },
    ],
    [
      'by any of several principals',
      { user: 'bob', claims: { who: ['alice', 'bob'] }, settings: claim('who') },
      { principal: 'bob' },
    ],
    [
      'with unusable principals beside the usable one',
      { user: 'bob', claims: { who: ['\0', '', long, 'bob'] }, settings: claim('who') },
      { user: 'bob' },
    ],
    [
      'by a boolean',
      { user: 'true', claims: { who: true }, settings: claim('who') },
      { user: 'true' },
    ],
    ['by an integer', { user: '42', claims: { who: 42 }, settings: claim('who') }, { user: '42' }],
    [
      'by the largest integer',
      { user: '9007199254740991', claims: { who: 2 ** 53 - 1 }, settings: claim('who') },
      {},
    ],
    [
      'by a claim with the name of a built-in property',
      { claims: { constructor: 'alice' }, settings: claim('constructor') },
      { user: 'alice' },
    ],
    [
      'by a JSON Pointer',
      {
        user: 'u-1',
        claims: { 'kubernetes.io': { serviceaccount: { uid: 'u-1' } } },
        settings: claim('/kubernetes.io/serviceaccount/uid'),
      },
      { user: 'u-1' },
    ],
    [
      'by a path',
      {
        user: 'bob',
        claims: { access: { users: ['alice', 'bob'] } },
        settings: claim('access.users'),
      },
      { user: 'bob' },
    ],
    ['with the claim sub by name', { settings: claim('sub') }, { user: 'alice' }],
    ['with a name of 63 bytes', { user: 'x'.repeat(63), claims: { sub: 'x'.repeat(63) } }, {}],
    [
      'with a verified address',
      { claims: { email: 'alice', email_verified: true }, settings: claim('email') },
      {},
    ],
    [
      'with an address verified in text',
      { claims: { email: 'alice', email_verified: 'true' }, settings: claim('email') },
      {},
    ],
    [
      'with an address without email_verified',
      { claims: { email: 'alice' }, settings: claim('email') },
      {},
    ],
    [
      'without regard to email_verified for another claim',
      { claims: { email_verified: false } },
      {},
    ],
    [
      'by any rule that matches',
      { user: 'alice', settings: { 'server.identity_map.configuration': mapped } },
      { user: 'alice' },
    ],
    [
      'by an earlier rule',
      { user: 'first', settings: { 'server.identity_map.configuration': mapped } },
      { principal: 'alice' },
    ],
    [
      'by its own name at an issuer without rules',
      {
        claims: { iss: 'https://other.example' },
        settings: { 'server.identity_map.configuration': mapped },
      },
      { user: 'alice' },
    ],
    ['with one of several audiences', { claims: { aud: ['others', 'pgsso'] } }, {}],
    [
      'a millisecond before it expires',
      { claims: { exp: SECONDS + 0.001 } },
      { expiresAt: NOW + 1 },
    ],
    ['with the last date there is', { claims: { exp: 8.64e12 } }, { expiresAt: 8.64e15 }],
    [
      'with nbf and iat ahead by the tolerance',
      { claims: { nbf: SECONDS + 5, iat: SECONDS + 5 } },
      {},
    ],
    [
      'naming a role, where superusers are allowed',
      { namesRole: true, options: { superusers: 'allow' } },
      { user: 'alice' },
    ],
  ];
  for (const [how, change, expected] of passing) {
    t.match(await login(change), expected, how);
  }
});

t.test('the clock tolerance does not extend a token', async (t) => {
  const settings = { 'pgsso.clock_tolerance': 60_000 };
  t.match(await refusalOf({ claims: { exp: SECONDS - 1 }, settings }), {
    detail: /"exp" not satisfied$/,
  });
});

t.test('the log has what would have passed, and the client is not told', async (t) => {
  const error = await refusalOf({ claims: { iss: 'https://evil.example' } });
  t.equal(
    error.reason,
    'check 3 (issuer): found "https://evil.example"; ' +
      `expected one of [${ISSUER} https://other.example]; ` +
      'decided by server.jwt_authentication.issuers.configuration',
  );
  const unknown = await refusalOf({ header: { kid: 'stranger' } });
  t.match(
    unknown.reason,
    'key ID "stranger", algorithm ES256, and a set with the keys [ES256:ES256]',
  );
  const unfetched = await refusalOf({ options: { keys: unavailableKeys } });
  t.match(unfetched.reason, 'an issuer that is away');
});

t.test('no refusal contains a part of the token', async (t) => {
  for (const { change } of refused) {
    const { token } = requestOf(change);
    const { message, detail, reason } = await refusalOf({ ...change, token });
    const parts = token.split('.').filter((part) => part.length > 8);
    t.notOk(parts.some((part) => [message, detail, reason].join().includes(part)));
  }
});

t.test(
  'an ErrorResponse for any token stays below what libpq accepts before authentication',
  async (t) => {
    for (const character of ['😀', '\u200b', '\u0001', '\u{e0041}']) {
      const error = await refusalOf({ claims: { iss: character.repeat(3000) } });
      t.ok(Buffer.byteLength(`${error.detail}`) < 1500);
    }
    const principals = Array.from({ length: 100 }, (_, index) => `${index}${'😀'.repeat(100)}`);
    const settings = {
      ...claim('who'),
      'server.identity_map.configuration': rulesOf(() => 'mapped'),
    };
    const error = await refusalOf({
      claims: { who: principals },
      settings,
      user: 'x'.repeat(5000),
    });
    t.equal(error.code, 'user_not_in_token');
    t.ok(Buffer.byteLength(`${error.detail}`) < 30_000);
  },
);

t.test('a key that is not in the set is asked for once more', async (t) => {
  const asked: string[] = [];
  const source = (newer: TestKeys): KeySource => ({
    async keysFor(issuer) {
      asked.push(`keysFor ${issuer}`);
      return [verificationKey(testKey('ES256', 'old'))];
    },
    async refresh(issuer) {
      asked.push(`refresh ${issuer}`);
      return newer?.map(verificationKey);
    },
    describe: () => [],
  });
  type TestKeys = readonly (typeof KEY)[] | undefined;

  t.match(await login({ options: { keys: source([KEY]) } }), { user: 'alice' });
  t.strictSame(asked.splice(0), [`keysFor ${ISSUER}`, `refresh ${ISSUER}`]);

  for (const newer of [undefined, [testKey('ES256', 'old')]]) {
    t.match(await refusalOf({ options: { keys: source(newer) } }), {
      detail: /failed to find key with key ID "ES256"/,
    });
    t.strictSame(asked.splice(0), [`keysFor ${ISSUER}`, `refresh ${ISSUER}`]);
  }

  await login({
    token: mintToken(testKey('ES256', 'old'), CLAIMS),
    options: { keys: source(undefined) },
  });
  t.strictSame(asked, [`keysFor ${ISSUER}`], 'and not when it is there');
});

t.test('an error that is not a failed check is thrown unchanged', async (t) => {
  const gone = new Error('the login took too long');
  const keys: KeySource = {
    keysFor: () => Promise.reject(gone),
    refresh: async () => undefined,
    describe: () => [],
  };
  await t.rejects(login({ options: { keys } }), gone);
});
