/**
 * The users and roles of the database, looked after with a role that may create users and grant
 * roles, and no more. A login costs one query as long as nothing has to change; what has to change
 * happens in one transaction, all of it or nothing.
 */

import type pg from 'pg';
import { KeyedMutex } from '../lib/keyed-mutex.ts';
import { ORIGIN_PREFIX } from './dialect.ts';
import {
  planRoles,
  type RoleFacts,
  type RolePlan,
  type SkippedRole,
  type WantedRole,
} from './plan.ts';
import {
  type DirectoryClient,
  type DirectoryConnection,
  DirectoryPool,
  failure,
  isConflict,
  look,
  unavailable,
} from './pool.ts';

/** What a login asks of the directory. */
export interface DirectoryRequest {
  /** The SQL user, folded. */
  readonly user: string;
  /** The issuer to create the user for if he does not exist; undefined: he is not created. */
  readonly createFor: string | undefined;
  /** The roles he is to have; undefined: his roles are not looked at. */
  readonly roles: readonly WantedRole[] | undefined;
}

/** What was found and done. */
export interface DirectoryOutcome {
  /** Whether the user exists now. */
  readonly exists: boolean;
  readonly created: boolean;
  readonly granted: readonly string[];
  readonly revoked: readonly string[];
  readonly skipped: readonly SkippedRole[];
  /** Memberships that somebody else granted and no group justifies. */
  readonly kept: readonly string[];
}

/** A user whom the directory created, or granted a role. */
export interface DirectoryUser {
  readonly user: string;
  /** `jwt_token:<issuer>` of one who was created at a first login. */
  readonly origin: string | undefined;
  /**
   * Milliseconds since the epoch, of the last login with a token through this process since it
   * started; undefined for none.
   */
  readonly lastLogin: number | undefined;
  /** The roles that the directory granted. */
  readonly roles: readonly string[];
}

/** What may be asked of the directory's role, in a setting. */
export type DirectoryTask = 'create' | 'grant';

/** What the database knows. */
interface State {
  readonly exists: boolean;
  readonly plan: RolePlan;
}

/** A row of the roles query. */
interface RolesRow {
  readonly exists: boolean;
  readonly can_login: boolean;
  readonly superuser: boolean;
  /** Whether the role that we are connected as has become a superuser meanwhile. */
  readonly unfit: boolean;
  readonly roles: readonly RoleFacts[];
}

const CREATION_FAILED = 'JWT provisioning: failed to create role';

/**
 * One transaction against the one of another process; more than a few in a row is something else
 * than bad luck.
 */
const ATTEMPTS = 5;

/** Last logins that are remembered; a name takes at most 63 bytes. */
const LAST_LOGINS = 10_000;

const NOTHING: RolePlan = { changes: [], skipped: [], kept: [] };

/** The directory of one database. */
export class Directory {
  readonly #pool: DirectoryPool;
  readonly #changing = new KeyedMutex();
  readonly #lastLogins = new Map<string, number>();

  constructor(connection: DirectoryConnection) {
    this.#pool = new DirectoryPool(connection);
  }

  /**
   * Sees to it that the user exists, if that is asked for, and has the roles. Nothing is left
   * half-done when it fails.
   *
   * @throws PgError 57P03 when the directory is away; 28000 when the database refuses; the signal's
   *   reason
   */
  async prepare(request: DirectoryRequest, signal: AbortSignal): Promise<DirectoryOutcome> {
    signal.throwIfAborted();
    // A change that was begun is finished, whether or not somebody still waits for it.
    return unlessAborted(signal, this.#prepare(request));
  }

  async #prepare(request: DirectoryRequest): Promise<DirectoryOutcome> {
    const message = `JWT authorization: error assigning roles to user ${request.user}`;
    const state = await this.#pool.run(message, (client) => readState(client, request));
    if (!needsChange(request, state)) return outcomeOf(state, false);
    return this.#changing.run(request.user, () =>
      this.#pool.run(message, (client) => change(client, request)),
    );
  }

  /**
   * Why the directory's role is not able to do a task, or may not be used at all; undefined when it
   * is.
   *
   * @throws PgError 57P03 when the directory is away
   */
  async problem(task?: DirectoryTask): Promise<string | undefined> {
    const { role, superuser, creates, grants } = await this.#pool.run('', ({ client }) =>
      look(client),
    );
    if (superuser)
      return `${role} is a superuser: its grants could not be told from those of others. Give a role that is none`;
    if (task === 'create' && !creates)
      return `${role} may not create users: ALTER ROLE … CREATEROLE`;
    if (task === 'grant' && !grants)
      return `${role} may grant no role: GRANT … TO ${role} WITH ADMIN OPTION, for each that groups stand for`;
    return undefined;
  }

  /** A user has logged in with a token; `at` in milliseconds since the epoch. */
  noteLogin(user: string, at: number): void {
    this.#lastLogins.delete(user);
    this.#lastLogins.set(user, at);
    if (this.#lastLogins.size <= LAST_LOGINS) return;
    for (const [oldest] of this.#lastLogins) return void this.#lastLogins.delete(oldest);
  }

  /**
   * Everybody whom the directory created, or granted a role, by name.
   *
   * @throws PgError 57P03 when the directory is away
   */
  async users(): Promise<readonly DirectoryUser[]> {
    const { rows } = await this.#pool.run('the users could not be read', ({ client, facts }) =>
      client.query<{ user: string; origin: string | null; roles: string[] | null }>(
        facts.dialect.usersQuery,
      ),
    );
    return rows.map(({ user, origin, roles }) => ({
      user,
      origin: origin ?? undefined,
      lastLogin: this.#lastLogins.get(user),
      roles: roles ?? [],
    }));
  }

  /** Makes new connections from now on, by what the files of the connection say then. */
  reopen(): void {
    this.#pool.reopen();
  }

  /** Lets go of the database. */
  async close(): Promise<void> {
    await this.#pool.close();
  }
}

async function readState(
  { client, facts }: DirectoryClient,
  { user, roles }: DirectoryRequest,
): Promise<State> {
  const values = [user, roles?.map(({ name }) => name) ?? []];
  const { rows } = await client.query<RolesRow>({ ...facts.dialect.rolesQuery, values });
  const row = rows[0];
  if (!row || row.unfit)
    throw unavailable(
      `${facts.role} is a superuser, whose grants could not be told from those of others`,
    );
  // A role without LOGIN is a group of its own, whose members would all be changed; a superuser
  // needs no role. The backend refuses both.
  const isUser = row.can_login && !row.superuser;
  const known = isUser || !row.exists ? row.roles : [];
  return {
    exists: row.exists,
    plan: roles && known.length > 0 ? planRoles(roles, known, facts.severalGrantors) : NOTHING,
  };
}

function needsChange({ createFor }: DirectoryRequest, { exists, plan }: State): boolean {
  return exists ? plan.changes.length > 0 : createFor !== undefined;
}

/** Looks again inside a transaction, one at a time for each user, and makes the changes. */
async function change(
  directory: DirectoryClient,
  request: DirectoryRequest,
): Promise<DirectoryOutcome> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await transact(directory.client, () => changeOnce(directory, request));
    } catch (error) {
      if (attempt === ATTEMPTS || !isConflict(error)) throw error;
    }
  }
}

async function changeOnce(
  directory: DirectoryClient,
  request: DirectoryRequest,
): Promise<DirectoryOutcome> {
  const { client, facts } = directory;
  const { dialect } = facts;
  const { user, createFor } = request;
  if (dialect.lock !== undefined) await client.query(dialect.lock, [user]);
  const state = await readState(directory, request);
  const creates = !state.exists && createFor !== undefined;
  if (creates) await create(directory, user, ORIGIN_PREFIX + createFor);
  else if (!state.exists) return outcomeOf(state, false);
  for (const { kind, role } of state.plan.changes) await client.query(dialect[kind](role, user));
  return outcomeOf(state, creates);
}

async function create(
  { client, facts }: DirectoryClient,
  user: string,
  origin: string,
): Promise<void> {
  try {
    for (const statement of facts.dialect.create(user, origin, facts))
      await client.query(statement);
  } catch (error) {
    throw isConflict(error) ? error : failure(error, CREATION_FAILED);
  }
}

async function transact<T>(client: pg.PoolClient, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN');
  try {
    const result = await work();
    await client.query('COMMIT');
    return result;
  } catch (error) {
    // Where even this fails the connection is broken, and the server takes everything back by
    // itself.
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

function outcomeOf({ exists, plan }: State, created: boolean): DirectoryOutcome {
  const done = exists || created;
  const ofKind = (wanted: string): string[] =>
    plan.changes.filter(({ kind }) => kind === wanted).map(({ role }) => role);
  return {
    exists: done,
    created,
    granted: done ? ofKind('grant') : [],
    revoked: done ? ofKind('revoke') : [],
    skipped: plan.skipped,
    kept: plan.kept,
  };
}

/** The promise's outcome, or the signal's reason as soon as there is one. */
function unlessAborted<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
