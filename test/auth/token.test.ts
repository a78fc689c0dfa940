/** Malformed tokens, and attacks on the signature. */

import fc from 'fast-check';
import t from 'tap';
import { parseToken } from '../../src/auth/token.ts';
import type { VerificationKey } from '../../src/settings/jwks.ts';
import {
  assembleToken,
  encode,
  mintToken,
  publicJwk,
  type SigningAlgorithm,
  signNothing,
  signWith,
  signWithSecret,
  testKey,
} from '../support/tokens.ts';
import { CLAIMS, KEY, login, refusalOf, SECONDS, verificationKey } from './login.ts';

const HEADER = JSON.stringify({ alg: 'ES256', kid: KEY.kid });
const PAYLOAD = JSON.stringify(CLAIMS);
const GOOD = assembleToken(HEADER, PAYLOAD, signWith(KEY));
const [goodHeader = '', goodPayload = '', goodSignature = ''] = GOOD.split('.');

const BAD_SIGNATURE =
  'unable to parse token: could not verify message using any of the signatures or keys';
const unknownKey = (kid: string) =>
  'unable to parse token: key provider 0 failed: ' +
  `failed to find key with key ID "${kid}" in key set`;

function withHeader(members: object): string {
  return mintToken(KEY, CLAIMS, { ...members });
}

function withClaims(members: object): string {
  return mintToken(KEY, { ...CLAIMS, ...members });
}

function withPayload(payload: string | Buffer): string {
  return assembleToken(HEADER, payload, signWith(KEY));
}

function withKeys(...keys: readonly VerificationKey[]) {
  return { 'server.jwt_authentication.jwks': keys };
}

const malformed: readonly [string, string, string][] = [
  ['no dot', 'alice', 'the token is not three parts separated by dots'],
  ['one dot', 'a.b', 'the token is not three parts separated by dots'],
  ['four parts', `${GOOD}.`, 'the token is not three parts separated by dots'],
  ['the five parts of a JWE', 'a.b.c.d.e', 'the token is not three parts separated by dots'],
  ['nothing but dots', '.'.repeat(65_535), 'the token is not three parts separated by dots'],
  [
    'more than a password may hold',
    `${GOOD}${'A'.repeat(65_536)}`,
    'the token is longer than 65535 bytes',
  ],
  ['an empty header', `.${goodPayload}.${goodSignature}`, 'the header is not unpadded base64url'],
  ['an empty payload', `${goodHeader}..${goodSignature}`, 'the payload is not unpadded base64url'],
  [
    'an empty signature',
    `${goodHeader}.${goodPayload}.`,
    'the signature is not unpadded base64url',
  ],
  [
    'padding',
    `${goodHeader}.${goodPayload}.${goodSignature}==`,
    'the signature is not unpadded base64url',
  ],
  [
    'plain base64',
    `${goodHeader}.${goodPayload}.${'+/'.repeat(43)}`,
    'the signature is not unpadded base64url',
  ],
  [
    'bits after the last byte',
    `${goodHeader}.${goodPayload}.AB`,
    'the signature is not unpadded base64url',
  ],
  [
    'a length that base64 cannot have',
    `${goodHeader}.${goodPayload}.AAAAA`,
    'the signature is not unpadded base64url',
  ],
  ['white space at the end', `${GOOD}\n`, 'the signature is not unpadded base64url'],
  ['white space at the front', ` ${GOOD}`, 'the header is not unpadded base64url'],
  [
    'letters that are not ASCII',
    `${goodHeader}.${goodPayload}.ÄÄÄÄ`,
    'the signature is not unpadded base64url',
  ],
  [
    'a header that is not JSON',
    assembleToken('alg', PAYLOAD, signWith(KEY)),
    'the header is not JSON',
  ],
  [
    'a header that is null',
    assembleToken('null', PAYLOAD, signWith(KEY)),
    'the header is not a JSON object',
  ],
  ['a payload that is an array', withPayload('[]'), 'the payload is not a JSON object'],
  ['a payload that is text', withPayload('"alice"'), 'the payload is not a JSON object'],
  ['a payload that is cut off', withPayload(PAYLOAD.slice(0, -1)), 'the payload is not JSON'],
  ['a payload with more text after it', withPayload(`${PAYLOAD}{}`), 'the payload is not JSON'],
  ['a byte order mark', withPayload(`\ufeff${PAYLOAD}`), 'the payload is not JSON'],
  [
    'a payload in latin1',
    withPayload(Buffer.from('{"sub":"é"}', 'latin1')),
    'the payload is not UTF-8',
  ],
  [
    'an encoded surrogate',
    withPayload(Buffer.from('{"sub":"\xed\xa0\x80"}', 'latin1')),
    'the payload is not UTF-8',
  ],
  [
    'deep nesting',
    withPayload(`{"a":${'['.repeat(32)}${']'.repeat(32)}}`),
    'the payload is nested deeper than 32 levels',
  ],
  [
    'bottomless nesting',
    withPayload(`{"a":${'['.repeat(24_000)}${']'.repeat(24_000)}}`),
    'the payload is nested deeper than 32 levels',
  ],
  [
    'two subjects',
    withPayload(`{"sub":"root",${PAYLOAD.slice(1)}`),
    'the payload names a member twice',
  ],
  [
    'two subjects, one of them escaped',
    withPayload(`{"s\\u0075b" : "x",${PAYLOAD.slice(1)}`),
    'the payload names a member twice',
  ],
  [
    'two members of one name further down',
    withPayload('{"a":[{"b":{"c":1,"c":2}}]}'),
    'the payload names a member twice',
  ],
  [
    'two algorithms',
    assembleToken('{"alg":"ES256","alg":"none"}', PAYLOAD, signWith(KEY)),
    'the header names a member twice',
  ],
  ['no algorithm', withHeader({ alg: undefined }), 'the header has no "alg" that is a string'],
  [
    'an algorithm that is a list',
    withHeader({ alg: ['ES256'] }),
    'the header has no "alg" that is a string',
  ],
  ...['none', 'None', 'NONE', 'nOnE'].flatMap((alg): [string, string, string][] => [
    [`the algorithm ${alg}`, withHeader({ alg }), 'the token is not signed'],
    [
      `the algorithm ${alg} and no signature`,
      assembleToken(JSON.stringify({ alg }), PAYLOAD, signNothing),
      'the token is not signed',
    ],
  ]),
  ['encryption', withHeader({ alg: 'dir', enc: 'A256GCM' }), 'the token is encrypted'],
  ['compression', withHeader({ zip: 'DEF' }), 'the token is encrypted'],
  [
    'an unencoded payload',
    withHeader({ b64: false, crit: ['b64'] }),
    'the header asks for an extension',
  ],
  [
    'an unencoded payload in disguise',
    withHeader({ b64: true }),
    'the header asks for an extension',
  ],
  [
    'a critical extension',
    withHeader({ crit: ['https://example/x'], 'https://example/x': 1 }),
    'the header asks for an extension',
  ],
  ['an empty list of extensions', withHeader({ crit: [] }), 'the header asks for an extension'],
  ['a critical exp', withHeader({ crit: ['exp'], exp: 1 }), 'the header asks for an extension'],
  ['a nested token', withHeader({ cty: 'JWT' }), 'the token holds another token'],
  [
    'a nested token by its media type',
    withHeader({ cty: 'application/jwt' }),
    'the token holds another token',
  ],
  ['a content type that is no text', withHeader({ cty: {} }), '"cty" is not a string'],
  ['a key ID that is a number', withHeader({ kid: 1 }), '"kid" is not a string'],
  ['a key ID that is null', withHeader({ kid: null }), '"kid" is not a string'],
  ...['iss', 'sub'].flatMap((name) =>
    [1, true, null, ['x'], {}].map((value): [string, string, string] => [
      `${name} ${JSON.stringify(value)}`,
      withClaims({ [name]: value }),
      `"${name}" is not a string`,
    ]),
  ),
  ...[1, null, {}, [1], ['pgsso', null], [['pgsso']]].map((value): [string, string, string] => [
    `aud ${JSON.stringify(value)}`,
    withClaims({ aud: value }),
    '"aud" is neither a string nor an array of strings',
  ]),
  ...['exp', 'nbf', 'iat'].flatMap((name) =>
    ['"1795435200"', 'true', 'null', '[]', '{}', '1e400', '-1e400', '1e300', '8640000000001'].map(
      (value): [string, string, string] => [
        `${name} ${value}`,
        withPayload(
          PAYLOAD.replace(/"(exp|iat)":\d+/g, '"x$1":0').replace('{', `{"${name}":${value},`),
        ),
        `"${name}" is not a number of seconds since 1970`,
      ],
    ),
  ),
];

t.test('check 2 refuses a token with', async (t) => {
  for (const [what, token, cause] of malformed) {
    const { code, sqlstate, message, detail } = await refusalOf({ token });
    t.strictSame(
      { code, sqlstate, message, detail },
      {
        code: 'malformed_token',
        sqlstate: '28000',
        message: 'JWT authentication: invalid token',
        detail: `token parsing failed: ${cause}`,
      },
      what,
    );
  }
});

t.test('header members that are not read do not matter', async (t) => {
  const attacker = testKey('ES256', 'attacker');
  for (const header of [
    { typ: 'at+jwt' },
    { typ: undefined },
    { typ: 1 },
    { cty: 'json' },
    { jwk: publicJwk(attacker) },
    { x5t: 'x' },
  ]) {
    t.match(await login({ header }), { user: 'alice' }, JSON.stringify(header));
  }
});

t.test('every algorithm of a key verifies, each with its own kind of key only', async (t) => {
  const algorithms: readonly SigningAlgorithm[] = [
    ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const),
    ...(['ES256', 'ES384', 'ES512', 'EdDSA'] as const),
  ];
  const rsa = testKey('RS256');
  for (const algorithm of algorithms) {
    const key = /^[RP]S/.test(algorithm) ? { ...rsa, algorithm } : testKey(algorithm);
    const settings = withKeys({ ...verificationKey(key), kid: 'key' });
    const token = mintToken(key, CLAIMS, { kid: 'key' });
    t.match(await login({ token, settings }), { user: 'alice' }, algorithm);
    const details = new Map<string, string | undefined>();
    for (const other of algorithms.filter((other) => other !== algorithm)) {
      const token = mintToken(key, CLAIMS, { kid: 'key', alg: other });
      details.set(other, (await refusalOf({ token, settings })).detail);
    }
    t.strictSame(new Set(details.values()), new Set([BAD_SIGNATURE]), `not by ${algorithm}`);
  }
});

t.test(
  'a key without an algorithm of its own verifies those of its type, and no other',
  async (t) => {
    const rsa = testKey('RS256');
    const settings = withKeys({ ...verificationKey(rsa), algorithms: ['RS256', 'PS256'] });
    for (const algorithm of ['RS256', 'PS256'] as const) {
      t.match(
        await login({ token: mintToken({ ...rsa, algorithm }, CLAIMS), settings }),
        { user: 'alice' },
        algorithm,
      );
    }
    t.equal(
      (await refusalOf({ token: mintToken({ ...rsa, algorithm: 'RS512' }, CLAIMS), settings }))
        .detail,
      BAD_SIGNATURE,
    );
  },
);

t.test('without a key ID', async (t) => {
  const first = verificationKey(testKey('ES256', 'first'));
  const second = verificationKey(testKey('ES256', 'second'));
  const rsa = verificationKey(testKey('RS256'));
  const token = mintToken(testKey('ES256', 'first'), CLAIMS, { kid: undefined });
  t.match(
    await login({ token, settings: withKeys(first) }),
    { user: 'alice' },
    'the only key is used',
  );
  t.match(
    await login({ token, settings: withKeys(rsa, first) }),
    { user: 'alice' },
    'so is the only one that fits the algorithm',
  );
  const refused: readonly [string, readonly VerificationKey[]][] = [
    ['one of two that fit is not used', [first, second]],
    ['a key that does not fit is not used', [rsa]],
    ['an empty set has no key', []],
  ];
  for (const [what, keys] of refused) {
    t.equal((await refusalOf({ token, settings: withKeys(...keys) })).detail, unknownKey(''), what);
  }
});

t.test('if several keys have one ID, any of them may have signed', async (t) => {
  const [first, second, third] = (['first', 'second', 'third'] as const).map((kid) =>
    testKey('ES256', kid),
  );
  const keys = [first, second].flatMap((key) =>
    key ? [{ ...verificationKey(key), kid: 'same' }] : [],
  );
  const settings = withKeys({ ...verificationKey(testKey('RS256')), kid: 'same' }, ...keys);
  t.match(await login({ token: mintToken(second ?? KEY, CLAIMS, { kid: 'same' }), settings }), {
    user: 'alice',
  });
  t.equal(
    (await refusalOf({ token: mintToken(third ?? KEY, CLAIMS, { kid: 'same' }), settings })).detail,
    BAD_SIGNATURE,
  );
});

t.test('an attack on the signature is refused:', async (t) => {
  const rsa = testKey('RS256');
  const attacker = testKey('ES256', 'attacker');
  const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' });
  const der = rsa.publicKey.export({ type: 'spki', format: 'der' });
  const hmac = (kid: string | undefined) => JSON.stringify({ alg: 'HS256', kid });
  const settings = withKeys(verificationKey(rsa), verificationKey(KEY));
  const embedded = {
    jwk: publicJwk(attacker),
    jku: 'https://evil.example/jwks',
    x5u: 'https://evil.example/cert',
    x5c: ['MIIB'],
  };
  const signature = signWith(KEY)(`${goodHeader}.${goodPayload}`);
  const changed = Buffer.from(goodSignature, 'base64url');
  changed.writeUInt8(changed.readUInt8(0) ^ 1);
  const attacks: readonly [string, string, string][] = [
    [
      'the public key as PEM, used as the secret of an HMAC',
      assembleToken(hmac(rsa.kid), PAYLOAD, signWithSecret(pem)),
      BAD_SIGNATURE,
    ],
    [
      'the public key as DER, used as the secret',
      assembleToken(hmac(rsa.kid), PAYLOAD, signWithSecret(der)),
      BAD_SIGNATURE,
    ],
    [
      'the same without a key ID',
      assembleToken(hmac(undefined), PAYLOAD, signWithSecret(pem)),
      unknownKey(''),
    ],
    ['an empty secret', assembleToken(hmac(KEY.kid), PAYLOAD, signWithSecret('')), BAD_SIGNATURE],
    ['a key in the header', mintToken(attacker, CLAIMS, embedded), unknownKey('attacker')],
    [
      'a key in the header under a known ID',
      mintToken(attacker, CLAIMS, { ...embedded, kid: KEY.kid }),
      BAD_SIGNATURE,
    ],
    [
      'a key in the header without an ID',
      mintToken(attacker, CLAIMS, { ...embedded, kid: undefined }),
      BAD_SIGNATURE,
    ],
    [
      'a path for a key ID',
      mintToken(KEY, CLAIMS, { kid: '../../dev/null' }),
      unknownKey('../../dev/null'),
    ],
    ['an ID of another key', mintToken(KEY, CLAIMS, { kid: rsa.kid }), BAD_SIGNATURE],
    ['an empty key ID', mintToken(KEY, CLAIMS, { kid: '' }), unknownKey('')],
    ['an algorithm in lower case', mintToken(KEY, CLAIMS, { alg: 'es256' }), BAD_SIGNATURE],
    ['an unknown algorithm', mintToken(KEY, CLAIMS, { alg: 'constructor' }), BAD_SIGNATURE],
    [
      'another payload under a good signature',
      `${goodHeader}.${encode(PAYLOAD.replace('alice', 'root'))}.${goodSignature}`,
      BAD_SIGNATURE,
    ],
    [
      'another header under a good signature',
      `${encode(HEADER.replace('{', '{"typ":"x",'))}.${goodPayload}.${goodSignature}`,
      BAD_SIGNATURE,
    ],
    ['one bit of the signature', `${goodHeader}.${goodPayload}.${encode(changed)}`, BAD_SIGNATURE],
    [
      'half of the signature',
      `${goodHeader}.${goodPayload}.${goodSignature.slice(0, 44)}`,
      BAD_SIGNATURE,
    ],
    [
      'a byte after the signature',
      `${goodHeader}.${goodPayload}.${encode(Buffer.concat([signature, Buffer.of(0)]))}`,
      BAD_SIGNATURE,
    ],
    [
      'a signature of zeros (CVE-2022-21449)',
      `${goodHeader}.${goodPayload}.${encode(Buffer.alloc(64))}`,
      BAD_SIGNATURE,
    ],
  ];
  for (const [what, token, detail] of attacks) {
    const error = await refusalOf({ token, settings });
    t.match(
      error,
      {
        code: 'invalid_token',
        sqlstate: '28000',
        message: 'JWT authentication: invalid token',
        detail,
      },
      what,
    );
  }
});

t.test('a curve is bound to its algorithm', async (t) => {
  const p384 = testKey('ES384');
  const settings = withKeys({ ...verificationKey(p384), algorithms: ['ES256'] });
  const token = assembleToken(
    JSON.stringify({ alg: 'ES256', kid: p384.kid }),
    PAYLOAD,
    signWith(p384, 'ES256'),
  );
  t.equal(
    (await refusalOf({ token, settings })).detail,
    BAD_SIGNATURE,
    'even if the key set says otherwise',
  );
});

t.test('an unknown key ID is shown escaped and cut', async (t) => {
  const { detail } = await refusalOf({
    header: { kid: `a\r\n\u001b[2J\u202e${'x'.repeat(9000)}` },
  });
  t.equal(detail, unknownKey(`a\\x0d\\x0a\\x1b[2J\\xe2\\x80\\xae${'x'.repeat(228)}`));
});

t.test('a token is parsed into what the checks need', async (t) => {
  const { claims, ...token } = parseToken(withClaims({ nbf: SECONDS + 0.5, aud: ['a', 'b'] }));
  t.match(token, {
    algorithm: 'ES256',
    kid: 'ES256',
    audiences: ['a', 'b'],
    notBefore: SECONDS * 1000 + 500,
  });
  t.equal(claims.get('sub'), 'alice');
  t.equal(parseToken(withPayload('{"__proto__":{"sub":"root"}}')).claims.get('sub'), undefined);
});

t.test('any other text than a good token is refused with SQLSTATE 28000', async (t) => {
  const part = fc.oneof(
    fc.string(),
    fc.constantFrom(goodHeader, goodPayload, goodSignature, ''),
    fc.oneof(fc.json(), fc.string({ unit: 'binary' })).map(encode),
    fc
      .dictionary(
        fc.constantFrom('alg', 'kid', 'crit', 'iss', 'sub', 'aud', 'exp', 'nbf', '__proto__'),
        fc.jsonValue(),
      )
      .map((value) => encode(JSON.stringify(value))),
  );
  const text = fc.oneof(
    fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('.')),
    fc
      .tuple(fc.nat(GOOD.length - 1), fc.string({ maxLength: 2 }))
      .map(([at, put]) => GOOD.slice(0, at) + put + GOOD.slice(at + 1)),
  );
  await fc.assert(
    fc.asyncProperty(text, async (token) => {
      fc.pre(token !== GOOD);
      const error = await refusalOf({ token });
      return error.sqlstate === '28000' && Buffer.byteLength(`${error.detail}`) < 30_000;
    }),
    { numRuns: 500 },
  );
  t.pass('500 texts');
});

t.test('signed claims of any kind lead to an identity or to SQLSTATE 28000', async (t) => {
  const members = fc.dictionary(
    fc.constantFrom('sub', 'aud', 'nbf', 'iat', 'who', 'email_verified', '__proto__'),
    fc.oneof(fc.jsonValue(), fc.constant('alice'), fc.array(fc.string({ unit: 'binary' }))),
  );
  await fc.assert(
    fc.asyncProperty(
      members,
      fc.constantFrom('', 'who', 'aud', '__proto__'),
      async (claims, claim) => {
        const change = {
          token: withClaims(claims),
          user: undefined,
          settings: { 'server.jwt_authentication.claim': claim },
        };
        const outcome = await login(change).catch((error: unknown) => error);
        t.ok(
          outcome instanceof Error ? 'sqlstate' in outcome && outcome.sqlstate === '28000' : true,
        );
      },
    ),
    { numRuns: 300 },
  );
});
