/**
 * A few connections to the database with the directory's own role. Their session parameters are
 * fixed, whatever the role's own settings or the database's say, and a new one is looked at before
 * it is used: a superuser's grants could not be told from other people's.
 */

import pg from 'pg';
import { errorText, PgError } from '../lib/errors.ts';
import { cockroach, cockroachSelfQuery } from './cockroach.ts';
import type { DirectoryFacts } from './dialect.ts';
import { postgres, postgresSelfQuery } from './postgres.ts';

/** How to reach the database; what TLS and the password rest on is read at each new connection. */
export interface DirectoryConnection {
  /** For the log. */
  readonly label: string;
  /** A host name, an address, or the directory of a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  /** Undefined: the database does not ask for one. */
  password(): string | undefined;
  /** Undefined: no TLS. */
  tls(): (pg.ClientConfig['ssl'] & object) | undefined;
}

/** Five logins at a time can be looked after; each takes about a millisecond. */
const POOL_SIZE = 5;

/**
 * From the wish for a connection to having one, and for one statement: what waits longer would
 * better be told to come back.
 */
const CONNECT_MS = 5000;
const STATEMENT_MS = 5000;

/** A connection that nobody needed for so long is closed; the kernel probes it meanwhile. */
const IDLE_MS = 10 * 60_000;

/**
 * Parameters of the session, in the startup packet: they come before those of the role and of the
 * database (manual, 19.1.4). Each statement here is committed or taken back as a whole, and sees
 * what was committed before it.
 */
const SESSION = [
  '-c search_path=pg_catalog',
  '-c default_transaction_isolation=read\\ committed',
  '-c default_transaction_read_only=off',
  '-c standard_conforming_strings=on',
  // The one query of most logins is planned once for a connection; planning it each time takes
  // longer than running it.
  '-c plan_cache_mode=force_generic_plan',
  `-c statement_timeout=${STATEMENT_MS}`,
  `-c idle_in_transaction_session_timeout=${2 * STATEMENT_MS}`,
].join(' ');

/** A connection on which statements may be run, with what is known of its role. */
export interface DirectoryClient {
  readonly client: pg.PoolClient;
  readonly facts: DirectoryFacts;
}

/** The connections of a process. */
export class DirectoryPool {
  readonly #connection: DirectoryConnection;
  readonly #facts = new WeakMap<pg.PoolClient, DirectoryFacts>();
  #pool: pg.Pool;

  constructor(connection: DirectoryConnection) {
    this.#connection = connection;
    this.#pool = this.#open();
  }

  /**
   * Runs `work` on a connection, which is closed when that fails: nobody then has to know in which
   * state it is.
   *
   * @param message for the client, when the database refuses
   * @throws PgError 57P03 when there is no connection or it may not be used, 28000 when a statement
   *   is refused
   */
  async run<T>(message: string, work: (client: DirectoryClient) => Promise<T>): Promise<T> {
    const client = await this.#connect();
    let problem: unknown;
    try {
      const facts = this.#facts.get(client) ?? (await look(client));
      this.#facts.set(client, facts);
      return await work({ client, facts });
    } catch (error) {
      problem = error;
      throw failure(error, message);
    } finally {
      client.release(problem !== undefined);
    }
  }

  /** Makes new connections from now on, by what the connection's files say then. */
  reopen(): void {
    const old = this.#pool;
    this.#pool = this.#open();
    void old.end();
  }

  /** Closes the connections once they are not in use. */
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
      // The server ends a statement that takes too long; a server that says nothing any more
      // cannot.
      query_timeout: 2 * STATEMENT_MS,
      idleTimeoutMillis: IDLE_MS,
      keepAlive: true,
      allowExitOnIdle: true,
    });
    // The pool drops an idle connection that ends; the next login makes another one, or finds out
    // why it cannot.
    pool.on('error', () => undefined);
    // One that ends while it is in use fails its statement, and also says so here.
    pool.on('connect', (client) => client.on('error', () => undefined));
    return pool;
  }

  async #connect(): Promise<pg.PoolClient> {
    try {
      return await this.#pool.connect();
    } catch (error) {
      // Whatever refuses us here is no answer about a user: a wrong password is the operator's, and
      // later logins may succeed.
      throw unavailable(`${this.#connection.label}: ${describe(error)}`, error);
    }
  }
}

/** What the database says about the role of a connection, now. */
export async function look(client: pg.PoolClient): Promise<DirectoryFacts> {
  const { rows: identities } = await client.query(
    'SELECT current_user::text AS role, session_user = current_user AS same, version() AS version',
  );
  const { role, same, version } = identities[0];
  if (!same)
    throw unavailable(`the settings of the role set another one, ${role}: ALTER ROLE … RESET role`);
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

/*
 * What can go wrong with the directory, as errors: it is away or not fit for its task, which is
 * 57P03 and says to try again later, or it refused a change. The client learns which of the two;
 * the cause is in the log.
 */

/**
 * Classes and codes of errors that are about the connection or the moment, and not about the
 * statement (manual, appendix A): connection exceptions, operator intervention (shutdown, statement
 * timeout), insufficient resources, read-only standby, a lock not had in time, a transaction left
 * idle.
 */
const PASSING = /^(?:08...|57...|53...|25006|55P03|25P03)$/;

/**
 * Errors after which the same transaction may succeed: conflicts with another one that was faster.
 */
const CONFLICTS: ReadonlySet<string> = new Set(['40001', '40P01', '23505', '42710']);

/** The directory cannot be asked, or may not be used as it is: 57P03. */
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

/** What the failure of a statement means for the login, for which it tried to do something. */
export function failure(error: unknown, message: string): PgError {
  if (error instanceof PgError) return error;
  if (!(error instanceof pg.DatabaseError) || PASSING.test(error.code ?? ''))
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
 * Whether the whole transaction is worth another attempt. PostgreSQL reports a catalog row that
 * changed meanwhile as XX000.
 */
export function isConflict(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return false;
  return (
    CONFLICTS.has(error.code ?? '') ||
    (error.code === 'XX000' && error.message.startsWith('tuple concurrently'))
  );
}

/** With the SQLSTATE; a failed attempt at several addresses has no text of its own. */
function describe(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(errorText).join(', ');
  return error instanceof pg.DatabaseError ? `${error.message} (${error.code})` : errorText(error);
}
