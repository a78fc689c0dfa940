/**
 * Check 5: a key of the issuer signed the token, and the token is valid now. Which algorithms may
 * be used is a property of the key. The token only picks one of them (RFC 8725 section 3.1), so no
 * header can turn a public RSA key into an HMAC secret (CVE-2015-9235).
 */

import type { KeyObject } from 'node:crypto';
import { compactVerify, errors } from 'jose';
import { formatList, formatText } from '../lib/text.ts';
import { CANDIDATE_LIMIT, type KeySet, type VerificationKey } from '../settings/jwks.ts';
import { CheckFailure, type FailureDetails } from './refusals.ts';
import type { Token } from './token.ts';

/**
 * The length of a signature in bytes, where the algorithm fixes it: RFC 7518 section 3.4 and RFC
 * 8032 section 5.1.6.
 */
const SIGNATURE_LENGTHS: ReadonlyMap<string, number> = new Map([
  ['ES256', 64],
  ['ES384', 96],
  ['ES512', 132],
  ['EdDSA', 64],
]);

/**
 * The keys that the token may mean: all that have its key ID or, if it names none, the only one
 * that fits its algorithm. Empty if the set does not hold the key.
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
 *
 * @throws CheckFailure of check `signature`
 */
export async function verifySignature(token: Token, keys: KeySet): Promise<void> {
  const selected = selectKeys(token, keys);
  if (selected.length === 0) throw unknownKey(token, keys);
  const isFitting = (key: VerificationKey): boolean => key.algorithms.includes(token.algorithm);
  const candidates = selected.filter(isFitting).slice(0, CANDIDATE_LIMIT);
  for (const key of candidates) if (await isSignatureOf(key, token)) return;
  const others = selected.filter((key) => !isFitting(key)).slice(0, CANDIDATE_LIMIT);
  const causes = [
    ...candidates.map(() => 'the signature is not by this key'),
    ...others.map((key) => `the key is for ${formatList(key.algorithms)}`),
  ];
  throw invalid('could not verify message using any of the signatures or keys', {
    found:
      `a signature with algorithm ${formatText(token.algorithm)} that does not verify: ` +
      causes.join(', '),
  });
}

/**
 * Compares the token's dates with the clock. `exp` is exact and required. `nbf` and `iat` may lie
 * ahead by the tolerance: the clock of an identity provider may be a little fast, and every fresh
 * token would be refused otherwise.
 *
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
  if (now >= expiresAt) throw unsatisfied('exp', expiresAt, now);
  if (notBefore !== undefined && notBefore > now + tolerance) {
    throw unsatisfied('nbf', notBefore, now);
  }
  if (issuedAt !== undefined && issuedAt > now + tolerance) {
    throw unsatisfied('iat', issuedAt, now);
  }
}

/** Whether the key signed the token, with an algorithm that the key is for. */
async function isSignatureOf(
  { key, algorithms }: VerificationKey,
  { compact, algorithm }: Token,
): Promise<boolean> {
  const signature = compact.slice(compact.lastIndexOf('.') + 1);
  if (Buffer.byteLength(signature, 'base64url') !== signatureLength(algorithm, key)) return false;
  try {
    await compactVerify(compact, key, { algorithms: [...algorithms] });
    return true;
  } catch (error) {
    if (isRefusal(error)) return false;
    throw error;
  }
}

/** Of an RSA signature, it is that of the modulus (RFC 8017 sections 8.1.2 and 8.2.2, step 1). */
function signatureLength(algorithm: string, key: KeyObject): number {
  const { modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  return SIGNATURE_LENGTHS.get(algorithm) ?? Math.ceil(modulusLength / 8);
}

/**
 * Whether `jose` throws this error for a token that does not verify. Its own errors are about the
 * signature and the header; a TypeError or DOMException is about a key that does not fit the
 * algorithm.
 */
function isRefusal(error: unknown): boolean {
  return (
    error instanceof errors.JOSEError || error instanceof TypeError || error instanceof DOMException
  );
}

function unknownKey({ kid, algorithm }: Token, keys: KeySet): CheckFailure {
  const named = kid === undefined ? 'absent' : `"${formatText(kid)}"`;
  const held = keys.map((key) => `${key.kid ?? '(no kid)'}:${key.algorithms.join('|')}`);
  return invalid(
    'key provider 0 failed: failed to find key with key ID ' +
      `"${formatText(kid ?? '')}" in key set`,
    {
      found:
        `key ID ${named}, algorithm ${formatText(algorithm)}, ` +
        `and a set with the keys ${formatList(held)}`,
    },
  );
}

function unsatisfied(claim: string, time: number, now: number): CheckFailure {
  return invalid(`"${claim}" not satisfied`, {
    found: `${claim} ${formatDate(time)} at ${formatDate(now)}`,
  });
}

function formatDate(time: number): string {
  return new Date(time).toISOString();
}

function invalid(detail: string, details: FailureDetails): CheckFailure {
  return new CheckFailure('signature', { ...details, detail: `unable to parse token: ${detail}` });
}
