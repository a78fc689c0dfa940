/**
 * Check 5: that a key of the issuer signed the token, and that it is valid now. Which algorithm may be used is a property of the
 * key; the token only picks from what the key allows (RFC 8725 section 3.1), so that no header can turn a public RSA key into an
 * HMAC secret (CVE-2015-9235).
 */
import type { KeySet } from '../settings/key-set.ts';
import { CheckFailure, type Finding } from './checks.ts';
import { isSignedBy } from './signature.ts';
import { formatList, formatText } from './text.ts';
import type { Token } from './token.ts';

/**
 * The keys that the token may mean: all that bear its key ID, or the only one that fits its algorithm when it names none. Empty
 * when the set does not hold the key.
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
    if (!algorithms.includes(token.algorithm)) causes.push(`the key is for ${formatList(algorithms)}`);
    else if (isSignedBy(token.algorithm, key, signed, signature)) return;
    else causes.push('the signature is not by this key');
  }
  throw invalid('could not verify message using any of the signatures or keys', {
    found: `a signature with algorithm ${formatText(token.algorithm)} that does not verify: ${causes.join(', ')}`,
  });
}

/**
 * Holds the token's dates against the clock. `exp` is exact and required; `nbf` and `iat` may lie ahead by the tolerance, since
 * the clock of an identity provider that is a little fast would otherwise refuse every fresh token.
 * @param now milliseconds since the epoch
 * @param tolerance milliseconds
 * @throws CheckFailure of check `signature`
 */
export function verifyDates(token: Token, now: number, tolerance: number): asserts token is Token & { expiresAt: number } {
  const { expiresAt, notBefore, issuedAt } = token;
  if (expiresAt === undefined) {
    throw invalid('"exp" not satisfied: required claim not found', { found: 'no exp' });
  }
  if (now >= expiresAt) {
    throw invalid('"exp" not satisfied', { found: `exp ${formatDate(expiresAt)} at ${formatDate(now)}` });
  }
  if (notBefore !== undefined && notBefore > now + tolerance) {
    throw invalid('"nbf" not satisfied', { found: `nbf ${formatDate(notBefore)} at ${formatDate(now)}` });
  }
  if (issuedAt !== undefined && issuedAt > now + tolerance) {
    throw invalid('"iat" not satisfied', { found: `iat ${formatDate(issuedAt)} at ${formatDate(now)}` });
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
