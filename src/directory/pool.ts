/**
 * The directory's connections to the database, and its errors. The session parameters of a
 * connection are fixed, so that settings of the role or of the database have no effect. The facts
 * about the connection's role are read before the first use. The client learns only that the
 * directory is unavailable or that it refused; the log has the cause.
 */

import pg from 'pg';
import { errorText, PgError } from '../lib/errors.ts';
import { cockroach, cockroachSelfQuery } from './cockroach.ts';
import type { DirectoryFacts } from './dialect.ts';
import { postgres, postgresSelfQuery } from './postgres.ts';

/** How to reach the database. */
export interface DirectoryConnection {
  /** Names the database in the log. */
  readonly label: string;
  /** A host name, an address, or the directory of a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  /**
   * Called for each connection, so that a changed file takes effect. Undefined if the database does
   * not ask for a password.
   */
  password(): string | undefined;
  /** Called at the start and at each {@link DirectoryPool.reopen}. Undefined for no TLS. */
  tls(): (pg.ClientConfig['ssl'] & object) | undefined;
}

/** Connections, and so logins at a time. Each login takes about a millisecond. */
const POOL_SIZE = 5;

/** Milliseconds to wait for a connection. A login that waits longer is refused. */
const CONNECT_MS = 5000;

/** Milliseconds for one statement. */
const STATEMENT_MS = 5000;

/** Milliseconds after which an idle connection is closed. TCP keepalive probes it until then. */
const IDLE_MS = 10 * 60_000;

/**
 * Session parameters in the startup packet, which override those of the role and of the database
 * (manual, 19.1.4).
 */
const SESSION = [
  '-c search_path=pg_catalog',
  '-c default_transaction_isolation=read\\ committed',
  '-c default_transaction_read_only=off',
  '-c standard_conforming_strings=on',
  // Most logins run one query. It is planned once for each connection, since planning it takes
  // longer than running it.
  '-c plan_cache_mode=force_generic_plan',
  `-c statement_timeout=${STATEMENT_MS}`,
  `-c idle_in_transaction_session_timeout=${2 * STATEMENT_MS}`,
].join(' ');

/**
 * SQLSTATEs of errors that are not about the statement (manual, appendix A): connection exceptions,
 * operator intervention (shutdown, statement timeout), insufficient resources, read-only standby,
 * lock not available, idle transaction timeout.
 */
const TRANSIENT = /^(?:08...|57...|53...|25006|55P03|25P03)$/;

/** SQLSTATEs of conflicts with another transaction that was faster. */
const CONFLICTS: ReadonlySet<string> = new Set(['40001', '40P01', '23505', '42710']);

/** A connection with the facts about its role. */
export interface DirectoryClient {
  readonly client: pg.PoolClient;
  readonly facts: DirectoryFacts;
}

/** The connections of this process. */
export class DirectoryPool {
  readonly #connection: DirectoryConnection;
  readonly #facts = new WeakMap<pg.PoolClient, DirectoryFacts>();
  #pool: pg.Pool;

  constructor(connection: DirectoryConnection) {
    this.#connection = connection;
    this.#pool = this.#open();
  }

  /**
   * Runs work on a connection. The connection is closed if the work fails, since its state is then
   * unknown.
   *
   * @param message for the client if a statement is refused
   * @throws PgError 57P03 if there is no connection or it may not be used, 28000 if a statement is
   *   refused
   */
  async run<T>(message: string, work: (client: DirectoryClient) => Promise<T>): Promise<T> {
    const client = await this.#connect();
    let problem: unknown;
    try {
      const facts = this.#facts.get(client) ?? (await readFacts(client));
      this.#facts.set(client, facts);
      return await work({ client, facts });
    } catch (error) {
      problem = error;
      throw failure(error, message);
    } finally {
      client.release(problem !== undefined);
    }
  }

  /** Uses new connections from now on, so that changed files take effect. */
  reopen(): void {
    const old = this.#pool;
    this.#pool = this.#open();
    void old.end();
  }

  /** Closes each connection when it is no longer in use. */
  async close(): Promise<void> {
    await this.#pool.end();
  }

  #open(): pg.Pool {
    const { host, port, database, user } = this.#connection;
    const pool = new pg.Pool({
      host,
      port,
      database,
      user,
      password: () => this.#connection.password() ?? '',
      ssl: this.#connection.tls() ?? false,
      options: SESSION,
      application_name: 'pgsso directory',
      client_encoding: 'UTF8',
      max: POOL_SIZE,
      connectionTimeoutMillis: CONNECT_MS,
      // The server ends a slow statement by itself. This one is for a server that is silent.
      query_timeout: 2 * STATEMENT_MS,
      idleTimeoutMillis: IDLE_MS,
      keepAlive: true,
      allowExitOnIdle: true,
    });
    // The pool drops an idle connection that ends. The next login opens another one, or fails
    // with the cause.
    pool.on('error', () => undefined);
    // A connection that ends while it is in use fails its statement and also emits this event.
    pool.on('connect', (client) => client.on('error', () => undefined));
    return pool;
  }

  async #connect(): Promise<pg.PoolClient> {
    try {
      return await this.#pool.connect();
    } catch (error) {
      // An error here says nothing about the user: a wrong password is the directory's own, and
      // later logins may succeed.
      throw unavailable(`${this.#connection.label}: ${describe(error)}`, error);
    }
  }
}

/**
 * Reads the facts about the role of a connection.
 *
 * @throws PgError 57P03 if the role's settings set another role
 */
export async function readFacts(client: pg.PoolClient): Promise<DirectoryFacts> {
  const { rows: identities } = await client.query(
    'SELECT current_user::text AS role, session_user = current_user AS same, version() AS version',
  );
  const { role, same, version } = identities[0];
  if (!same) {
    throw unavailable(`the settings of the role set another one, ${role}: ALTER ROLE … RESET role`);
  }
  const isCockroach = String(version).includes('CockroachDB');
  const { rows } = await client.query(isCockroach ? cockroachSelfQuery : postgresSelfQuery);
  const { superuser, creates, grants, version: number } = rows[0];
  return {
    dialect: isCockroach ? cockroach : postgres,
    severalGrantors: number >= 160_000,
    role,
    superuser,
    creates,
    grants,
  };
}

/** The error of a directory that cannot be reached, or must not be used as it is: 57P03. */
export function unavailable(reason: string, cause?: unknown): PgError {
  return new PgError({
    code: 'directory_unavailable',
    message: 'the directory of users and roles is not available',
    hint: 'The cause is in the log of the front-end.',
    reason: `--directory: ${reason}`,
    fault: 'backend',
    cause,
  });
}

/**
 * The error of a login whose statement failed: 57P03 if the connection or the moment is the cause,
 * else 28000 with the message.
 */
export function failure(error: unknown, message: string): PgError {
  if (error instanceof PgError) return error;
  if (!(error instanceof pg.DatabaseError) || TRANSIENT.test(error.code ?? ''))
    return unavailable(describe(error), error);
  return new PgError({
    code: 'directory_refusal',
    message,
    reason: `--directory: ${describe(error)}`,
    fault: 'us',
    cause: error,
  });
}

/**
 * Whether the same transaction may succeed at another attempt. PostgreSQL reports a catalog row
 * that another transaction changed as XX000.
 */
export function isConflict(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return false;
  return (
    CONFLICTS.has(error.code ?? '') ||
    (error.code === 'XX000' && error.message.startsWith('tuple concurrently'))
  );
}

function describe(error: unknown): string {
  return error instanceof pg.DatabaseError ? `${error.message} (${error.code})` : errorText(error);
}
