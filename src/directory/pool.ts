/**
 * The directory's connections to the database, and its errors. The session parameters of a
 * connection are fixed, so that settings of the role or of the database have no effect. The facts
 * about the connection's role are read before the first use. The client learns only that the
 * directory is unavailable or that it refused; the log has the cause.
 */

import { Socket } from 'node:net';
import pg from 'pg';
import { orAborted, overWithin } from '../lib/abort.ts';
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

/** A connection that was in use within this time, in ms, is not probed before it is used again. */
const TRUSTED_MS = 5000;

/** How long the answer to a probe may take, in ms. */
const ANSWER_MS = 1000;

/**
 * How long a read may take on a connection that was in use shortly before, in ms. It may be silent
 * by now, and a fresh one must answer within the time that a login has.
 */
const READ_MS = 2000;

/** How long a pool that is being replaced serves those that wait for it, in ms a look. */
const END_RETRY_MS = 100;

/** Milliseconds that connections in use have to become free at the end. */
const CLOSE_MS = 4000;

/** Silence after which the kernel probes an idle connection, in ms. */
const KEEPALIVE_MS = 60_000;

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

/** What is done with a connection. */
type Work<T> = (client: DirectoryClient) => Promise<T>;

/** The connections of this process. */
export class DirectoryPool {
  readonly #connection: DirectoryConnection;
  readonly #facts = new WeakMap<pg.PoolClient, DirectoryFacts>();
  /** When each connection was last in use, on the monotonic clock. */
  readonly #usedAt = new WeakMap<pg.PoolClient, number>();
  /** The connections by number, in the order in which they were opened. */
  readonly #numbers = new WeakMap<pg.PoolClient, number>();
  readonly #now: () => number;
  /** All that are open, also those of pools that were replaced. */
  readonly #sockets = new Set<Socket>();
  #opened = 0;
  /** Connections up to this number are as old as one that is lost, and are not used any more. */
  #lostUpTo = 0;
  #pool: pg.Pool;

  /** @param now milliseconds on a clock that does not jump */
  constructor(connection: DirectoryConnection, now: () => number = () => performance.now()) {
    this.#connection = connection;
    this.#now = now;
    this.#pool = this.#open();
  }

  /**
   * Reads from the database. If the connection turns out to be lost, the read is repeated once on a
   * fresh one: a login must not fail because the network dropped an idle connection.
   *
   * @throws as run
   */
  async read<T>(message: string, work: Work<T>, signal: AbortSignal): Promise<T> {
    const client = await this.#connectAlive(signal);
    const late = AbortSignal.timeout(READ_MS);
    try {
      return await this.#use(client, message, work, AbortSignal.any([signal, late]));
    } catch (error) {
      if (signal.aborted || !(error instanceof PgError && isLost(error.cause))) throw error;
      if (late.aborted) this.#noteLoss(client);
    }
    return this.run(message, work, signal);
  }

  /**
   * Runs work on a connection. The connection is closed if the work fails, since its state is then
   * unknown.
   *
   * @param message for the client if a statement is refused
   * @param signal ends the connection, and so the work
   * @throws PgError 57P03 if there is no connection or it may not be used, or the signal aborts;
   *   28000 if a statement is refused
   */
  async run<T>(message: string, work: Work<T>, signal: AbortSignal): Promise<T> {
    return this.#use(await this.#connectAlive(signal), message, work, signal);
  }

  /** Uses new connections from now on, so that changed files take effect. */
  reopen(): void {
    const old = this.#pool;
    this.#pool = this.#open();
    // The pool serves nobody that still waits once it is ended.
    const end = (): void => {
      if (old.waitingCount > 0) setTimeout(end, END_RETRY_MS).unref();
      else void old.end();
    };
    end();
  }

  /** Closes each connection when it is no longer in use, or after some seconds. */
  async close(): Promise<void> {
    await overWithin(CLOSE_MS, this.#pool.end());
    // A server that is silent does not close its side.
    for (const socket of this.#sockets) socket.destroy();
  }

  async #use<T>(
    client: pg.PoolClient,
    message: string,
    work: Work<T>,
    signal: AbortSignal,
  ): Promise<T> {
    // A statement on a socket that is gone fails at once, also if the server is silent.
    const giveUp = (): void => void client.connection.stream.destroy();
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      signal.throwIfAborted();
      const facts = this.#facts.get(client) ?? (await readFacts(client));
      this.#facts.set(client, facts);
      const result = await work({ client, facts });
      this.#usedAt.set(client, this.#now());
      client.release();
      return result;
    } catch (error) {
      discard(client);
      if (signal.aborted && !(error instanceof PgError))
        throw unavailable(errorText(signal.reason), error);
      if (isLost(error)) this.#noteLoss(client);
      throw failure(error, message);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
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
      query_timeout: STATEMENT_MS + ANSWER_MS,
      idleTimeoutMillis: IDLE_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEPALIVE_MS,
      allowExitOnIdle: true,
      stream: () => this.#newSocket(),
    });
    // The pool drops an idle connection that ends. The next login opens another one, or fails
    // with the cause.
    pool.on('error', () => undefined);
    // A connection that ends while it is in use fails its statement and also emits this event.
    pool.on('connect', (client) => {
      client.on('error', () => undefined);
      this.#numbers.set(client, ++this.#opened);
    });
    return pool;
  }

  #newSocket(): Socket {
    const socket = new Socket();
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }

  /** A connection that is not known to be lost, and that answers if it was idle for some time. */
  async #connectAlive(signal: AbortSignal): Promise<pg.PoolClient> {
    for (;;) {
      const client = await this.#connect(signal);
      if (this.#numberOf(client) <= this.#lostUpTo) discard(client);
      else if (await this.#isAlive(client)) return client;
      else {
        this.#noteLoss(client);
        discard(client);
      }
    }
  }

  async #isAlive(client: pg.PoolClient): Promise<boolean> {
    const usedAt = this.#usedAt.get(client);
    if (usedAt === undefined || this.#now() - usedAt < TRUSTED_MS) return true;
    const probe: pg.QueryConfig & { query_timeout: number } = {
      text: 'SELECT',
      query_timeout: ANSWER_MS,
    };
    return client.query(probe).then(
      () => true,
      () => false,
    );
  }

  #noteLoss(client: pg.PoolClient): void {
    this.#lostUpTo = Math.max(this.#lostUpTo, this.#numberOf(client));
  }

  #numberOf(client: pg.PoolClient): number {
    return this.#numbers.get(client) ?? 0;
  }

  async #connect(signal: AbortSignal): Promise<pg.PoolClient> {
    const connecting = this.#pool.connect();
    try {
      return await orAborted(connecting, signal);
    } catch (error) {
      if (signal.aborted)
        connecting.then(
          (client) => client.release(),
          () => undefined,
        );
      // An error here says nothing about the user: a wrong password is the directory's own, and
      // later logins may succeed.
      throw unavailable(`${this.#connection.label}: ${describe(error)}`, error);
    }
  }
}

/** Closes a connection at once. A server that is silent would not answer a polite end. */
function discard(client: pg.PoolClient): void {
  client.release(true);
  client.connection.stream.destroy();
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

/**
 * Whether a statement failed because its connection is lost: a socket's error, or the server's word
 * that it closes the connection (57P01 to 57P03).
 */
function isLost(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return /^57P0[123]$/.test(error.code ?? '');
  return error instanceof Error && !(error instanceof PgError);
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
