/**
 * Verification keys from JSON web keys (RFC 7517). The algorithms of a key follow from the key
 * alone, so that the header of a token cannot choose another one (RFC 8725, 3.1). A key that is not
 * a public signature key is refused, and no error repeats a private or symmetric key.
 */

import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { errorText, type PgError } from '../lib/errors.ts';
import { isJsonObject, readJson } from '../lib/json.ts';
import { invalidSetting, quote } from './values.ts';

/** One public key and the algorithms that it may verify. */
export interface VerificationKey {
  readonly kid: string | undefined;
  /** The key's own `alg`, or all algorithms of its type. */
  readonly algorithms: readonly string[];
  readonly key: KeyObject;
}

/**
 * Keys in the order of the set. Several keys may have the same kid (RFC 7517, 4.5); those with a
 * fitting algorithm are then candidates.
 */
export type KeySet = readonly VerificationKey[];

/** The usable keys of a published set, and the reasons why others were left out. */
export interface PublishedKeys {
  readonly keys: KeySet;
  /** One phrase for each key that was left out. */
  readonly skipped: readonly string[];
}

/** No identity provider publishes more. */
const PUBLISHED_LIMIT = 1000;

/**
 * How many keys an operator may set. They are read at once, while all sessions wait: 0.02 ms for an
 * RSA key, 0.1 ms for one on P-256, but 1.3 ms for one on P-521. That is at most 40 ms.
 */
const SETTING_LIMIT = 100;
const SLOW_LIMIT = 16;

/** The curves whose points take long to be checked. */
const SLOW_CURVES: readonly unknown[] = ['P-384', 'P-521'];

/** How long published keys are read before other work gets its turn, in milliseconds. */
const SLICE_MS = 4;

/**
 * How many keys of one kid may be tried for one algorithm. RFC 7517, 4.5, wants distinct key IDs,
 * and a rotation has two keys at once. Each costs a verification, which anybody can cause.
 */
export const CANDIDATE_LIMIT = 4;

/** Bits (NIST SP 800-131A; RFC 7518, 3.3). */
const RSA_MODULUS_MINIMUM = 2048;

/** Bits. The time of a verification grows with the square. Identity providers have 4096 at most. */
const RSA_MODULUS_MAXIMUM = 8192;

/** 32 bits. The time of a verification grows with the length. Almost all keys have 65537. */
const RSA_EXPONENT_MAXIMUM = (1n << 32n) - 1n;

/** The members of private and symmetric keys only (RFC 7518, 6.2.2, 6.3.2 and 6.4). */
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'];

/**
 * The members of a public key and the algorithms of its type (RFC 7518, 3.1 and 6; RFC 8037 for
 * Ed25519).
 */
interface KeyType {
  readonly members: readonly string[];
  readonly algorithms: readonly string[];
}

const keyTypes: ReadonlyMap<string, KeyType> = new Map([
  [
    'RSA',
    { members: ['n', 'e'], algorithms: ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] },
  ],
  ['EC P-256', { members: ['crv', 'x', 'y'], algorithms: ['ES256'] }],
  ['EC P-384', { members: ['crv', 'x', 'y'], algorithms: ['ES384'] }],
  ['EC P-521', { members: ['crv', 'x', 'y'], algorithms: ['ES512'] }],
  ['OKP Ed25519', { members: ['crv', 'x'], algorithms: ['EdDSA'] }],
]);

/**
 * The keys of one JWK or of a JWK set that an operator sets. One bad key refuses the whole text,
 * since the operator can correct it.
 *
 * @throws PgError 22023
 */
export function parseKeySet(text: string): KeySet {
  const reading = readJson(text);
  if (!reading.valid) throw invalid(reading.problem);
  const json = reading.value;
  if (!isJsonObject(json)) throw invalid('it is neither a key nor a set of keys');
  if (!('keys' in json)) return Object.freeze([parseMember(json, 'the key', new Candidates())]);
  const members = readMembers(json, SETTING_LIMIT, invalid);
  const slow = members.filter((key) => isJsonObject(key) && SLOW_CURVES.includes(key['crv']));
  if (slow.length > SLOW_LIMIT)
    throw invalid(`it has more than ${SLOW_LIMIT} keys on ${SLOW_CURVES.join(' and ')}`);
  const candidates = new Candidates();
  return Object.freeze(
    members.map((key, index) => parseMember(key, `key ${index + 1}`, candidates)),
  );
}

/**
 * The keys of a JWK set, or the one JWK, that an issuer publishes. A key that cannot be used is
 * left out, since the set may hold keys for other purposes (RFC 7517, 5: "implementations SHOULD
 * ignore JWKs …"). A set of a thousand keys takes more than a second, so that other work gets its
 * turn meanwhile.
 *
 * @throws Error if the JSON is neither
 */
export async function parsePublishedKeys(json: unknown): Promise<PublishedKeys> {
  if (!isJsonObject(json)) throw new Error('the key set is not a JSON object');
  const keys: VerificationKey[] = [];
  const skipped: string[] = [];
  const candidates = new Candidates();
  const isOneKey = !('keys' in json) && typeof json['kty'] === 'string';
  const members = readMembers(
    isOneKey ? { keys: [json] } : json,
    PUBLISHED_LIMIT,
    (problem) => new Error(`the key set is not valid: ${problem}`),
  );
  let began = performance.now();
  for (const [index, jwk] of members.entries()) {
    try {
      keys.push(candidates.add(parseKey(jwk)));
    } catch (error) {
      skipped.push(`${nameMember(jwk, `key ${index + 1}`)} ${errorText(error)}`);
    }
    if (performance.now() - began < SLICE_MS) continue;
    await setImmediate();
    began = performance.now();
  }
  return { keys: Object.freeze(keys), skipped };
}

/**
 * Parses one JSON web key.
 *
 * @throws Error whose message continues "the key …"
 */
export function parseKey(jwk: unknown): VerificationKey {
  if (!isJsonObject(jwk)) throw new Error('is not a JSON object');
  const { kty, crv, kid, alg } = jwk;
  if (kty === 'oct') throw new Error('is symmetric: only public keys are taken');
  if (PRIVATE_MEMBERS.some((member) => Object.hasOwn(jwk, member)))
    throw new Error('is private: give its public part only');
  const type =
    typeof kty === 'string'
      ? keyTypes.get(typeof crv === 'string' && kty !== 'RSA' ? `${kty} ${crv}` : kty)
      : undefined;
  if (type === undefined)
    throw new Error(
      'is not of a supported type: RSA, EC with P-256, P-384 or P-521, OKP with Ed25519',
    );
  if (kid !== undefined && typeof kid !== 'string')
    throw new Error('has a kid that is not a string');
  if (alg !== undefined && !(typeof alg === 'string' && type.algorithms.includes(alg))) {
    throw new Error(`has an alg that does not fit its type: ${type.algorithms.join(', ')}`);
  }
  checkPurpose(jwk);
  return Object.freeze({
    kid,
    algorithms: alg === undefined ? type.algorithms : Object.freeze([alg]),
    key: importKey(jwk, type),
  });
}

/** Counts the keys of each kid and algorithm, so that no set has more than can be tried. */
class Candidates {
  readonly #counts = new Map<string, number>();

  /**
   * Adds a key and returns it.
   *
   * @throws Error whose message continues "the key …" if there are enough keys before it
   */
  add(key: VerificationKey): VerificationKey {
    const { kid, algorithms } = key;
    // Of keys without a kid, only one can be meant.
    if (kid === undefined) return key;
    const names = algorithms.map((algorithm) => `${algorithm} ${kid}`);
    if (names.every((name) => (this.#counts.get(name) ?? 0) >= CANDIDATE_LIMIT))
      throw new Error(`is ignored: ${CANDIDATE_LIMIT} keys with its kid come before`);
    for (const name of names) this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    return key;
  }
}

function readMembers(
  { keys }: Readonly<Record<string, unknown>>,
  limit: number,
  failure: (problem: string) => Error,
): readonly unknown[] {
  if (!Array.isArray(keys)) throw failure('its keys are not an array');
  if (keys.length > limit) throw failure(`it has more than ${limit} keys`);
  return keys;
}

function parseMember(jwk: unknown, name: string, candidates: Candidates): VerificationKey {
  try {
    return candidates.add(parseKey(jwk));
  } catch (error) {
    throw invalid(`${nameMember(jwk, name)} ${errorText(error)}`);
  }
}

function nameMember(jwk: unknown, name: string): string {
  return isJsonObject(jwk) && typeof jwk['kid'] === 'string'
    ? `${name} (kid ${quote(jwk['kid'])})`
    : name;
}

function invalid(problem: string): PgError {
  return invalidSetting(`JWT authentication JWKS not a valid JWKS: ${problem}`);
}

/** A key that names a purpose must name verification (RFC 7517, 4.2 and 4.3). */
function checkPurpose({ use, key_ops: operations }: Readonly<Record<string, unknown>>): void {
  if (use !== undefined && use !== 'sig')
    throw new Error('is not for signatures: its use is not sig');
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) {
    throw new Error('is not for verification: its key_ops do not hold verify');
  }
}

function importKey(jwk: Readonly<Record<string, unknown>>, { members }: KeyType): KeyObject {
  const publicPart: JsonWebKey = {};
  for (const member of ['kty', ...members]) {
    const value = jwk[member];
    // Node's importer skips characters outside the alphabet. RFC 7515, section 2, allows none.
    if (typeof value !== 'string' || !/^[A-Za-z0-9_-]+$/.test(value))
      throw new Error(`has no valid member ${member}`);
    publicPart[member] = value;
  }
  let key: KeyObject;
  try {
    key = createPublicKey({ key: publicPart, format: 'jwk' });
  } catch (error) {
    throw new Error('is not a valid public key', { cause: error });
  }
  if (key.asymmetricKeyType === 'rsa') checkRsa(key);
  return key;
}

/** A short modulus can be factored. With the exponent 1 every message is its own signature. */
function checkRsa({
  asymmetricKeyDetails: { modulusLength = 0, publicExponent = 0n } = {},
}: KeyObject): void {
  if (modulusLength < RSA_MODULUS_MINIMUM || modulusLength > RSA_MODULUS_MAXIMUM) {
    throw new Error(
      `has a modulus of ${modulusLength} bits: ` +
        `${RSA_MODULUS_MINIMUM} to ${RSA_MODULUS_MAXIMUM} are taken`,
    );
  }
  if (publicExponent < 3n || publicExponent % 2n === 0n || publicExponent > RSA_EXPONENT_MAXIMUM) {
    throw new Error('has an unsafe public exponent');
  }
}
