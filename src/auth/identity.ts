/**
 * What goes into the login decision and what comes out. An {@link Identity} is all that the rest of
 * pgsso learns about a token, so no other code can depend on a claim that was not checked.
 */
import type { TokenPolicy } from '../settings/auth-rule-options.ts';

/** What a client sent to log in with a token. */
export interface LoginRequest {
  /** The text of the PasswordMessage. Not empty: an empty password is refused earlier. */
  readonly token: string;
  /** Whether it came as a token, and so cannot be the secret of an OAuth client. */
  readonly isBearer?: boolean;
  /** The startup parameter `user` as it was sent. Undefined or empty if there was none. */
  readonly user: string | undefined;
  /**
   * Whether the startup message names `role` or `session_authorization`, directly or in `options`.
   */
  readonly namesRole: boolean;
  /** What the rule of this login takes of tokens. Undefined: all that the settings accept. */
  readonly rule?: RuleInForce | undefined;
  /**
   * The address of the client, by which exchanges of client credentials are counted. Undefined if
   * it is not known.
   */
  readonly address?: string | undefined;
}

/** The rule of a login, as far as the decision needs it. */
export interface RuleInForce {
  readonly policy: TokenPolicy;
  /**
   * The policy for the user that the token has told. Another line may stand for that user.
   *
   * @throws PgError 28000 if that user may not log in in this way
   */
  policyFor(user: string): TokenPolicy;
}

/**
 * Who a login is, after every check has passed. The directory, the backend and the log use these
 * values.
 */
export interface Identity {
  /** The SQL user, folded. The backend login uses this name. */
  readonly user: string;
  /**
   * The value of the token's claim that the user was derived from, or the name of the API key that
   * decided.
   */
  readonly principal: string;
  /** The token's `iss`, which is exactly one of the configured issuers. */
  readonly issuer: string;
  /** When the token expires, in milliseconds since the epoch. A valid time value for `Date`. */
  readonly expiresAt: number;
  /**
   * The groups that the identity provider names, folded and distinct. Undefined unless roles
   * follow groups.
   */
  readonly groups: readonly string[] | undefined;
  /** The name of the API key that decided the user. Absent if none did. */
  readonly apiKey?: string;
}
