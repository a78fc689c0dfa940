/**
 * Checks 6 to 8, and the names for check 10: which SQL users a token may log in as. A claim names
 * the principals, that is, the identities that the issuer vouches for. The identity map turns
 * principals into SQL users. A valid API key replaces both: its user is then the only one.
 */
import { findMember } from '../lib/json-path.ts';
import {
  foldName,
  formatList,
  formatText,
  formatValue,
  isUsableName,
  isUsableText,
} from '../lib/text.ts';
import type { ApiKey } from '../settings/api-keys.ts';
import { noPolicy, type TokenPolicy } from '../settings/auth-rule-options.ts';
import type { IdentityRules } from '../settings/maps.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import { CheckFailure, type Passed } from './refusals.ts';
import type { Token } from './token.ts';

/**
 * How many principals one token may have. Each is compared with each rule of the identity map.
 * Identity providers list at most 200 groups in a token (Entra ID).
 */
const PRINCIPAL_LIMIT = 256;

/**
 * The longest principal, in characters. Matching takes time that grows with the length. SPIFFE IDs,
 * the longest in use, have at most 2048 bytes.
 */
const LENGTH_LIMIT = 2048;

/** CockroachDB's reserved roles, the empty name, and PostgreSQL's usual superuser. */
const RESERVED_NAMES = ['', 'root', 'node', 'public', 'none', 'admin', 'postgres'];

/** PostgreSQL's predefined roles (manual, section 21.5) and CockroachDB's internal ones. */
const RESERVED_PREFIXES = ['pg_', 'crdb_internal'];

/** The SQL users that a token may log in as. */
export interface TokenNames {
  /** As they are shown to the client. */
  readonly principals: readonly string[];
  /** The distinct SQL users, folded, each with the principal that led to it. */
  readonly principalOf: ReadonlyMap<string, string>;
}

/** What the identity map made of a token's principals. */
export interface MappedNames {
  /**
   * The distinct SQL users in the order of the rules, folded, each with the first principal that
   * led to it.
   */
  readonly principalOf: ReadonlyMap<string, string>;
  /** The principals that led to a name that cannot be a SQL user. Such names are left out. */
  readonly unusable: readonly string[];
}

/**
 * The SQL users that the claim yields.
 *
 * @throws CheckFailure of check `claim`, `principal` or `names`
 */
export function namesOfClaim(
  token: Token,
  values: LoginSettings,
  policy: TokenPolicy,
  passed: Passed,
): TokenNames {
  const claim = policy.claim ?? values['server.jwt_authentication.claim'];
  const claimed = readClaim(token, claim);
  passed('claim', () => formatText(claim || 'sub'));

  const principals = readPrincipals(token, claim, claimed);
  const map = values['server.identity_map.configuration'];
  const names = mapPrincipals(map, token.issuer, principals, policy);
  checkUsableNames(token, names);
  passed('principal', () => formatList(principals));

  const { principalOf } = names;
  checkNames(token, principals, names);
  passed('names', () => formatList([...principalOf.keys()]));
  return { principals, principalOf };
}

/**
 * The SQL user of an API key. The client sent the secret of the key and does not know its name, so
 * the name is not among the principals that refusals show.
 */
export function namesOfKey(key: ApiKey, values: LoginSettings, passed: Passed): TokenNames {
  const user = foldName(key.user);
  passed('claim', () => formatText(values['server.jwt_authentication.api_key_claim']));
  passed('principal', () => `the API key ${formatText(key.name)}`);
  passed('names', () => formatList([user]));
  return { principals: ['an API key'], principalOf: new Map([[user, key.name]]) };
}

/**
 * Applies all rules of the issuer, or of the map that the rule of the login names, in their order,
 * to each principal. If the issuer has no rule, a principal is its own name. A named map without
 * rules yields no name.
 */
export function mapPrincipals(
  map: IdentityRules,
  issuer: string,
  principals: readonly string[],
  policy: Pick<TokenPolicy, 'map' | 'folds'> = noPolicy,
): MappedNames {
  const rules = map.rulesFor(policy.map ?? issuer);
  const isItsOwnName = rules.length === 0 && policy.map === undefined;
  const principalOf = new Map<string, string>();
  const unusable: string[] = [];
  for (const principal of principals) {
    const names = isItsOwnName ? [principal] : rules.map((rule) => rule.match(principal));
    for (const name of names) {
      if (name === undefined) {
        continue;
      }
      const user = policy.folds ? foldName(name) : name;
      if (!isUsableName(user)) {
        unusable.push(principal);
      } else if (!principalOf.has(user)) {
        principalOf.set(user, principal);
      }
    }
  }
  return { principalOf, unusable };
}

/**
 * Tells which folded names no token may log in as, whatever the identity map says. A superuser with
 * another name is found at the backend, which reports `is_superuser`.
 *
 * @param additional names that the operator reserves
 */
export function reserveNames(additional: readonly string[]): (folded: string) => boolean {
  const names = new Set([...RESERVED_NAMES, ...additional.map(foldName)]);
  return (folded) =>
    names.has(folded) || RESERVED_PREFIXES.some((prefix) => folded.startsWith(prefix));
}

/**
 * Check 6: the value of the claim. Empty text and an empty list are refused.
 *
 * @param claim the claim's name, a path or a JSON Pointer; empty means `sub`
 */
function readClaim(token: Token, claim: string): unknown {
  const name = claim || 'sub';
  const value = findMember(token.claims, name);
  if (value === undefined || value === '' || (Array.isArray(value) && value.length === 0)) {
    throw new CheckFailure('claim', {
      found: `${value === undefined ? 'no claim' : 'an empty claim'} ${formatText(name)}`,
      detail: `token does not contain a claim for ${formatText(name)}`,
    });
  }
  return value;
}

/**
 * Check 7, first half: the principals in the claim's value, one for each element of a list. Text
 * that cannot be a principal is left out. It is refused if there is no other.
 */
function readPrincipals(token: Token, claim: string, value: unknown): readonly string[] {
  if ((claim === 'email' || claim === '/email') && !isEmailVerified(token)) {
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
  const usable = elements
    .map((element) => readPrincipal(token, element))
    .filter((principal) => principal.length <= LENGTH_LIMIT && isUsableText(principal));
  if (usable.length === 0) {
    throw invalidPrincipal(
      token,
      elements[0],
      `a principal that is empty, longer than ${LENGTH_LIMIT} characters or has invisible ones`,
    );
  }
  return usable;
}

/**
 * A principal as text. Fractions, large numbers and objects have several spellings as text and are
 * refused, because the identity map and the operator see only one of them.
 */
function readPrincipal(token: Token, element: unknown): string {
  if (typeof element === 'string') {
    return element;
  }
  if (typeof element === 'boolean' || Number.isSafeInteger(element)) {
    return String(element);
  }
  throw invalidPrincipal(
    token,
    element,
    'a principal that is neither text, boolean nor an exact integer',
  );
}

/**
 * OpenID Connect Core 5.1: an address that is not verified is whatever the user typed. Some
 * identity providers write the boolean as text. Many leave it out; to accept that is the operator's
 * decision.
 */
function isEmailVerified(token: Token): boolean {
  const verified = token.claims.get('email_verified');
  return verified === undefined || verified === true || verified === 'true';
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

/** The failure of check 7 for a principal, or for the names that it leads to. */
function invalidPrincipal(token: Token, principal: unknown, found: string): CheckFailure {
  const value = formatValue(principal);
  return new CheckFailure('principal', {
    found: `${found}: ${value}`,
    detail: `the value ${value} for the issuer ${formatText(token.issuer)} is invalid`,
  });
}
