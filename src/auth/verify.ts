/**
 * Check 5: that a key of the issuer signed the token, and that it is valid now. Which algorithm may
 * be used is a property of the key; the token only picks from what the key allows (RFC 8725 section
 * 3.1), so that no header can turn a public RSA key into an HMAC secret (CVE-2015-9235).
 */

import { constants, type KeyObject, type VerifyKeyObjectInput, verify } from 'node:crypto';
import { formatList, formatText } from '../lib/text.ts';
import type { KeySet } from '../settings/jwks.ts';
import { CheckFailure, type Finding } from './refusals.ts';
import type { Token } from './token.ts';

/**
 * The keys that the token may mean: all that bear its key ID, or the only one that fits its
 * algorithm when it names none. Empty when the set does not hold the key.
 */
export function selectKeys({ kid, algorithm }: Token, keys: KeySet): KeySet {
  if (kid !== undefined) {
    return keys.filter((key) => key.kid === kid);
  }
  const fitting = keys.filter((key) => key.algorithms.includes(algorithm));
  return fitting.length === 1 ? fitting : [];
}

/**
 * Verifies the signature with the keys of a set.
 * @throws CheckFailure of check `signature`
 */
export function verifySignature(token: Token, keys: KeySet): void {
  const selected = selectKeys(token, keys);
  if (selected.length === 0) {
    const kid = formatText(token.kid ?? '');
    throw invalid(`key provider 0 failed: failed to find key with key ID "${kid}" in key set`, {
      found: `key ID ${token.kid === undefined ? 'absent' : `"${kid}"`}, algorithm ${formatText(token.algorithm)}, and ${describeKeys(keys)}`,
    });
  }
  // RFC 7515, 5.2, step 8: what is signed is the text before the second dot, as it was sent.
  const end = token.compact.lastIndexOf('.');
  const signed = Buffer.from(token.compact.slice(0, end), 'latin1');
  const signature = Buffer.from(token.compact.slice(end + 1), 'base64url');
  const causes: string[] = [];
  for (const { key, algorithms } of selected) {
    if (!algorithms.includes(token.algorithm))
      causes.push(`the key is for ${formatList(algorithms)}`);
    else if (isSignedBy(token.algorithm, key, signed, signature)) return;
    else causes.push('the signature is not by this key');
  }
  throw invalid('could not verify message using any of the signatures or keys', {
    found: `a signature with algorithm ${formatText(token.algorithm)} that does not verify: ${causes.join(', ')}`,
  });
}

/**
 * Holds the token's dates against the clock. `exp` is exact and required; `nbf` and `iat` may lie
 * ahead by the tolerance, since the clock of an identity provider that is a little fast would
 * otherwise refuse every fresh token.
 * @param now milliseconds since the epoch
 * @param tolerance milliseconds
 * @throws CheckFailure of check `signature`
 */
export function verifyDates(
  token: Token,
  now: number,
  tolerance: number,
): asserts token is Token & { expiresAt: number } {
  const { expiresAt, notBefore, issuedAt } = token;
  if (expiresAt === undefined) {
    throw invalid('"exp" not satisfied: required claim not found', { found: 'no exp' });
  }
  if (now >= expiresAt) {
    throw invalid('"exp" not satisfied', {
      found: `exp ${formatDate(expiresAt)} at ${formatDate(now)}`,
    });
  }
  if (notBefore !== undefined && notBefore > now + tolerance) {
    throw invalid('"nbf" not satisfied', {
      found: `nbf ${formatDate(notBefore)} at ${formatDate(now)}`,
    });
  }
  if (issuedAt !== undefined && issuedAt > now + tolerance) {
    throw invalid('"iat" not satisfied', {
      found: `iat ${formatDate(issuedAt)} at ${formatDate(now)}`,
    });
  }
}

function describeKeys(keys: KeySet): string {
  return `a set with the keys ${formatList(keys.map(({ kid, algorithms }) => `${kid ?? '(no kid)'}:${algorithms.join('|')}`))}`;
}

function formatDate(time: number): string {
  return new Date(time).toISOString();
}

function invalid(detail: string, finding: Finding): CheckFailure {
  return new CheckFailure('signature', { ...finding, detail: `unable to parse token: ${detail}` });
}

/*
 * The signature algorithms of RFC 7518, section 3.1 and RFC 8037 that a key may be used with, on
 * OpenSSL through node:crypto. Each row fixes every parameter, so that nothing of a token but its
 * bytes goes into the verification. `jose` does the same in more than twice the time
 * (bench/verify.ts); the tests hold this against it.
 */

interface Algorithm {
  /** `asymmetricKeyType` of the keys that it is for. */
  readonly keyType: 'rsa' | 'ec' | 'ed25519';
  /** Null where the algorithm hashes by itself. */
  readonly hash: string | null;
  readonly parameters: Omit<VerifyKeyObjectInput, 'key'>;
  /** Length of a signature in bytes, where the algorithm fixes it and not the key. */
  readonly length?: number;
}

const algorithms: ReadonlyMap<string, Algorithm> = new Map([
  ['RS256', pkcs1('sha256')],
  ['RS384', pkcs1('sha384')],
  ['RS512', pkcs1('sha512')],
  ['PS256', pss('sha256', 32)],
  ['PS384', pss('sha384', 48)],
  ['PS512', pss('sha512', 64)],
  ['ES256', ecdsa('sha256', 64)],
  ['ES384', ecdsa('sha384', 96)],
  ['ES512', ecdsa('sha512', 132)],
  ['EdDSA', { keyType: 'ed25519', hash: null, parameters: {}, length: 64 }],
]);

/** RFC 7518, 3.3. */
function pkcs1(hash: string): Algorithm {
  return { keyType: 'rsa', hash, parameters: { padding: constants.RSA_PKCS1_PADDING } };
}

/**
 * RFC 7518, 3.5: MGF1 with the same hash, and a salt as long as the hash; OpenSSL refuses any
 * other.
 */
function pss(hash: string, saltLength: number): Algorithm {
  return {
    keyType: 'rsa',
    hash,
    parameters: { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength },
  };
}

/**
 * RFC 7518, 3.4: R and S side by side, each as long as the curve's order; the curve is a property
 * of the key.
 */
function ecdsa(hash: string, length: number): Algorithm {
  return { keyType: 'ec', hash, parameters: { dsaEncoding: 'ieee-p1363' }, length };
}

/**
 * Whether the key made the signature over the bytes with that algorithm. False for an algorithm
 * that is not for the key.
 */
export function isSignedBy(
  algorithm: string,
  key: KeyObject,
  signed: Buffer,
  signature: Buffer,
): boolean {
  const method = algorithms.get(algorithm);
  if (method === undefined || method.keyType !== key.asymmetricKeyType) return false;
  if (method.length !== undefined && method.length !== signature.length) return false;
  return verify(method.hash, signed, { key, ...method.parameters }, signature);
}
