/**
 * The statements of the directory, which differ between PostgreSQL and CockroachDB: they read a
 * user's roles, create users and grant roles. Catalogs are named with their schema. Names and texts
 * are parameters, or are quoted by pg's functions where SQL takes no parameter.
 */

/** Begins the origin of a user that was created at the first login; the issuer follows. */
export const ORIGIN_PREFIX = 'jwt_token:';

/** Facts about the role of a directory connection. */
export interface DirectoryFacts {
  readonly dialect: Dialect;
  /** Whether several roles can grant the same membership (PostgreSQL 16 and later). */
  readonly severalGrantors: boolean;
  readonly role: string;
  readonly superuser: boolean;
  /** Whether the role may create users. */
  readonly creates: boolean;
  /** Whether there is a role that it may grant. */
  readonly grants: boolean;
}

/** The statements of one kind of database. */
export interface Dialect {
  /**
   * Name and text of the query for the user `$1` and the wanted roles `$2`. Its one row has
   * `exists`, `can_login` and `superuser` of the user, `unfit` if the directory's role is a
   * superuser, and RoleFacts as JSON in `roles`.
   */
  readonly rolesQuery: { readonly name: string; readonly text: string };
  /**
   * Locks the user `$1` until the end of the transaction; undefined if the database detects
   * conflicts by itself.
   */
  readonly lock: string | undefined;
  /**
   * The query for all users that the directory created or granted a role: `user`, `origin` (null
   * for none), `roles`.
   */
  readonly usersQuery: string;
  /**
   * The query whether the user whose name is the bytes `$1` was created at the first login:
   * `provisioned`, in no row if there is no such user. Undefined if the database itself takes no
   * password of such a user.
   */
  readonly provisionedQuery: { readonly name: string; readonly text: string } | undefined;
  /** The statements that create a user; they run in a transaction. */
  create(user: string, origin: string, facts: DirectoryFacts): readonly string[];
  /** The statement that grants a role to a user. */
  grant(role: string, user: string): string;
  /** The statement that revokes it. */
  revoke(role: string, user: string): string;
}
