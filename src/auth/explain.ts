/**
 * A login, explained instead of made: the same examination as a login's, with each check's result
 * kept. Nothing is decided and nobody is logged in. What is expected is shown in full, so this is
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
  /** What was looked at; undefined when it was not reached. */
  readonly found: string | undefined;
  readonly expected: string;
  /** The setting or option that decides; undefined where none can help. */
  readonly decidedBy: string | undefined;
}

/** The whole of it. */
export interface Explanation {
  /**
   * Every check in its order. The last one, `superuser`, is the backend's and never reached here.
   */
  readonly checks: readonly ExplainedCheck[];
  /** Who it would be; undefined when a check failed. */
  readonly identity: Identity | undefined;
  /** What the client would be told; undefined when no check failed. */
  readonly refusal: PgError | undefined;
}

/**
 * Examines a login by these settings.
 *
 * @throws whatever the signal aborts with
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
    return { checks: list(values, passed, undefined), identity, refusal: undefined };
  } catch (error) {
    if (!(error instanceof CheckFailure)) throw error;
    return {
      checks: list(values, passed, error),
      identity: undefined,
      refusal: refusal(error, values),
    };
  }
}

function list(
  values: LoginSettings,
  passed: ReadonlyMap<CheckName, string>,
  failure: CheckFailure | undefined,
): ExplainedCheck[] {
  // The table's own keys, in the order of the checks.
  return (Object.keys(checks) as CheckName[]).map((name) => {
    const check: Check = checks[name];
    const failed = failure?.check === name;
    return {
      check: name,
      result: failed ? 'failed' : passed.has(name) ? 'passed' : 'not reached',
      found: failed ? failure.finding.found : passed.get(name),
      expected: check.expected(values),
      decidedBy: check.decidedBy,
    };
  });
}
