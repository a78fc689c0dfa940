/**
 * Checks 6 to 8: the SQL users that a token may be. Its claim and the identity map say so, unless
 * it brings a valid API key: then the user of the key is the only one.
 */
import {
  foldName,
  formatList,
  formatText,
  formatValue,
  isUsableName,
  isUsableText,
} from '../lib/text.ts';
import type { ApiKey } from '../settings/api-keys.ts';
import type { IdentityRules } from '../settings/maps.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import { CheckFailure, type Passed } from './refusals.ts';
import type { Token } from './token.ts';

/** Who a token may be. */
export interface TokenNames {
  /** For the client, which sent them. */
  readonly principals: readonly string[];
  /** The distinct SQL users, folded, each with the principal that led to it. */
  readonly principalOf: ReadonlyMap<string, string>;
}

/** The SQL users that the claim of the principal yields. Throws CheckFailure. */
export function namesOfClaim(token: Token, values: LoginSettings, passed: Passed): TokenNames {
  const claim = values['server.jwt_authentication.claim'];
  const claimed = readClaim(token, claim);
  passed('claim', formatText(claim || 'sub'));

  const principals = readPrincipals(token, claim, claimed);
  const names = mapPrincipals(
    values['server.identity_map.configuration'],
    token.issuer,
    principals,
  );
  checkUsableNames(token, names);
  passed('principal', formatList(principals));

  const { principalOf } = names;
  checkNames(token, principals, names);
  passed('names', formatList([...principalOf.keys()]));
  return { principals, principalOf };
}

/**
 * By an API key. The client sent its secret and does not know its name, so that no refusal has it.
 */
export function namesOfKey(key: ApiKey, values: LoginSettings, passed: Passed): TokenNames {
  const user = foldName(key.user);
  passed('claim', formatText(values['server.jwt_authentication.api_key_claim']));
  passed('principal', `the API key ${formatText(key.name)}`);
  passed('names', formatList([user]));
  return { principals: ['an API key'], principalOf: new Map([[user, key.name]]) };
}

/** Check 7, second half. */
function checkUsableNames(token: Token, { principalOf, unusable }: MappedNames): void {
  if (principalOf.size === 0 && unusable.length > 0) {
    throw invalidPrincipal(
      token,
      unusable[0],
      'a principal whose SQL name is empty, longer than 63 bytes or not visible',
    );
  }
}

/** Check 8. */
function checkNames(
  token: Token,
  principals: readonly string[],
  { principalOf }: MappedNames,
): void {
  if (principalOf.size === 0) {
    const shown = formatList(principals);
    throw new CheckFailure('names', {
      found: `${shown}, which no rule for the issuer ${formatText(token.issuer)} matches`,
      detail: `the value ${shown} for the issuer ${formatText(token.issuer)} is invalid`,
    });
  }
}

/*
 * From claims to principals: the identities that the issuer vouches for, as text. Types that have
 * more than one spelling as text (fractions, large numbers, objects) are refused, since the
 * identity map and the operator see only the spelling.
 */

/**
 * How many principals one token may have. Identity providers list at most 200 groups in a token
 * (Entra ID); each principal is held against each rule of the identity map.
 */
const PRINCIPAL_LIMIT = 256;

/**
 * The longest principal, in characters: SPIFFE IDs, the longest in use, have up to 2048 bytes and
 * in practice a tenth of that. Each is held against each expression of the identity map, in a time
 * that grows with its length.
 */
const LENGTH_LIMIT = 2048;

/**
 * Check 6: the value of the claim that names the principal.
 * @param claim the claim's name; empty means `sub`
 * @throws CheckFailure of check `claim` when it is missing, empty text or an empty array
 */
function readClaim(token: Token, claim: string): unknown {
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
 * Check 7, first half: the principals in the claim's value, one for each element of an array. Text
 * that cannot be a principal is left out, unless nothing else is there.
 * @throws CheckFailure of check `principal`
 */
function readPrincipals(token: Token, claim: string, value: unknown): readonly string[] {
  if (claim === 'email' && !isEmailVerified(token)) {
    throw invalidPrincipal(
      token,
      value,
      'an address that the issuer has not verified (email_verified)',
    );
  }
  const elements: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (elements.length > PRINCIPAL_LIMIT) {
    throw invalidPrincipal(
      token,
      value,
      `${elements.length} principals, more than ${PRINCIPAL_LIMIT}`,
    );
  }
  const principals = elements.map((element) => {
    const text = readPrincipal(element);
    if (text === undefined) {
      throw invalidPrincipal(
        token,
        element,
        `a principal that is neither text, boolean nor an exact integer`,
      );
    }
    return text;
  });
  const usable = principals.filter(
    (principal) => principal.length <= LENGTH_LIMIT && isUsableText(principal),
  );
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
function invalidPrincipal(token: Token, principal: unknown, found: string): CheckFailure {
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
  return typeof element === 'boolean' || Number.isSafeInteger(element)
    ? String(element)
    : undefined;
}

/**
 * OpenID Connect Core 5.1: an address that is not verified is whatever the user typed. Some
 * identity providers write the boolean as text; many leave it out, which is the operator's decision
 * to accept.
 */
function isEmailVerified(token: Token): boolean {
  const verified = token.claims.get('email_verified');
  return verified === undefined || verified === true || verified === 'true';
}

/*
 * The identity map at work: from the principals of a token to the SQL users it may be. The rules
 * themselves are a setting, parsed and compiled when it is set.
 */

/** What the identity map made of a token's principals. */
export interface MappedNames {
  /**
   * The distinct SQL users in the order of the rules, folded, each with the first principal that
   * led to it.
   */
  readonly principalOf: ReadonlyMap<string, string>;
  /** The principals of which a name came that cannot be a SQL user; that name is left out. */
  readonly unusable: readonly string[];
}

/**
 * Applies all rules of the issuer in their order to each principal; without a rule for the issuer a
 * principal is its own name.
 */
export function mapPrincipals(
  map: IdentityRules,
  issuer: string,
  principals: readonly string[],
): MappedNames {
  const rules = map.rulesFor(issuer);
  const principalOf = new Map<string, string>();
  const unusable: string[] = [];
  for (const principal of principals) {
    const names = rules.length === 0 ? [principal] : rules.map((rule) => rule.match(principal));
    for (const name of names) {
      if (name === undefined) {
        continue;
      }
      const folded = foldName(name);
      if (!isUsableName(folded)) {
        unusable.push(principal);
      } else if (!principalOf.has(folded)) {
        principalOf.set(folded, principal);
      }
    }
  }
  return { principalOf, unusable };
}

/*
 * SQL users that no token may have: those that the databases made for themselves, whatever an
 * identity map says. Superusers by another name are found only at the backend, which reports
 * `is_superuser`.
 */

/** CockroachDB's reserved roles, the empty name, and PostgreSQL's usual superuser. */
const NAMES = ['', 'root', 'node', 'public', 'none', 'admin', 'postgres'];

/** PostgreSQL's predefined roles (manual, section 21.5) and CockroachDB's internal ones. */
const PREFIXES = ['pg_', 'crdb_internal'];

/** Tells the reserved names, to which an operator may add; takes folded names. */
export function reserveNames(additional: readonly string[]): (folded: string) => boolean {
  const names = new Set([...NAMES, ...additional.map(foldName)]);
  return (folded) => names.has(folded) || PREFIXES.some((prefix) => folded.startsWith(prefix));
}
