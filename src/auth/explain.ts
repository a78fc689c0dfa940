/**
 * Explains what would happen to a login. The checks are those of a login, and the result of each
 * is recorded; nobody is logged in. The explanation shows what each check expects in full, so it is
 * for operators only.
 */
import type { PgError } from '../lib/errors.ts';
import { RULES_SETTING } from '../settings/auth-rule-syntax.ts';
import type { AuthRule, AuthRules, RuleQuery } from '../settings/auth-rules.ts';
import { bearerSettings } from '../settings/oauthbearer.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import type { Authenticator } from './authenticator.ts';
import type { Identity, LoginRequest } from './identity.ts';
import { CheckFailure, type CheckName, checkInForce, checks, refusal } from './refusals.ts';
import { describeRule, findRule, isRefusedByRules, ruleInForce } from './rules.ts';

/** The result of one check. */
export interface ExplainedCheck {
  /** `rule` stands before the checks. */
  readonly check: CheckName | 'rule';
  readonly result: 'passed' | 'failed' | 'not reached';
  /** What the check looked at. Undefined if it was not reached. */
  readonly found: string | undefined;
  readonly expected: string;
  /** The setting or option that decides. Undefined if none can help. */
  readonly decidedBy: string | undefined;
}

/** The results of all checks, and the outcome. */
export interface Explanation {
  /** Every check in its order. The last one, `superuser`, needs the backend and is not reached. */
  readonly checks: readonly ExplainedCheck[];
  /** Who the client would be. Undefined if a check failed. */
  readonly identity: Identity | undefined;
  /** What the client would be told. Undefined if no check failed. */
  readonly refusal: PgError | undefined;
}

/** From where and how the login is made, and the rules that say what follows from it. */
export interface ExplainedClient {
  readonly rules: AuthRules;
  /** Without the user, who is in the request. */
  readonly query: Omit<RuleQuery, 'user'>;
}

/**
 * Makes the checks of a login by these settings.
 *
 * @param client undefined: no rule is looked for
 * @throws the signal's reason
 */
export async function explainLogin(
  authenticator: Authenticator,
  request: LoginRequest,
  values: LoginSettings,
  signal: AbortSignal,
  client?: ExplainedClient,
): Promise<Explanation> {
  let settings = values;
  const passed = new Map<CheckName, string>();
  let found: AuthRule | undefined;
  try {
    const query = client && { ...client.query, user: request.user };
    found = query && findRule(client.rules, query);
    const rule = query && found && ruleInForce(client.rules, query, found);
    if (found?.method === 'oauth') settings = bearerSettings(values);
    const identity = await authenticator.examine(
      { ...request, rule },
      settings,
      signal,
      (check, what) => void passed.set(check, what()),
    );
    return {
      checks: [...ruleRow(found), ...listChecks(settings, passed, undefined)],
      identity,
      refusal: undefined,
    };
  } catch (error) {
    if (isRefusedByRules(error)) {
      const checks = [failedRuleRow(error), ...listChecks(settings, passed, undefined)];
      return { checks, identity: undefined, refusal: error };
    }
    if (!(error instanceof CheckFailure)) throw error;
    return {
      checks: [...ruleRow(found), ...listChecks(settings, passed, error)],
      identity: undefined,
      refusal: refusal(error, settings),
    };
  }
}

const RULE_ROW = {
  check: 'rule',
  expected: 'a line that matches and is no reject',
  decidedBy: RULES_SETTING,
} as const;

function ruleRow(rule: AuthRule | undefined): ExplainedCheck[] {
  return rule ? [{ ...RULE_ROW, result: 'passed', found: describeRule(rule) }] : [];
}

function failedRuleRow({ reason }: PgError): ExplainedCheck {
  return { ...RULE_ROW, result: 'failed', found: reason };
}

function listChecks(
  values: LoginSettings,
  passed: ReadonlyMap<CheckName, string>,
  failure: CheckFailure | undefined,
): ExplainedCheck[] {
  // The keys of the table are in the order of the checks.
  return (Object.keys(checks) as CheckName[]).map((name) => {
    const check = checkInForce(name, values);
    const failed = failure?.check === name;
    return {
      check: name,
      result: failed ? 'failed' : passed.has(name) ? 'passed' : 'not reached',
      found: failed ? failure.details.found : passed.get(name),
      expected: (failed ? failure.details.expected : undefined) ?? check.expected(values),
      decidedBy: check.decidedBy,
    };
  });
}
