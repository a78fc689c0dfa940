/**
 * What goes into the login decision and what comes out. An {@link Identity} is all that the rest of
 * pgsso ever learns about a token, so that no later room can come to depend on a claim that nobody
 * checked.
 */

/** What a client sent to be let in with a token. */
export interface LoginRequest {
  /** The text of the PasswordMessage. Never empty: an empty password is answered before this. */
  readonly token: string;
  /** The startup parameter `user` as it was sent; undefined or empty when there was none. */
  readonly user: string | undefined;
  /**
   * Whether the startup message names `role` or `session_authorization`, directly or in `options`.
   */
  readonly namesRole: boolean;
}

/** Who a login is, after every check has passed. */
export interface Identity {
  /** The SQL user, folded: the name to log in with at the backend. */
  readonly user: string;
  /**
   * The value of the token's claim that the user was derived from, or the name of the API key that
   * decided.
   */
  readonly principal: string;
  /** The token's `iss`. */
  readonly issuer: string;
  /**
   * When the token expires, in milliseconds since the epoch; always a valid time value for `Date`.
   */
  readonly expiresAt: number;
  /**
   * The groups that the identity provider says he is in, folded and distinct; undefined unless
   * roles follow groups.
   */
  readonly groups: readonly string[] | undefined;
  /** The name of the API key that decided the user; left out where none did. */
  readonly apiKey?: string;
}
