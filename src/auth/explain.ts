/**
 * Explains what would happen to a login. The checks are those of a login, and the result of each
 * is recorded; nobody is logged in. The explanation shows what each check expects in full, so it is
 * for operators only.
 */
import type { PgError } from '../lib/errors.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import type { Authenticator } from './authenticator.ts';
import type { Identity, LoginRequest } from './identity.ts';
import { type Check, CheckFailure, type CheckName, checks, refusal } from './refusals.ts';

/** The result of one check. */
export interface ExplainedCheck {
  readonly check: CheckName;
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

/**
 * Makes the checks of a login by these settings.
 *
 * @throws the signal's reason
 */
export async function explainLogin(
  authenticator: Authenticator,
  request: LoginRequest,
  values: LoginSettings,
  signal: AbortSignal,
): Promise<Explanation> {
  const passed = new Map<CheckName, string>();
  try {
    const identity = await authenticator.examine(request, values, signal, (check, found) => {
      passed.set(check, found);
    });
    return { checks: listChecks(values, passed, undefined), identity, refusal: undefined };
  } catch (error) {
    if (!(error instanceof CheckFailure)) throw error;
    return {
      checks: listChecks(values, passed, error),
      identity: undefined,
      refusal: refusal(error, values),
    };
  }
}

function listChecks(
  values: LoginSettings,
  passed: ReadonlyMap<CheckName, string>,
  failure: CheckFailure | undefined,
): ExplainedCheck[] {
  // The keys of the table are in the order of the checks.
  return (Object.keys(checks) as CheckName[]).map((name) => {
    const check: Check = checks[name];
    const failed = failure?.check === name;
    return {
      check: name,
      result: failed ? 'failed' : passed.has(name) ? 'passed' : 'not reached',
      found: failed ? failure.details.found : passed.get(name),
      expected: check.expected(values),
      decidedBy: check.decidedBy,
    };
  });
}
