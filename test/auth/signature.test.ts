/**
 * Signatures: compared with node:crypto as another implementation, and forgeries that must fail.
 * Verified tokens: what makes them forgotten.
 */

import { constants, type KeyObject, verify } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { CheckFailure } from '../../src/auth/refusals.ts';
import { parseToken } from '../../src/auth/token.ts';
import { VerifiedTokens } from '../../src/auth/verified-tokens.ts';
import { verifySignature } from '../../src/auth/verify.ts';
import { KeyWorld, valuesFor } from '../keys/key-world.ts';
import { startIssuer } from '../support/issuer.ts';
import {
  assembleToken,
  mintToken,
  publicJwk,
  type Signer,
  type SigningAlgorithm,
  signWith,
  testKey,
} from '../support/tokens.ts';
import { CLAIMS, login, refusalOf, settingsOf, verificationKey } from './login.ts';

const ALGORITHMS: readonly SigningAlgorithm[] = [
  ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const),
  ...(['ES256', 'ES384', 'ES512', 'EdDSA'] as const),
];

const MINUTE = 60_000;

const PARSED = parseToken(mintToken(testKey('EdDSA'), { sub: 'alice' }));

/** Whether check 5 accepts the signature by a key that allows the algorithm. */
async function passesHere(algorithm: string, compact: string, key: KeyObject): Promise<boolean> {
  const token = { ...PARSED, compact, algorithm, kid: undefined };
  try {
    await verifySignature(token, [{ kid: undefined, algorithms: [algorithm], key }]);
    return true;
  } catch (error) {
    if (!(error instanceof CheckFailure)) throw error;
    const why = /does not verify: the signature is not by this key$/;
    if (!why.test(error.details.found)) throw error;
    return false;
  }
}

function passesNode(algorithm: SigningAlgorithm, compact: string, key: KeyObject): boolean {
  const end = compact.lastIndexOf('.');
  const signed = Buffer.from(compact.slice(0, end), 'latin1');
  const signature = Buffer.from(compact.slice(end + 1), 'base64url');
  const hash = algorithm === 'EdDSA' ? null : `sha${algorithm.slice(2)}`;
  const padding = algorithm.startsWith('PS')
    ? constants.RSA_PKCS1_PSS_PADDING
    : constants.RSA_PKCS1_PADDING;
  switch (key.asymmetricKeyType) {
    case 'rsa': {
      const saltLength = constants.RSA_PSS_SALTLEN_DIGEST;
      const fits = algorithm.startsWith('RS') || algorithm.startsWith('PS');
      return fits && verify(hash, signed, { key, padding, saltLength }, signature);
    }
    case 'ec': {
      const bytes = { ES256: 64, ES384: 96, ES512: 132 }[algorithm as string];
      const fits = bytes === signature.length;
      return fits && verify(hash, signed, { key, dsaEncoding: 'ieee-p1363' }, signature);
    }
    default:
      return algorithm === 'EdDSA' && verify(null, signed, key, signature);
  }
}

/** A token of that algorithm, around any signature. */
function labelled(algorithm: string, signer: Signer): string {
  return assembleToken(JSON.stringify({ alg: algorithm }), '{}', signer);
}

t.test('every algorithm with every key passes where node:crypto says so', async (t) => {
  for (const signed of ALGORITHMS) {
    const token = mintToken(testKey(signed), { sub: 'alice' });
    const here: string[] = [];
    const node: string[] = [];
    for (const algorithm of ALGORITHMS) {
      const relabelled = labelled(algorithm, signWith(testKey(signed)));
      for (const keyFor of ALGORITHMS) {
        const { publicKey } = testKey(keyFor);
        const name = `as ${algorithm} by ${keyFor}`;
        if (await passesHere(algorithm, relabelled, publicKey)) here.push(name);
        if (passesNode(algorithm, relabelled, publicKey)) node.push(name);
      }
    }
    t.strictSame(here, node, signed);
    t.strictSame(here, [`as ${signed} by ${signed}`], signed);
    t.ok(await passesHere(signed, token, testKey(signed).publicKey), signed);
  }
});

t.test('a signature that was changed in any way fails here and with node:crypto', async (t) => {
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
      const here = await passesHere(algorithm, token, key.publicKey);
      return here === (how === 'none') && here === passesNode(algorithm, token, key.publicKey);
    }),
    { numRuns: 300 },
  );
  await t.resolves(property);
});

t.test('signatures of zeros and of an unknown algorithm fail', async (t) => {
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
        await passesHere(
          algorithm,
          labelled(algorithm, () => Buffer.alloc(size)),
          testKey(algorithm).publicKey,
        ),
        `${algorithm}, ${size} zeros`,
      );
    }
  }
  const key = testKey('RS256');
  for (const algorithm of ['none', 'HS256', 'ES256K', 'rs256', '', 'constructor', '__proto__']) {
    t.notOk(
      await passesHere(algorithm, labelled(algorithm, signWith(key)), key.publicKey),
      algorithm,
    );
  }
});

t.test('an error that is not about the token or the key is not a refusal', async (t) => {
  const fault = new RangeError('a fault of ours');
  const key = {
    type: 'public',
    asymmetricKeyType: 'ec',
    [Symbol.toStringTag]: 'KeyObject',
    export: () => {
      throw fault;
    },
  } as unknown as KeyObject;
  const token = labelled('ES256', signWith(testKey('ES256')));
  await t.rejects(passesHere('ES256', token, key), fault);
});

t.test(
  'a token is remembered to the byte, for one key set and one snapshot, until it expires',
  async (t) => {
    let now = 0;
    const tokens = new VerifiedTokens(() => now);
    const [keys, values] = [[verificationKey(testKey('ES256'))], settingsOf()];
    const remember = (): void => tokens.add('token', { keys, values, expiresAt: MINUTE });
    remember();
    t.ok(tokens.has('token', keys, values));
    t.notOk(tokens.has('token ', keys, values));
    t.notOk(tokens.has('token', [...keys], values), 'the same keys in another set');
    t.notOk(tokens.has('token', keys, values), 'it was forgotten');
    remember();
    t.notOk(tokens.has('token', keys, settingsOf()), 'the same settings in another snapshot');
    remember();
    now = MINUTE;
    t.notOk(tokens.has('token', keys, values), 'expired');
    tokens.add('other', { keys, values: settingsOf(), expiresAt: 2 * MINUTE });
    tokens.add('token', { keys, values, expiresAt: 2 * MINUTE });
    t.equal(tokens.size, 1, 'the entries of an earlier snapshot are deleted');
  },
);

t.test('the number of remembered tokens is bounded', async (t) => {
  const tokens = new VerifiedTokens(() => 0);
  const [keys, values] = [[verificationKey(testKey('ES256'))], settingsOf()];
  for (let number = 0; number < 10_500; number++)
    tokens.add(`${number}`, { keys, values, expiresAt: MINUTE });
  t.equal(tokens.size, 10_000);
  t.notOk(tokens.has('10499', keys, values), 'a token that finds no room is not remembered');
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

t.test('a forged token costs four verifications at most (issue 16, 11)', async (t) => {
  const keys = Array.from({ length: 6 }, (_, i) => verificationKey(testKey('ES256', `${i}`))).map(
    (key) => ({ ...key, kid: 'shared' }),
  );
  const others = Array.from({ length: 370 }, () => ({
    ...verificationKey(testKey('RS256')),
    kid: 'shared',
  }));
  const settings = { 'server.jwt_authentication.jwks': [...others, ...keys] };
  const by = (kid: string) => mintToken(testKey('ES256', kid), CLAIMS, { kid: 'shared' });
  t.match(await login({ token: by('3'), settings }), { user: 'alice' }, 'the fourth that fits');
  const { reason = '' } = await refusalOf({ token: by('4'), settings });
  t.equal(reason.match(/is not by this key/g)?.length, 4);
  t.equal(reason.match(/the key is for/g)?.length, 4, 'and the reason is short');
});
