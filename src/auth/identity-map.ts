/**
 * The identity map at work: from the principals of a token to the SQL users it may be. The rules themselves are a setting, parsed
 * and compiled when it is set.
 */
import type { IdentityRules } from '../settings/identity-rules.ts';
import { foldName, isUsableName } from './names.ts';

/** What the identity map made of a token's principals. */
export interface MappedNames {
  /** The distinct SQL users in the order of the rules, folded, each with the first principal that led to it. */
  readonly principalOf: ReadonlyMap<string, string>;
  /** The principals of which a name came that cannot be a SQL user; that name is left out. */
  readonly unusable: readonly string[];
}

/** Applies all rules of the issuer in their order to each principal; without a rule for the issuer a principal is its own name. */
export function mapPrincipals(map: IdentityRules, issuer: string, principals: readonly string[]): MappedNames {
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
