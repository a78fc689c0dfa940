/**
 * The directory: it creates users and grants and revokes their roles, with a role of its own that
 * may do no more. A login costs one query if nothing changes. All changes of a login are one
 * transaction.
 */

import { setMaxListeners } from 'node:events';
import type pg from 'pg';
import { orAborted, withDeadline } from '../lib/abort.ts';
import { errorText, PgError } from '../lib/errors.ts';
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
  readFacts,
  unavailable,
} from './pool.ts';
import { WaitingRoom } from './waiting-room.ts';

/** What a login needs of the directory. */
export interface DirectoryRequest {
  /** The SQL user, folded. */
  readonly user: string;
  /** The issuer for which a missing user is created; undefined if the user is not created. */
  readonly createFor: string | undefined;
  /** The roles that the user should have; undefined if roles are not changed. */
  readonly roles: readonly WantedRole[] | undefined;
}

/** What the directory found and did. */
export interface DirectoryOutcome {
  /** Whether the user exists now. */
  readonly exists: boolean;
  readonly created: boolean;
  readonly granted: readonly string[];
  readonly revoked: readonly string[];
  readonly skipped: readonly SkippedRole[];
  /** Memberships that other roles granted and no group justifies. */
  readonly kept: readonly string[];
}

/** A user that the directory created, or granted a role. */
export interface DirectoryUser {
  readonly user: string;
  /** `jwt_token:<issuer>` of a user that was created at the first login; else undefined. */
  readonly origin: string | undefined;
  /**
   * The last login with a token through this process, in milliseconds since the epoch; undefined
   * if there was none since its start.
   */
  readonly lastLogin: number | undefined;
  /** The roles that the directory granted. */
  readonly roles: readonly string[];
}

/** What a setting may need of the directory's role. */
export type DirectoryTask = 'create' | 'grant';

/** What the database has, and what must change. */
interface State {
  readonly exists: boolean;
  readonly plan: RolePlan;
}

/** A row of the roles query. */
interface RolesRow {
  readonly exists: boolean;
  readonly can_login: boolean;
  readonly superuser: boolean;
  /** Whether the directory's own role has become a superuser. */
  readonly unfit: boolean;
  readonly roles: readonly RoleFacts[];
}

const ORIGIN_UNREADABLE = 'the origin of the user cannot be read';

/** NAMEDATALEN − 1. PostgreSQL cuts a longer name between bytes (ProcessStartupPacket). */
const NAME_BYTES = 63;

const CREATION_FAILED = 'JWT provisioning: failed to create role';

/** Milliseconds for all that one login needs, with the wait for a connection and for its turn. */
const DEADLINE_MS = 5000;

/** Milliseconds after which a login that runs when the directory is closed is given up. */
const CLOSE_MS = 3000;

/** Attempts at a transaction that conflicts with one of another process. */
const ATTEMPTS = 5;

/** Last logins that are remembered. A name takes at most 63 bytes. */
const LAST_LOGINS = 10_000;

const NOTHING: RolePlan = { changes: [], skipped: [], kept: [] };

/** The directory of one database. */
export class Directory {
  readonly #pool: DirectoryPool;
  readonly #changing = new KeyedMutex();
  readonly #waiting = new WaitingRoom();
  readonly #closing = new AbortController();
  readonly #lastLogins = new Map<string, number>();

  constructor(connection: DirectoryConnection) {
    this.#pool = new DirectoryPool(connection);
    // Each login that waits listens for the end.
    setMaxListeners(0, this.#closing.signal);
  }

  /**
   * Creates the user if that is asked for, and grants and revokes roles. If it fails, nothing is
   * changed.
   *
   * @throws PgError 57P03 if the directory is away, 28000 if the database refuses; the signal's
   *   reason
   */
  async prepare(request: DirectoryRequest, signal: AbortSignal): Promise<DirectoryOutcome> {
    signal.throwIfAborted();
    // A change that was begun is finished, also for a login that was given up.
    const prepared = this.#waiting.run(request.user, () =>
      this.#inTime((deadline) => this.#prepare(request, deadline)),
    );
    return orAborted(prepared, signal);
  }

  async #prepare(request: DirectoryRequest, signal: AbortSignal): Promise<DirectoryOutcome> {
    const message = `JWT authorization: error assigning roles to user ${request.user}`;
    const read = () => this.#pool.read(message, (client) => readState(client, request), signal);
    const state = await read();
    if (!needsChange(request, state)) return outcomeOf(state, false);
    const isFirst = !this.#changing.isBusy(request.user);
    const makeChange = async (): Promise<DirectoryOutcome> => {
      // Of logins that come together, the first makes the change for all.
      const now = isFirst ? state : await read();
      if (!needsChange(request, now)) return outcomeOf(now, false);
      return this.#pool.run(message, (client) => change(client, request), signal);
    };
    return this.#changing.run(request.user, makeChange, signal);
  }

  /**
   * Whether a user was created at the first login with a token, and the database would take a
   * password of it all the same.
   *
   * @param user the bytes of the startup packet
   * @throws as {@link Directory.prepare}
   */
  async wasProvisioned(user: Buffer, signal: AbortSignal): Promise<boolean> {
    signal.throwIfAborted();
    const name = user.subarray(0, NAME_BYTES);
    const read = async ({ client, facts }: DirectoryClient): Promise<boolean> => {
      const query = facts.dialect.provisionedQuery;
      if (!query) return false;
      const { rows } = await client.query<{ provisioned: boolean }>({ ...query, values: [name] });
      return rows[0]?.provisioned ?? false;
    };
    const found = this.#waiting.run(name.toString('latin1'), () =>
      this.#inTime((deadline) => this.#pool.read(ORIGIN_UNREADABLE, read, deadline)),
    );
    return orAborted(found, signal);
  }

  /**
   * Why the directory's role cannot do a task, or must not be used at all; undefined if there is no
   * problem.
   *
   * @throws PgError 57P03 if the directory is away
   */
  async problem(task?: DirectoryTask): Promise<string | undefined> {
    const { role, superuser, creates, grants } = await this.#inTime((signal) =>
      this.#pool.read('', ({ client }) => readFacts(client), signal),
    );
    if (superuser)
      return (
        `${role} is a superuser: its grants could not be told from those of others. ` +
        'Give a role that is none'
      );
    if (task === 'create' && !creates)
      return `${role} may not create users: ALTER ROLE … CREATEROLE`;
    if (task === 'grant' && !grants)
      return (
        `${role} may grant no role: GRANT … TO ${role} WITH ADMIN OPTION, ` +
        'for each that groups stand for'
      );
    return undefined;
  }

  /** Remembers that a user has logged in with a token; `at` in milliseconds since the epoch. */
  noteLogin(user: string, at: number): void {
    this.#lastLogins.delete(user);
    this.#lastLogins.set(user, at);
    if (this.#lastLogins.size <= LAST_LOGINS) return;
    for (const [oldest] of this.#lastLogins) return void this.#lastLogins.delete(oldest);
  }

  /**
   * All users that the directory created or granted a role, by name.
   *
   * @throws PgError 57P03 if the directory is away
   */
  async users(): Promise<readonly DirectoryUser[]> {
    const { rows } = await this.#inTime((signal) =>
      this.#pool.read('the users could not be read', readUsers, signal),
    );
    return rows.map(({ user, origin, roles }) => ({
      user,
      origin: origin ?? undefined,
      lastLogin: this.#lastLogins.get(user),
      roles: roles ?? [],
    }));
  }

  /** Uses new connections from now on, so that changed password and TLS files take effect. */
  reopen(): void {
    this.#pool.reopen();
  }

  /** Closes the connections. Logins that run are given up if they take some seconds. */
  async close(): Promise<void> {
    const giveUp = setTimeout(
      () => this.#closing.abort(new Error('the front-end is shutting down')),
      CLOSE_MS,
    );
    await this.#pool.close();
    clearTimeout(giveUp);
  }

  /** @throws what the work throws; PgError 57P03 if it takes too long */
  async #inTime<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const text = `no answer within ${DEADLINE_MS / 1000} s`;
    try {
      return await withDeadline(DEADLINE_MS, text, this.#closing.signal, work);
    } catch (error) {
      throw error instanceof PgError ? error : unavailable(errorText(error), error);
    }
  }
}

/** A row of the users query. */
interface UserRow {
  readonly user: string;
  readonly origin: string | null;
  readonly roles: readonly string[] | null;
}

function readUsers({ client, facts }: DirectoryClient): Promise<pg.QueryResult<UserRow>> {
  return client.query<UserRow>(facts.dialect.usersQuery);
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
  // A role without LOGIN is a group: a change would affect all its members. A superuser needs no
  // role. The backend refuses a login as either.
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

/** Reads the state again in a transaction, under a lock of the user, and makes the changes. */
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
    // If ROLLBACK fails too, the connection is broken and the server rolls back by itself.
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
