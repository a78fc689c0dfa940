/**
 * The checks that the options of a rule add: `scope`, `claims` and `groups`. They follow check 11.
 * A refusal tells the client nothing about the rule.
 */
import { formatList, formatText } from '../lib/text.ts';
import type { TokenPolicy } from '../settings/auth-rule-options.ts';
import { CheckFailure } from './refusals.ts';
import type { Token } from './token.ts';

/**
 * Check 12: each word of the rule's scope is in the token's.
 *
 * @returns the token's scope, for an explanation
 */
export function checkScope(token: Token, { scope }: TokenPolicy): readonly string[] {
  const granted = scopeOf(token);
  const missing = scope.filter((word) => !granted.includes(word));
  if (missing.length === 0) return granted;
  throw new CheckFailure('scope', {
    found: `${formatList(granted)}, without ${formatList(missing)}`,
    detail: `token issued with a scope of ${formatList(granted)}`,
  });
}

/** Check 13, first half: each claim of the rule equals the token's, or is an element of it. */
export function checkClaims(token: Token, { claims }: TokenPolicy): void {
  for (const [name, wanted] of claims) {
    const value = token.claims.get(name);
    const fits = Array.isArray(value) ? value.includes(wanted) : value === wanted;
    if (!fits) {
      const found = value === undefined ? 'no claim' : 'another value of the claim';
      throw new CheckFailure('claims', { found: `${found} ${formatText(name)}` });
    }
  }
}

/** Check 13, second half: one of the rule's groups is among the token's. */
export function checkRuleGroups(groups: readonly string[], policy: TokenPolicy): void {
  if (policy.groups.some((group) => groups.includes(group))) return;
  throw new CheckFailure('claims', { found: `the groups ${formatList(groups)}` });
}

/** The words of `scope` (RFC 8693, 4.2) or `scp` (Entra ID, Okta): text with spaces, or a list. */
function scopeOf(token: Token): readonly string[] {
  const claim = token.claims.get('scope') ?? token.claims.get('scp');
  if (typeof claim === 'string') return claim.split(' ').filter((word) => word !== '');
  if (!Array.isArray(claim)) return [];
  return claim.filter((word): word is string => typeof word === 'string');
}
