/**
 * The rule of a login: the first line of `server.host_based_authentication.configuration` that
 * matches. It is looked for before anything is asked of the client, and again once a token has told
 * the user, so that no way of writing or leaving out a name avoids a `reject`.
 */
import type { ErrorCode } from '../lib/error-codes.ts';
import { PgError } from '../lib/errors.ts';
import { formatText } from '../lib/text.ts';
import { noPolicy, type TokenPolicy } from '../settings/auth-rule-options.ts';
import { RULES_SETTING } from '../settings/auth-rule-syntax.ts';
import type { AuthRule, AuthRules, RuleQuery } from '../settings/auth-rules.ts';
import type { RuleInForce } from './identity.ts';

/** For logins to which no rule applies. */
export const noRule: RuleInForce = { policy: noPolicy, policyFor: () => noPolicy };

/**
 * The rule that matches a client.
 *
 * @throws PgError 28000 if no line matches, or the line is a `reject`
 */
export function findRule(rules: AuthRules, query: RuleQuery): AuthRule {
  const rule = rules.find(query);
  if (!rule) throw refusedByRules('no_rule', query, 'no line matches');
  if (rule.method !== 'reject') return rule;
  throw refusedByRules('rejected_by_rule', query, describeRule(rule));
}

/**
 * What a rule takes of tokens, and what to do once a token has told the user. If the user's name as
 * it is now finds another line, that line's options count instead.
 */
export function ruleInForce(rules: AuthRules, query: RuleQuery, first: AuthRule): RuleInForce {
  return {
    policy: first.policy,
    policyFor(user: string): TokenPolicy {
      if (user === query.user) return first.policy;
      const rule = rules.find({ ...query, user });
      if (rule?.line === first.line) return first.policy;
      const why = whyNot(rule, first);
      if (rule && why === undefined) return rule.policy;
      const code = rule?.method === 'reject' ? 'rejected_by_rule' : 'no_rule';
      throw refusedByRules(code, query, `the token is for ${formatText(user)}, and ${why}`);
    },
  };
}

/** Whether an error is a refusal by the rules. */
export function isRefusedByRules(error: unknown): error is PgError {
  return (
    error instanceof PgError && (error.code === 'no_rule' || error.code === 'rejected_by_rule')
  );
}

/** A rule as it is shown in the log and in explanations. */
export function describeRule(rule: AuthRule): string {
  return `line ${rule.line}: ${formatText(rule.written.replace(/\s+/g, ' '))}`;
}

function whyNot(rule: AuthRule | undefined, first: AuthRule): string | undefined {
  if (!rule) return 'no line matches that user';
  if (rule.method === first.method) return undefined;
  return `line ${rule.line} (${rule.method}) stands for that user, not line ${first.line}`;
}

/** CockroachDB's words. The client sent the user, and knows its own address. */
function refusedByRules(
  code: Extract<ErrorCode, 'no_rule' | 'rejected_by_rule'>,
  { address = '', user = '', database = '' }: RuleQuery,
  reason: string,
): PgError {
  const host = address.replace(/^::ffff:/, '');
  const name = formatText(user);
  return new PgError({
    code,
    message: `no ${RULES_SETTING} entry for host "${host}", user "${name}"`,
    reason: `${reason}; database "${formatText(database)}"; ${RULES_SETTING}`,
  });
}
