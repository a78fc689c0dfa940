/**
 * The checks of a token login as a table: the name of each, its message for the client, the setting
 * that decides it. A check that fails throws a {@link CheckFailure}, which says only what was
 * found. The texts for client and log are made here, so that a login and its explanation cannot
 * differ. The last functions refuse users for what the backend or the directory says about them.
 */
import type { ErrorCode } from '../lib/error-codes.ts';
import { type Fault, PgError } from '../lib/errors.ts';
import { formatList, formatText } from '../lib/text.ts';
import { RULES_SETTING } from '../settings/auth-rule-syntax.ts';
import { nameInForce } from '../settings/oauthbearer.ts';
import type { ProvisioningPattern } from '../settings/pattern.ts';
import type { LoginSettings, SettingValues } from '../settings/snapshot.ts';
import type { Identity } from './identity.ts';

/** One row of the table. */
export interface Check {
  /** Place in the order, from 1. */
  readonly number: number;
  /** Stable name of the refusal, for log and metrics. */
  readonly code: ErrorCode;
  /** The message for the client, as in CockroachDB. */
  readonly message: string;
  /**
   * The setting, or the option of `pgsso serve`, that an operator would change. Undefined if none
   * can help.
   */
  readonly decidedBy: string | undefined;
  /** What would pass. For the log only: it lists what is accepted here. */
  expected(values: LoginSettings): string;
}

/**
 * The checks, in the order in which they are made. `role` and `superuser`, after the first eleven,
 * have the message of `reserved`. The checks between these two are made only if roles follow
 * groups.
 */
export const checks = {
  enabled: {
    number: 1,
    code: 'jwt_not_enabled',
    message: 'JWT authentication: not enabled',
    decidedBy: 'server.jwt_authentication.enabled',
    expected: () => 'true',
  },
  token: {
    number: 2,
    code: 'malformed_token',
    message: 'JWT authentication: invalid token',
    decidedBy: undefined,
    expected: () => 'a signed JSON web token in compact form',
  },
  issuer: {
    number: 3,
    code: 'invalid_issuer',
    message: 'JWT authentication: invalid issuer',
    decidedBy: 'server.jwt_authentication.issuers.configuration',
    expected: (values) =>
      `one of ${formatList(values['server.jwt_authentication.issuers.configuration'].issuers)}`,
  },
  keys: {
    number: 4,
    code: 'keys_unavailable',
    message: 'JWT authentication: unable to validate token',
    decidedBy: 'server.jwt_authentication.jwks_auto_fetch.enabled',
    expected: () => 'the keys of the issuer',
  },
  signature: {
    number: 5,
    code: 'invalid_token',
    message: 'JWT authentication: invalid token',
    decidedBy: 'server.jwt_authentication.jwks, pgsso.clock_tolerance',
    expected: (values) =>
      'a signature by a key of the issuer, exp after now, ' +
      `nbf and iat at most ${values['pgsso.clock_tolerance']} ms after now`,
  },
  claim: {
    number: 6,
    code: 'missing_claim',
    message: 'JWT authentication: missing claim',
    decidedBy: 'server.jwt_authentication.claim',
    expected: () => 'a value that is not empty',
  },
  principal: {
    number: 7,
    code: 'invalid_claim_value',
    message: 'JWT authentication: invalid claim value',
    decidedBy: 'server.jwt_authentication.claim, server.identity_map.configuration',
    expected: () => 'visible text, and SQL names of 1 to 63 bytes',
  },
  names: {
    number: 8,
    code: 'no_mapped_name',
    message: 'JWT authentication: invalid principal',
    decidedBy: 'server.identity_map.configuration',
    expected: () => 'a rule for this issuer that matches',
  },
  user: {
    number: 9,
    code: 'user_not_in_token',
    message: 'JWT authentication: invalid principal',
    decidedBy: 'server.identity_map.configuration',
    expected: () => 'a user that the token yields; without a user, a token that yields exactly one',
  },
  reserved: {
    number: 10,
    code: 'reserved_user',
    message: 'JWT authentication: invalid identity',
    decidedBy: '--reserved-user',
    expected: () => 'a user that is neither reserved by pgsso nor by the operator',
  },
  audience: {
    number: 11,
    code: 'invalid_audience',
    message: 'JWT authentication: invalid audience',
    decidedBy: 'server.jwt_authentication.audience',
    expected: (values) => `one of ${formatList(values['server.jwt_authentication.audience'])}`,
  },
  scope: {
    number: 12,
    code: 'insufficient_scope',
    message: 'JWT authentication: insufficient scope',
    decidedBy: RULES_SETTING,
    expected: () => 'each word of the option scope of the rule',
  },
  claims: {
    number: 13,
    code: 'claim_not_accepted',
    message: 'JWT authentication: claim not accepted',
    decidedBy: RULES_SETTING,
    expected: () => 'what the options claims and groups of the rule ask for',
  },
  role: {
    number: 14,
    code: 'role_in_startup',
    message: 'JWT authentication: invalid identity',
    decidedBy: '--superusers',
    expected: () =>
      'a startup message without role and session_authorization, ' +
      'behind which a superuser could hide',
  },
  overage: {
    number: 15,
    code: 'groups_overage',
    message: 'JWT authorization: groups are missing from the token',
    decidedBy: 'server.jwt_authentication.group_claim',
    expected: () => 'the groups in the token itself',
  },
  endpoint: {
    number: 16,
    code: 'no_userinfo_endpoint',
    message: 'JWT authorization: No userinfo endpoint',
    decidedBy: 'server.jwt_authentication.group_claim',
    expected: () => 'the groups in the token, or an issuer with a userinfo endpoint',
  },
  userinfo: {
    number: 17,
    code: 'userinfo_failed',
    message: 'JWT authorization: userinfo lookup failed',
    decidedBy:
      'server.jwt_authentication.group_claim, server.jwt_authentication.userinfo_group_key',
    expected: () => 'the groups in the token, or in the answer of userinfo about the same subject',
  },
  groups: {
    number: 18,
    code: 'empty_group_list',
    message: 'JWT authorization: empty group list',
    decidedBy: 'server.jwt_authentication.authorization.enabled',
    expected: () => 'at least one group, and at most 1000',
  },
  superuser: {
    number: 19,
    code: 'superuser',
    message: 'JWT authentication: invalid identity',
    decidedBy: '--superusers',
    expected: () => 'a user for whom the backend reports is_superuser = off',
  },
} as const satisfies Record<string, Check>;

/** The name of a check. */
export type CheckName = keyof typeof checks;

/** Is told of each check that passes. `found` says what the check looked at, for explanations. */
export type Passed = (check: CheckName, found: () => string) => void;

/** What is known about the failure of a check. */
export interface FailureDetails {
  /**
   * What the check looked at and why it is refused, for the log. Does not hold the token. Text from
   * the token is passed through `formatText`.
   */
  readonly found: string;
  /** What would pass, where a rule says so and not the settings. */
  readonly expected?: string;
  /** The DETAIL for the client. Repeats at most what the client itself sent. */
  readonly detail?: string;
  /** Default `client`. */
  readonly fault?: Fault;
  readonly cause?: unknown;
}

/** Thrown by the check that fails. {@link refusal} turns it into a {@link PgError}. */
export class CheckFailure extends Error {
  readonly check: CheckName;
  readonly details: FailureDetails;

  constructor(check: CheckName, details: FailureDetails) {
    super(details.found, { cause: details.cause });
    this.name = 'CheckFailure';
    this.check = check;
    this.details = details;
  }
}

/** The row of a check. A login by OAUTHBEARER may be decided by settings of its own. */
export function checkInForce(name: CheckName, values: LoginSettings): Check {
  const check: Check = checks[name];
  if (!values.derived) return check;
  return {
    ...check,
    ...(name === 'enabled' && bearerNotEnabled),
    decidedBy: check.decidedBy
      ?.split(', ')
      .map((setting) => nameInForce(values, setting))
      .join(', '),
  };
}

const bearerNotEnabled = {
  code: 'oauthbearer_not_enabled',
  message: 'OAUTHBEARER authentication: not enabled',
} as const;

/** The refusal as the client sees it, with the full reason for the log. */
export function refusal({ check: name, details }: CheckFailure, values: LoginSettings): PgError {
  const check = checkInForce(name, values);
  const { found, detail, fault = 'client', cause } = details;
  const decidedBy = check.decidedBy === undefined ? '' : `; decided by ${check.decidedBy}`;
  return new PgError({
    code: check.code,
    message: check.message,
    detail,
    reason:
      `check ${check.number} (${name}): found ${found}; ` +
      `expected ${details.expected ?? check.expected(values)}${decidedBy}`,
    fault,
    cause,
  });
}

/**
 * The refusal of a superuser, whom no token may log in as. Only the backend knows who is one, and
 * reports it after the login there: this check comes after all others, and before the client hears
 * of its success. A user of whom nothing is reported counts as a superuser, so that the rule does
 * not depend on what a backend, or a proxy in front of it, leaves out.
 *
 * @param isSuperuser the ParameterStatus `is_superuser` of the login
 * @returns undefined if the user is not a superuser
 */
export function superuserRefusal(
  user: string,
  isSuperuser: 'on' | 'off' | undefined,
  values: SettingValues,
): PgError | undefined {
  if (isSuperuser === 'off') return undefined;
  const shown = formatText(user);
  const found = `is_superuser = ${isSuperuser ?? '(not reported)'} for ${shown}`;
  const detail = `cannot use JWT auth to login to a reserved user ${shown}`;
  return refusal(new CheckFailure('superuser', { found, detail }), values);
}

/**
 * Whether a user of this name may be created at the first login. The name is known to be usable and
 * not reserved. Without a pattern, any such name will do.
 */
export function mayBeCreated(user: string, pattern: ProvisioningPattern | undefined): boolean {
  return pattern?.allows(user) ?? true;
}

/** The refusal, as check 7, of a user that does not exist and may not be created. */
export function creationRefusal(
  { user, principal, issuer, apiKey }: Identity,
  values: SettingValues,
): PgError {
  // The client sent the secret of an API key and does not know its name.
  const shown = apiKey === undefined ? formatText(principal) : 'of an API key';
  return refusal(
    new CheckFailure('principal', {
      found:
        `the user ${formatText(user)}, who does not exist and ` +
        'does not match pgsso.provisioning.pattern',
      detail: `the value ${shown} for the issuer ${formatText(issuer)} is invalid`,
    }),
    values,
  );
}
