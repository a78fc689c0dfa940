/** The values of settings by type: which are accepted, and the errors of the others. */

import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { PgError } from '../../src/lib/errors.ts';
import { parseAudiences, parseCertificates, parseIssuers } from '../../src/settings/issuers.ts';
import { parseKey, parseKeySet, parsePublishedKeys } from '../../src/settings/jwks.ts';
import { formatDuration, parseBoolean, parseDuration } from '../../src/settings/values.ts';
import { makeAuthority } from '../support/certificates.ts';
import { keySetText, publicJwk, type SigningAlgorithm, testKey } from '../support/tokens.ts';

/** The message with which a value is refused. */
function refusalOf(parse: () => unknown): string {
  try {
    parse();
  } catch (error) {
    if (error instanceof PgError && error.sqlstate === '22023') return error.message;
    throw error;
  }
  throw new Error('the value was taken');
}

t.test('booleans are accepted in the forms of SQL, in any case', async (t) => {
  for (const text of ['true', 'TRUE', 'on', 'Yes', '1', ' true '])
    t.equal(parseBoolean(text), true, text);
  for (const text of ['false', 'off', 'OFF', 'no', '0']) t.equal(parseBoolean(text), false, text);
  for (const text of ['', 'maybe', '2', 'truefalse', 'y', 't'.repeat(1e6)]) {
    t.match(
      refusalOf(() => parseBoolean(text)),
      /^could not parse ".*" as type bool: expected true, false/,
      text.slice(0, 20),
    );
  }
});

t.test(
  'durations are accepted as CockroachDB and PostgreSQL write them, and printed in one form',
  async (t) => {
    const table: [string, number, string][] = [
      ['15s', 15_000, '15s'],
      ['1m30s', 90_000, '1m30s'],
      ['1h', 3_600_000, '1h0m0s'],
      ['250ms', 250, '250ms'],
      ['00:00:15', 15_000, '15s'],
      ['01:30', 5_400_000, '1h30m0s'],
      ['00:00:01.5', 1500, '1.5s'],
      ['15 seconds', 15_000, '15s'],
      ['1 Minute 30 SECONDS', 90_000, '1m30s'],
      ['1 day', 86_400_000, '24h0m0s'],
      ['1 day 02:00:00', 93_600_000, '26h0m0s'],
      ['1.001s', 1001, '1.001s'],
      ['15', 15_000, '15s'],
      ['0', 0, '0s'],
      ['-5s', -5000, '-5s'],
    ];
    for (const [text, milliseconds, canonical] of table) {
      t.equal(parseDuration(text), milliseconds, text);
      t.equal(formatDuration(milliseconds), canonical, `${text} prints as ${canonical}`);
    }
  },
);

t.test('a text that is not a duration of whole milliseconds is refused', async (t) => {
  const odd = [
    '',
    '-',
    's',
    '1x',
    '1 30s',
    '1m 30',
    '250us',
    '1.5ms',
    '1 month',
    '1 year',
    '00:60:00',
    '00:00:60',
    '1:2:3:4',
    '--1s',
    '1m-1s',
    '1e3s',
    'NaN',
    'Infinity',
    '1s'.repeat(100),
  ];
  for (const text of odd) {
    t.match(
      refusalOf(() => parseDuration(text)),
      /^could not parse ".*" as type interval: expected whole milliseconds/s,
      text.slice(0, 20),
    );
  }
});

t.test('a printed duration parses to itself', async () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -(10 ** 12), max: 10 ** 12 }),
      (ms) => parseDuration(formatDuration(ms)) === ms,
    ),
  );
});

t.test('arbitrary text is a duration or an error of SQLSTATE 22023', async () => {
  const text = fc.oneof(fc.string(), fc.stringMatching(/^[-0-9.: a-z]{0,30}$/));
  fc.assert(
    fc.property(text, (written) => {
      try {
        return Number.isSafeInteger(parseDuration(written));
      } catch (error) {
        return error instanceof PgError && error.sqlstate === '22023';
      }
    }),
  );
});

t.test(
  'issuers are one plain string, an array or a map to the addresses of their keys',
  async (t) => {
    const uri = 'https://a.example/keys';
    const table: [string, string[], [string, string][] | undefined][] = [
      ['', [], undefined],
      ['https://a.example', ['https://a.example'], undefined],
      ['issuer1{}[]!@#', ['issuer1{}[]!@#'], undefined],
      ['[]', [], undefined],
      ['["a", "b", "a", ""]', ['a', 'b'], undefined],
      [`{"issuer_jwks_map": {"a": "${uri}"}}`, ['a'], [['a', uri]]],
    ];
    for (const [text, issuers, uris] of table) {
      const parsed = parseIssuers(text);
      t.same(parsed.issuers, issuers, text);
      t.same(parsed.jwksUris && [...parsed.jwksUris], uris, text);
    }
  },
);

t.test('other JSON is refused as issuers', async (t) => {
  const map = (address: string): string => `{"issuer_jwks_map": {"a": ${address}}}`;
  for (const text of [
    'null',
    '1',
    '"a"',
    'true',
    '{}',
    '[1]',
    '["a", null]',
    '{"issuer_jwks_map": []}',
    '{"issuer_jwks_map": {}, "x": 1}',
    map('1'),
    map('"nowhere"'),
    map('"file:///etc/passwd"'),
    map('"https://user:secret@a.example/"'),
  ]) {
    const message = refusalOf(() => parseIssuers(text));
    t.match(message, /^JWT authentication: issuers JSON not valid: /, text);
    t.notMatch(message, /secret/);
  }
});

t.test(
  'audiences are one plain string or an array, and the empty string is left out',
  async (t) => {
    t.same(parseAudiences(''), []);
    t.same(parseAudiences('audience1{}[]!@#'), ['audience1{}[]!@#']);
    t.same(parseAudiences('["a", "b", "a", ""]'), ['a', 'b']);
    for (const text of ['{}', 'null', '7', '"a"', '[["a"]]']) {
      t.match(
        refusalOf(() => parseAudiences(text)),
        /^JWT authentication audiences JSON not valid: /,
        text,
      );
    }
  },
);

t.test('every block of a custom CA must parse, and no error repeats the text', async (t) => {
  const { cert } = makeAuthority();
  const cut = `${cert}\n${cert.slice(0, cert.length / 2)}`;
  t.equal(parseCertificates(''), '');
  t.equal(parseCertificates(`# ours\n${cert}\n${cert}`), `# ours\n${cert}\n${cert}`);
  for (const text of [
    'x',
    ' ',
    cut,
    cert.replace('MII', 'AAA'),
    `${cert}-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----`,
  ]) {
    t.equal(
      refusalOf(() => parseCertificates(text)),
      'JWT authentication issuer custom CA certificate not valid',
    );
  }
  const started = process.hrtime.bigint();
  refusalOf(() => parseCertificates('-----BEGIN CERTIFICATE-----'.repeat(30_000)));
  t.ok(
    process.hrtime.bigint() - started < 2_000_000_000n,
    'a megabyte of unfinished blocks takes no quadratic time',
  );
});

t.test('the algorithms of a key follow from its type and its alg', async (t) => {
  const rsa = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
  const table: [SigningAlgorithm, readonly string[]][] = [
    ['RS256', rsa],
    ['ES256', ['ES256']],
    ['ES384', ['ES384']],
    ['ES512', ['ES512']],
    ['EdDSA', ['EdDSA']],
  ];
  for (const [algorithm, ofType] of table) {
    const jwk = publicJwk(testKey(algorithm));
    t.same(parseKey(jwk).algorithms, [algorithm], `${algorithm}: named by the key`);
    t.same(parseKey({ ...jwk, alg: undefined }).algorithms, ofType, `${algorithm}: not named`);
    t.equal(parseKey(jwk).key.type, 'public');
  }
});

t.test('a set may be one key, or a set without any; keys may share a kid', async (t) => {
  t.same(parseKeySet('{"keys":[]}'), []);
  t.equal(parseKeySet(JSON.stringify(publicJwk(testKey('ES256')))).length, 1);
  t.same(
    parseKeySet(keySetText(testKey('ES256', 'a'), testKey('EdDSA', 'a'))).map(({ kid }) => kid),
    ['a', 'a'],
  );
});

t.test('a key that is not a usable public signature key is refused', async (t) => {
  const rsa = publicJwk(testKey('RS256'));
  const ec = publicJwk(testKey('ES256'));
  const jwkOf = (key: { export(options: { format: 'jwk' }): object }) => ({
    ...key.export({ format: 'jwk' }),
  });
  const table: [string, unknown, RegExp][] = [
    ['a symmetric key', { kty: 'oct', k: 'c2VjcmV0' }, /symmetric/],
    ['a private key', jwkOf(testKey('ES256').privateKey), /private/],
    ['a public key with a prime beside it', { ...rsa, p: 'AQAB' }, /private/],
    [
      'a short modulus',
      jwkOf(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey),
      /1024 bits/,
    ],
    ['the exponent 1', { ...rsa, e: 'AQ' }, /exponent/],
    ['an even exponent', { ...rsa, e: 'AQAA' }, /exponent/],
    ['a long exponent', { ...rsa, e: (rsa as { n?: unknown }).n }, /exponent/],
    ['characters outside base64url', { ...rsa, e: 'AQ=AB' }, /member e/],
    ['a missing modulus', { kty: 'RSA', e: 'AQAB' }, /member n/],
    ['a point off the curve', { ...ec, y: (ec as { x?: unknown }).x }, /not a valid public key/],
    ['another curve', { ...ec, crv: 'secp256k1' }, /supported type/],
    ['a key for key agreement', { kty: 'OKP', crv: 'X25519', x: 'A'.repeat(43) }, /supported type/],
    ['a key for encryption', { ...rsa, use: 'enc' }, /use/],
    ['a key that may only sign', { ...rsa, key_ops: ['sign'] }, /key_ops/],
    ['an alg of another type', { ...rsa, alg: 'ES256' }, /alg/],
    ['a symmetric alg', { ...rsa, alg: 'HS256' }, /alg/],
    ['a kid that is a number', { ...rsa, kid: 1 }, /kid/],
    ['no object', null, /not a JSON object/],
  ];
  for (const [name, jwk, cause] of table) {
    t.throws(() => parseKey(jwk), { message: cause }, name);
    const message = refusalOf(() => parseKeySet(JSON.stringify({ keys: [jwk] })));
    t.match(message, /^JWT authentication JWKS not a valid JWKS: key 1/, name);
    t.match(message, cause, name);
  }
});

t.test('no error shows a private key, also in broken JSON', async (t) => {
  const { d } = testKey('ES256').privateKey.export({ format: 'jwk' });
  for (const text of [`{"keys":[{"kty":"EC","d":"${d}"}]}`, `{"d":"${d}" x`, `"${d}`, `${d}`]) {
    t.notOk(refusalOf(() => parseKeySet(text)).includes(String(d)));
  }
});

t.test('a text that is not a key set is refused', async (t) => {
  for (const text of [
    '',
    'issuer1',
    '{}',
    '[]',
    'null',
    '{"keys":{}}',
    '{"keys":[1]}',
    '['.repeat(1e6),
  ]) {
    t.match(
      refusalOf(() => parseKeySet(text)),
      /^JWT authentication JWKS not a valid JWKS: /,
      text.slice(0, 20),
    );
  }
  t.match(
    refusalOf(() => parseKeySet(JSON.stringify({ keys: new Array(101).fill({}) }))),
    /more than 100 keys/,
  );
});

/** A public RSA key of any size. Its modulus is no product of primes, which nobody checks. */
function rsaJwk(bits: number, e = 'AQAB', kid?: string): object {
  const n = Buffer.alloc(bits / 8, 0xa5).toString('base64url');
  return { kty: 'RSA', n, e, ...(kid !== undefined && { kid }) };
}

t.test('RSA keys whose verification takes long are refused (issue 16, 11)', async (t) => {
  t.equal(parseKey(rsaJwk(8192)).key.type, 'public');
  t.throws(() => parseKey(rsaJwk(8200)), { message: /8200 bits: 2048 to 8192 are taken/ });
  t.throws(() => parseKey(rsaJwk(16_384)), { message: /16384 bits/ });
  t.equal(parseKey(rsaJwk(2048, '_____w')).key.type, 'public', '2^32 − 1');
  t.throws(() => parseKey(rsaJwk(2048, 'AQAAAAE')), { message: /unsafe public exponent/ });
});

t.test('at most four keys of one kid can be candidates (issue 16, 11)', async (t) => {
  const keys = Array.from({ length: 370 }, () => rsaJwk(2048, 'AQAB', 'x'));
  const published = await parsePublishedKeys({ keys });
  t.equal(published.keys.length, 4);
  t.equal(published.skipped.length, 366);
  t.match(published.skipped[0], /^key 5 \(kid "x"\) is ignored: 4 keys with its kid come before/);
  t.match(
    refusalOf(() => parseKeySet(JSON.stringify({ keys: keys.slice(0, 5) }))),
    /key 5 .*is ignored/,
  );

  const ofAlgorithm = (alg: string, count: number) =>
    Array.from({ length: count }, () => ({ ...rsaJwk(2048, 'AQAB', 'x'), alg }));
  const mixed = [...ofAlgorithm('RS256', 5), ...ofAlgorithm('PS256', 1), rsaJwk(2048, 'AQAB', 'x')];
  const { keys: kept } = await parsePublishedKeys({ keys: mixed });
  t.equal(kept.length, 6, 'a key that can be one for another algorithm is kept');
  const without = Array.from({ length: 10 }, () => rsaJwk(2048));
  t.equal((await parsePublishedKeys({ keys: without })).keys.length, 10, 'so are keys without one');
});

t.test('reading 1000 published keys does not hold the loop (issue 16, 11)', async (t) => {
  const { x, y } = publicJwk(testKey('ES512'));
  const keys = Array.from({ length: 1000 }, (_, i) => ({
    kty: 'EC',
    crv: 'P-521',
    x,
    y,
    kid: `${i}`,
  }));
  let turns = 0;
  let isOver = false;
  const turn = (): void => {
    turns++;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  const published = await parsePublishedKeys({ keys });
  isOver = true;
  t.equal(published.keys.length, 1000);
  // A key on P-521 takes at least half a millisecond, and a slice ends after four.
  t.ok(turns > 100, `${turns} turns of the loop`);
  t.match(
    refusalOf(() => parseKeySet(JSON.stringify({ keys: keys.slice(0, 17) }))),
    /more than 16 keys on P-384 and P-521/,
    'the setting is read at once, and has fewer',
  );
});
