/**
 * What the directory says to a database, where PostgreSQL and CockroachDB differ: how to ask for a
 * user's roles, and how to create users and grant roles. Catalogs are named with their schema;
 * names and texts go in as parameters, or quoted by pg's own functions where SQL takes no
 * parameter.
 */

/** Begins the origin of a user who was created at his first login; the issuer follows. */
export const ORIGIN_PREFIX = 'jwt_token:';

/** What is known of the connection's own role. */
export interface DirectoryFacts {
  readonly dialect: Dialect;
  /** Whether a membership can be granted by several roles beside each other. */
  readonly severalGrantors: boolean;
  readonly role: string;
  readonly superuser: boolean;
  /** It may create users. */
  readonly creates: boolean;
  /** There is a role that it may grant. */
  readonly grants: boolean;
}

/** The statements of one kind of database. */
export interface Dialect {
  /**
   * Name and text of the query for `$1` the user and `$2` the wanted roles. Its one row says of the
   * user whether it `exists`, `can_login` and is `superuser`, of our own role whether it is `unfit`
   * for being one, and has RoleFacts as JSON in `roles`.
   */
  readonly rolesQuery: { readonly name: string; readonly text: string };
  /**
   * Makes other transactions that change the user `$1` wait, to the end of this one; undefined
   * where the database finds conflicts itself.
   */
  readonly lock: string | undefined;
  /**
   * Everybody whom the directory created or granted a role: `user`, `origin` (null for none),
   * `roles`.
   */
  readonly usersQuery: string;
  /** Statements that create a user, to be run in a transaction. */
  create(user: string, origin: string, facts: DirectoryFacts): readonly string[];
  grant(role: string, user: string): string;
  revoke(role: string, user: string): string;
}
