/**
 * The connection of a settings store to its database. It is opened when it is needed, with the
 * tables created and LISTEN sent, and it is given up when it breaks or does not answer. A change is
 * one transaction under a lock that all nodes take.
 */

import { Socket } from 'node:net';
import pg from 'pg';
import { overWithin } from '../../lib/abort.ts';
import { errorText, PgError } from '../../lib/errors.ts';
import { CHANNEL, createTables, hasCode, lockRevision } from './postgres-tables.ts';

/** What a change works with inside its transaction. */
export interface Transaction {
  readonly client: pg.Client;
  /** The number of the change. */
  readonly revision: number;
  /** The database's time, in milliseconds since the epoch. */
  readonly at: number;
}

/** Milliseconds between two attempts to connect. */
const RECONNECT_MS = 1000;

/** Milliseconds for a connection, and for a statement. A slower database counts as away. */
const TIMEOUT_MS = 5000;

/** How long the server has to close a connection that is not in use, in ms. */
const GOODBYE_MS = 500;

/** Attempts at a transaction. CockroachDB reports serialization failures in normal operation. */
const ATTEMPTS = 5;

/** One connection at a time, with a new one in place of a broken one. */
export class SettingsConnection {
  readonly #configure: () => pg.ClientConfig;
  readonly #onNotification: () => void;
  #client: pg.Client | undefined;
  /** The socket of the present connection, or of the one that is being opened. */
  #socket: Socket | undefined;
  #notifies = false;
  #lastAttempt = 0;
  #closed = false;

  /**
   * @param configure how to connect; called at each attempt
   * @param onNotification called when another node has changed the settings
   */
  constructor(configure: () => pg.ClientConfig, onNotification: () => void) {
    this.#configure = configure;
    this.#onNotification = onNotification;
  }

  /** Whether there is a connection. */
  get isOpen(): boolean {
    return this.#client !== undefined;
  }

  /** Whether it is time for another attempt to connect. */
  get mayReconnect(): boolean {
    return performance.now() - this.#lastAttempt >= RECONNECT_MS;
  }

  /** Whether the database notifies of changes. */
  get notifies(): boolean {
    return this.#notifies;
  }

  /**
   * Runs work with the connection, which is given up if it breaks or does not answer.
   *
   * @param signal ends the connection, and so the work
   * @throws what the work throws; the signal's reason
   */
  async use<T>(work: (client: pg.Client) => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    // A query on a socket that is gone fails at once, also if the server is silent.
    const giveUp = (): void => void this.#socket?.destroy();
    signal.addEventListener('abort', giveUp, { once: true });
    let client: pg.Client | undefined;
    try {
      client = await this.#connected();
      return await work(client);
    } catch (error) {
      const cause = error instanceof PgError && error.cause instanceof Error ? error.cause : error;
      if (client && !isOfHealthyConnection(cause)) this.#drop(client);
      // The outcome of a COMMIT stays unknown, whatever the reason.
      if (!(error instanceof PgError)) signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  /**
   * Runs work in a transaction under the lock, and commits it. After a serialization failure all of
   * it runs again.
   *
   * @param signal ends the connection, and so the work
   * @throws PgError 08007 if the connection breaks during COMMIT; what the work throws; the reason
   *   of the signal
   */
  async transact<T>(
    work: (transaction: Transaction) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.use((client) => this.#transactOnce(client, work), signal);
      } catch (error) {
        if (!hasCode(error, ['40001']) || attempt === ATTEMPTS) throw error;
      }
    }
  }

  /** Opens no connection from now on, and closes the present one when the work is over. */
  async close(workIsOver: Promise<void>): Promise<void> {
    this.#closed = true;
    await workIsOver;
    const client = this.#client;
    this.#client = undefined;
    if (client) await end(client);
  }

  async #transactOnce<T>(
    client: pg.Client,
    work: (transaction: Transaction) => Promise<T>,
  ): Promise<T> {
    await client.query('BEGIN');
    let committing = false;
    try {
      const { revision, at } = await lockRevision(client);
      const result = await work({ client, revision, at });
      if (this.#notifies)
        await client.query('SELECT pg_notify($1, $2)', [CHANNEL, String(revision)]);
      committing = true;
      await client.query('COMMIT');
      return result;
    } catch (error) {
      if (committing && !(error instanceof pg.DatabaseError)) throw unknownOutcome(error);
      // Otherwise the connection is given up, and the server rolls back by itself.
      if (isOfHealthyConnection(error)) await client.query('ROLLBACK').catch(() => undefined);
      throw error;
    }
  }

  async #connected(): Promise<pg.Client> {
    if (this.#client) return this.#client;
    if (this.#closed) throw new Error('the settings are closed');
    this.#lastAttempt = performance.now();
    const client = new pg.Client({
      ...this.#configure(),
      application_name: 'pgsso settings',
      options: '-c search_path=pg_catalog',
      connectionTimeoutMillis: TIMEOUT_MS,
      query_timeout: TIMEOUT_MS,
      keepAlive: true,
      stream: () => {
        this.#socket = new Socket();
        return this.#socket;
      },
    });
    client.on('error', () => this.#drop(client));
    client.on('end', () => this.#drop(client));
    client.on('notification', this.#onNotification);
    try {
      await client.connect();
      await createTables(client);
      this.#notifies = await listens(client);
    } catch (error) {
      void end(client);
      throw new Error(`the settings database: ${errorText(error)}`, { cause: error });
    }
    this.#client = client;
    return client;
  }

  #drop(client: pg.Client): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    // end() waits for a server that may be silent.
    client.connection.stream.destroy();
  }
}

/** Whether an error was raised by the server or by the work, so that the connection is in order. */
function isOfHealthyConnection(error: unknown): boolean {
  return error instanceof pg.DatabaseError || error instanceof PgError;
}

/** Ends a connection whose server may be silent. */
async function end(client: pg.Client): Promise<void> {
  await overWithin(GOODBYE_MS, client.end());
  client.connection.stream.destroy();
}

/** Sends LISTEN. Returns false for CockroachDB, which does not know it. */
async function listens(client: pg.Client): Promise<boolean> {
  try {
    await client.query(`LISTEN ${CHANNEL}`);
    return true;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return false;
    throw error;
  }
}

/**
 * The connection broke after COMMIT was sent (manual, appendix A: transaction_resolution_unknown).
 */
function unknownOutcome(error: unknown): PgError {
  return new PgError({
    code: 'settings_change_unknown',
    message:
      'the connection to the database of the settings broke: ' +
      'whether the change was made is not known',
    hint: 'Look for the change when the database is back.',
    reason: errorText(error),
    fault: 'us',
    cause: error,
  });
}
