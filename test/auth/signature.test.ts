/**
 * Signatures: held against `jose`, an implementation of its own, and what must never pass. Verified
 * tokens: what makes one forgotten.
 */

import fc from 'fast-check';
import { compactVerify } from 'jose';
import t from 'tap';
import { VerifiedTokens } from '../../src/auth/verified-tokens.ts';
import { isSignedBy } from '../../src/auth/verify.ts';
import { KeyWorld, valuesFor } from '../keys/key-world.ts';
import { startIssuer } from '../support/issuer.ts';
import {
  assembleToken,
  mintToken,
  publicJwk,
  type SigningAlgorithm,
  signWith,
  testKey,
} from '../support/tokens.ts';
import { settingsOf, verificationKey } from './login.ts';

const ALGORITHMS: readonly SigningAlgorithm[] = [
  ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const),
  ...(['ES256', 'ES384', 'ES512', 'EdDSA'] as const),
];

/** As check 5 takes a token apart. */
function passesHere(algorithm: string, token: string, key: ReturnType<typeof testKey>): boolean {
  const end = token.lastIndexOf('.');
  const signature = Buffer.from(token.slice(end + 1), 'base64url');
  return isSignedBy(
    algorithm,
    key.publicKey,
    Buffer.from(token.slice(0, end), 'latin1'),
    signature,
  );
}

async function passesJose(
  algorithm: string,
  token: string,
  key: ReturnType<typeof testKey>,
): Promise<boolean> {
  return compactVerify(token, key.publicKey, { algorithms: [algorithm] }).then(
    () => true,
    () => false,
  );
}

t.test('every algorithm, by every key: passes where jose passes and nowhere else', async (t) => {
  for (const signed of ALGORITHMS) {
    const token = mintToken(testKey(signed), { sub: 'alice' });
    for (const algorithm of ALGORITHMS) {
      const relabelled = assembleToken(
        JSON.stringify({ alg: algorithm }),
        '{}',
        signWith(testKey(signed)),
      );
      for (const keyFor of ALGORITHMS) {
        const here = passesHere(algorithm, relabelled, testKey(keyFor));
        t.equal(
          here,
          await passesJose(algorithm, relabelled, testKey(keyFor)),
          `${signed} as ${algorithm} by ${keyFor}`,
        );
        if (signed !== algorithm || signed !== keyFor) t.notOk(here);
      }
    }
    t.ok(passesHere(signed, token, testKey(signed)), signed);
  }
});

t.test('a signature that was changed in any way fails here as it does with jose', async (t) => {
  const change = fc.record({
    algorithm: fc.constantFrom(...ALGORITHMS),
    at: fc.nat(),
    bit: fc.integer({ min: 0, max: 7 }),
    how: fc.constantFrom('flip', 'cut', 'grow', 'payload', 'none'),
  });
  const property = fc.assert(
    fc.asyncProperty(change, async ({ algorithm, at, bit, how }) => {
      const key = testKey(algorithm);
      const [header = '', payload = '', text = ''] = mintToken(key, { sub: 'alice' }).split('.');
      let signature = Buffer.from(text, 'base64url');
      const place = at % signature.length;
      if (how === 'flip') signature[place] = (signature[place] ?? 0) ^ (1 << bit);
      if (how === 'cut') signature = signature.subarray(0, place);
      if (how === 'grow') signature = Buffer.concat([signature, Buffer.alloc(bit + 1)]);
      const body = how === 'payload' ? `${payload}A` : payload;
      const token = `${header}.${body}.${signature.toString('base64url')}`;
      const here = passesHere(algorithm, token, key);
      return here === (how === 'none') && here === (await passesJose(algorithm, token, key));
    }),
    { numRuns: 300 },
  );
  await t.resolves(property);
});

t.test(
  'what breaks other verifiers fails: signatures of zeros, of another encoding, of an unknown algorithm',
  async (t) => {
    const signed = Buffer.from('a.b');
    for (const [algorithm, length] of [
      ['ES256', 64],
      ['ES384', 96],
      ['ES512', 132],
      ['EdDSA', 64],
      ['RS256', 256],
      ['PS256', 256],
    ] as const) {
      // CVE-2022-21449: r = s = 0 passed for every message.
      for (const size of [0, 1, length, length + 1]) {
        t.notOk(
          isSignedBy(algorithm, testKey(algorithm).publicKey, signed, Buffer.alloc(size)),
          `${algorithm}, ${size} zeros`,
        );
      }
    }
    for (const algorithm of ['none', 'HS256', 'ES256K', 'rs256', '', 'constructor', '__proto__']) {
      t.notOk(
        isSignedBy(
          algorithm,
          testKey('RS256').publicKey,
          signed,
          signWith(testKey('RS256'))('a.b'),
        ),
        algorithm,
      );
    }
  },
);

t.test(
  'a token is remembered for one key set and one snapshot of the settings, to the byte, until it expires',
  async (t) => {
    let now = 0;
    const tokens = new VerifiedTokens(() => now);
    const [keys, values] = [[verificationKey(testKey('ES256'))], settingsOf()];
    const remember = (): void => tokens.add('token', { keys, values, expiresAt: 1000 });
    remember();
    t.ok(tokens.has('token', keys, values));
    t.notOk(tokens.has('token ', keys, values));
    t.notOk(tokens.has('token', [...keys], values), 'the same keys in another set');
    t.notOk(tokens.has('token', keys, values), 'it was forgotten');
    remember();
    t.notOk(tokens.has('token', keys, settingsOf()), 'the same settings in another snapshot');
    remember();
    now = 1000;
    t.notOk(tokens.has('token', keys, values), 'expired');
    tokens.add('other', { keys, values: settingsOf(), expiresAt: 2000 });
    remember();
    t.equal(tokens.size, 1, 'a new snapshot leaves nothing of the one before');
  },
);

t.test('the number of remembered tokens is bounded', async (t) => {
  const tokens = new VerifiedTokens(() => 0);
  const [keys, values] = [[verificationKey(testKey('ES256'))], settingsOf()];
  for (let number = 0; number < 10_500; number++)
    tokens.add(`${number}`, { keys, values, expiresAt: 1 });
  t.equal(tokens.size, 10_000);
});

t.test('logins: a token is verified once, and again after anything has changed', async (t) => {
  const [key, next] = [testKey('ES256', 'one'), testKey('ES256', 'two')];
  const issuer = await startIssuer([key]);
  const world = new KeyWorld(valuesFor(issuer.issuer));
  t.teardown(async () => {
    await world.close();
    await issuer.close();
  });
  const token = world.token(key);
  const known = async (): Promise<unknown> => {
    const outcome = await world.login(token);
    return [outcome, world.details('verified').at(-1)];
  };
  t.strictSame(await known(), ['alice', false]);
  t.strictSame(await known(), ['alice', true]);
  t.equal(
    await world.login(token, 'bob'),
    'user_not_in_token',
    'every other check is made each time',
  );

  world.advance(9 * 60_000);
  await world.fetches(2);
  t.strictSame(await known(), ['alice', true], 'a renewal that brought the same keys');

  world.values = { ...world.values };
  t.strictSame(await known(), ['alice', false], 'a new snapshot');
  t.strictSame(await known(), ['alice', true]);

  issuer.keys = [publicJwk(key), publicJwk(next)];
  world.advance(9 * 60_000);
  await world.fetches(3);
  t.strictSame(await known(), ['alice', false], 'a new key beside its own');
  t.strictSame(await known(), ['alice', true]);

  issuer.keys = [publicJwk(next)];
  world.advance(9 * 60_000);
  await world.fetches(4);
  t.equal(await world.login(token), 'invalid_token', 'its key was withdrawn');

  const forged = world.token(testKey('ES256', 'stranger'), {}, { kid: 'two' });
  const before = world.verified.size;
  t.equal(await world.login(forged), 'invalid_token');
  t.equal(world.verified.size, before, 'a failed verification is not remembered');
});
