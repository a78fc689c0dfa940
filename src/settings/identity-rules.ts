/**
 * The identity map: which SQL user an external identity may be, one rule a line:
 *
 *     # issuer              external identity          SQL user
 *     https://idp.example   /^(.*)@example\.com$       \1
 *     https://idp.example   ops@example.com            operator
 *
 * How a rule is read and matched is told in map-rules.ts.
 */
import { parseMapRules } from './map-rules.ts';

/** One line of the map. */
export interface IdentityRule {
  /** Compared exactly with the token's `iss`. */
  readonly issuer: string;
  /** From 1. */
  readonly line: number;
  /** The regular expression without its `/`; a literal has none. */
  readonly pattern?: string;
  /** The SQL user for the principal, `\1` put in, not folded and possibly unusable; undefined when the rule does not match. */
  match(principal: string): string | undefined;
}

/** The rules in their order. */
export interface IdentityRules {
  readonly rules: readonly IdentityRule[];
  /** The rules of one issuer; empty when it has none. */
  rulesFor(issuer: string): readonly IdentityRule[];
}

/** A login that tries all expressions on 50 characters stays within a tenth of a second. */
const BUDGET = { patterns: 1000, instructions: 100_000 };

const noRules: readonly IdentityRule[] = Object.freeze([]);

/**
 * The rules of a map's text.
 *
 * @throws PgError 22023 that names the line
 */
export function parseIdentityRules(text: string): IdentityRules {
  const rules: IdentityRule[] = [];
  const byIssuer = new Map<string, IdentityRule[]>();
  for (const { scope: issuer = '', line, pattern, match } of parseMapRules(text, 3, BUDGET)) {
    const rule = Object.freeze({ issuer, line, match, ...(pattern !== undefined && { pattern }) });
    rules.push(rule);
    const others = byIssuer.get(issuer);
    if (others === undefined) byIssuer.set(issuer, [rule]);
    else others.push(rule);
  }
  for (const ofIssuer of byIssuer.values()) Object.freeze(ofIssuer);
  return Object.freeze({
    rules: Object.freeze(rules),
    rulesFor: (issuer: string) => byIssuer.get(issuer) ?? noRules,
  });
}
