/**
 * From claims to principals: the identities that the issuer vouches for, as text. Types that have more than one spelling as text
 * (fractions, large numbers, objects) are refused, since the identity map and the operator see only the spelling.
 */
import { CheckFailure } from './checks.ts';
import { formatText, formatValue, isUsableText } from './text.ts';
import type { Token } from './token.ts';

/**
 * How many principals one token may have. Identity providers list at most 200 groups in a token (Entra ID); each principal is
 * held against each rule of the identity map.
 */
const PRINCIPAL_LIMIT = 256;

/**
 * The longest principal, in characters: SPIFFE IDs, the longest in use, have up to 2048 bytes and in practice a tenth of that. Each is held
 * against each expression of the identity map, in a time that grows with its length.
 */
const LENGTH_LIMIT = 2048;

/**
 * Check 6: the value of the claim that names the principal.
 * @param claim the claim's name; empty means `sub`
 * @throws CheckFailure of check `claim` when it is missing, empty text or an empty array
 */
export function readClaim(token: Token, claim: string): unknown {
  const name = claim || 'sub';
  const value = token.claims.get(name);
  if (value === undefined || value === '' || (Array.isArray(value) && value.length === 0)) {
    throw new CheckFailure('claim', {
      found: `${value === undefined ? 'no claim' : 'an empty claim'} ${formatText(name)}`,
      detail: `token does not contain a claim for ${formatText(name)}`,
    });
  }
  return value;
}

/**
 * Check 7, first half: the principals in the claim's value, one for each element of an array. Text that cannot be a principal is
 * left out, unless nothing else is there.
 * @throws CheckFailure of check `principal`
 */
export function readPrincipals(token: Token, claim: string, value: unknown): readonly string[] {
  if (claim === 'email' && !isEmailVerified(token)) {
    throw invalidPrincipal(token, value, 'an address that the issuer has not verified (email_verified)');
  }
  const elements: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (elements.length > PRINCIPAL_LIMIT) {
    throw invalidPrincipal(token, value, `${elements.length} principals, more than ${PRINCIPAL_LIMIT}`);
  }
  const principals = elements.map((element) => {
    const text = readPrincipal(element);
    if (text === undefined) {
      throw invalidPrincipal(token, element, `a principal that is neither text, boolean nor an exact integer`);
    }
    return text;
  });
  const usable = principals.filter((principal) => principal.length <= LENGTH_LIMIT && isUsableText(principal));
  if (usable.length === 0) {
    throw invalidPrincipal(
      token,
      elements[0],
      `a principal that is empty, longer than ${LENGTH_LIMIT} characters or has invisible ones`,
    );
  }
  return usable;
}

/** The refusal of a principal, or of the names that it leads to. */
export function invalidPrincipal(token: Token, principal: unknown, found: string): CheckFailure {
  const value = formatValue(principal);
  return new CheckFailure('principal', {
    found: `${found}: ${value}`,
    detail: `the value ${value} for the issuer ${formatText(token.issuer)} is invalid`,
  });
}

function readPrincipal(element: unknown): string | undefined {
  if (typeof element === 'string') {
    return element;
  }
  return typeof element === 'boolean' || Number.isSafeInteger(element) ? String(element) : undefined;
}

/**
 * OpenID Connect Core 5.1: an address that is not verified is whatever the user typed. Some identity providers write the boolean
 * as text; many leave it out, which is the operator's decision to accept.
 */
function isEmailVerified(token: Token): boolean {
  const verified = token.claims.get('email_verified');
  return verified === undefined || verified === true || verified === 'true';
}
