/**
 * Checks 6 to 8: the SQL users that a token may be. Its claim and the identity map say so, unless it brings a valid API key: then the user
 * of the key is the only one.
 */
import type { ApiKey } from '../settings/api-keys.ts';
import { CheckFailure, type PassedCheck } from './checks.ts';
import { type MappedNames, mapPrincipals } from './identity-map.ts';
import type { LoginSettings } from './login-settings.ts';
import { foldName } from './names.ts';
import { invalidPrincipal, readClaim, readPrincipals } from './principals.ts';
import { formatList, formatText } from './text.ts';
import type { Token } from './token.ts';

/** Who a token may be. */
export interface TokenNames {
  /** For the client, which sent them. */
  readonly principals: readonly string[];
  /** The distinct SQL users, folded, each with the principal that led to it. */
  readonly principalOf: ReadonlyMap<string, string>;
}

/** By the claim of the principal; yields each check that passes. Throws CheckFailure. */
export function* namesOfClaim(token: Token, values: LoginSettings): Generator<PassedCheck, TokenNames, void> {
  const claim = values['server.jwt_authentication.claim'];
  const claimed = readClaim(token, claim);
  yield { check: 'claim', found: formatText(claim || 'sub') };

  const principals = readPrincipals(token, claim, claimed);
  const names = mapPrincipals(values['server.identity_map.configuration'], token.issuer, principals);
  checkUsableNames(token, names);
  yield { check: 'principal', found: formatList(principals) };

  const { principalOf } = names;
  checkNames(token, principals, names);
  yield { check: 'names', found: formatList([...principalOf.keys()]) };
  return { principals, principalOf };
}

/** By an API key. The client sent its secret and does not know its name, so that no refusal has it. */
export function* namesOfKey(key: ApiKey, values: LoginSettings): Generator<PassedCheck, TokenNames, void> {
  const user = foldName(key.user);
  yield { check: 'claim', found: formatText(values['server.jwt_authentication.api_key_claim']) };
  yield { check: 'principal', found: `the API key ${formatText(key.name)}` };
  yield { check: 'names', found: formatList([user]) };
  return { principals: ['an API key'], principalOf: new Map([[user, key.name]]) };
}

/** Check 7, second half. */
function checkUsableNames(token: Token, { principalOf, unusable }: MappedNames): void {
  if (principalOf.size === 0 && unusable.length > 0) {
    throw invalidPrincipal(token, unusable[0], 'a principal whose SQL name is empty, longer than 63 bytes or not visible');
  }
}

/** Check 8. */
function checkNames(token: Token, principals: readonly string[], { principalOf }: MappedNames): void {
  if (principalOf.size === 0) {
    const shown = formatList(principals);
    throw new CheckFailure('names', {
      found: `${shown}, which no rule for the issuer ${formatText(token.issuer)} matches`,
      detail: `the value ${shown} for the issuer ${formatText(token.issuer)} is invalid`,
    });
  }
}
