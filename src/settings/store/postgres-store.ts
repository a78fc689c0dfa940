/**
 * Settings in a database that several nodes share. A change is one transaction under a lock that
 * all nodes take, so none is lost; the others hear of it by NOTIFY, or by looking where there is
 * none (CockroachDB). While the database is away logins go on with the last settings, and changes
 * fail.
 */

import pg from 'pg';
import { errorText, PgError } from '../../lib/errors.ts';
import { type ApiKeyChange, applyApiKeyChange, noApiKeys } from '../api-keys.ts';
import type { SettingChange } from '../changes.ts';
import {
  applyChanges,
  canonicalChanges,
  type HistoryEntry,
  historyOf,
  historyOfApiKey,
} from '../changes.ts';
import type { SettingName } from '../definitions.ts';
import type { ProcessDefaults, SettingsSnapshot } from '../snapshot.ts';
import { keepLastSnapshot, readLastSnapshot } from './last-snapshot.ts';
import {
  CHANNEL,
  createTables,
  hasCode,
  lockRevision,
  readApiKeys,
  readFingerprint,
  readHistory,
  readRows,
  storedSettings,
  writeApiKey,
  writeChanges,
} from './postgres-tables.ts';
import { type Kept, SnapshotHolder } from './snapshot-holder.ts';
import { type SettingsStore, type Vet, vetWithoutDirectory } from './store.ts';

/** What a store in a database is made with. */
export interface PostgresStoreOptions {
  /** How to connect; asked at each attempt. */
  readonly connection: () => pg.ClientConfig;
  /** The data directory, where the last settings are kept. */
  readonly directory: string;
  readonly processDefaults: ProcessDefaults;
  /**
   * Whether what a change asks for can be done; default: what a process without a directory can do.
   */
  readonly vet?: Vet;
  /** Told when settings cannot be read, once for each reason; the last good ones stay. */
  readonly onProblem: (error: Error) => void;
}

/**
 * How often there is a look at the database, in ms, when it notifies and when it does not: a change
 * arrives within a second.
 */
const POLL_MS = 500;
const POLL_WITH_NOTIFY_MS = 2000;

/** Between two attempts to connect. */
const RECONNECT_MS = 1000;

/** For a connection, and for a statement: a database that takes longer counts as away. */
const TIMEOUT_MS = 5000;

/** Serialization failures are tried again (CockroachDB reports them as a matter of course). */
const ATTEMPTS = 5;

/** What a change does inside its transaction: reads, checks, writes; returns what there is then. */
type Work = (
  client: pg.Client,
  revision: number,
  at: number,
) => Promise<{ readonly kept: Kept; readonly snapshot: SettingsSnapshot }>;

/** Settings in PostgreSQL or CockroachDB. */
export class PostgresStore implements SettingsStore {
  readonly #options: PostgresStoreOptions;
  readonly #holder: SnapshotHolder;
  #client: pg.Client | undefined;
  #notifies = false;
  #fingerprint: string | undefined;
  #lastLook = 0;
  #lastAttempt = 0;
  #timer: NodeJS.Timeout | undefined;
  #looking = false;
  /** Why the values that are there now were refused. */
  #refused: string | undefined;
  #closed = false;

  private constructor(options: PostgresStoreOptions, kept: Kept) {
    this.#options = options;
    this.#holder = new SnapshotHolder(kept, options.processDefaults, options.onProblem);
  }

  /**
   * Reads the settings, or, while the database is away, those that were kept in the data directory.
   *
   * @throws Error with one line when there are neither
   */
  static async open(options: PostgresStoreOptions): Promise<PostgresStore> {
    const kept = await readLastSnapshot(options.directory);
    const store = new PostgresStore(options, kept ?? { stored: new Map(), apiKeys: noApiKeys });
    try {
      await store.#read(await store.#connected());
    } catch (error) {
      if (!kept) {
        await store.close();
        throw error;
      }
      const since = new Date(kept.at).toISOString();
      store.#holder.report(
        new Error(`${errorText(error)}; those of ${since} are used`, { cause: error }),
      );
    }
    store.#timer = setInterval(() => store.#look(), POLL_MS).unref();
    return store;
  }

  get current(): SettingsSnapshot {
    return this.#holder.current;
  }

  get problem(): string | undefined {
    return this.#holder.problem;
  }

  change(changes: readonly SettingChange[], user: string): Promise<SettingsSnapshot> {
    return this.#commit(() => {
      const canonical = canonicalChanges(changes);
      const changed = new Set(changes.map(({ name }) => name));
      return async (client, revision, at) => {
        // A bad value that somebody wrote by hand may be replaced.
        const rows = (await readRows(client)).filter(({ name }) =>
          changes.every((change) => change.name !== name),
        );
        const stored = applyChanges(storedSettings(rows), canonical, user, at);
        const kept = { stored, apiKeys: await readApiKeys(client) };
        const snapshot = this.#holder.build(kept);
        const { vet = vetWithoutDirectory } = this.#options;
        await vet(snapshot.values, changed);
        await writeChanges(client, canonical, historyOf(canonical, user, at), revision);
        return { kept, snapshot };
      };
    });
  }

  changeApiKeys(change: ApiKeyChange, user: string): Promise<SettingsSnapshot> {
    return this.#commit(() => async (client, revision, at) => {
      const stored = storedSettings(await readRows(client));
      const before = await readApiKeys(client, change.kind === 'drop' ? change.name : undefined);
      const apiKeys = applyApiKeyChange(before, change, user, at);
      const kept = { stored, apiKeys };
      const snapshot = this.#holder.build(kept);
      await writeApiKey(client, change, historyOfApiKey(change, user, at), revision);
      return { kept, snapshot };
    });
  }

  /**
   * Makes a change; `prepare` is called in its turn, and what it returns inside a transaction that
   * may be tried again.
   */
  #commit(prepare: () => Work): Promise<SettingsSnapshot> {
    return this.#holder.inTurn(async () => {
      const work = prepare();
      for (let attempt = 1; ; attempt++) {
        try {
          return await this.#transact(work);
        } catch (error) {
          if (!hasCode(error, ['40001']) || attempt === ATTEMPTS)
            throw error instanceof PgError ? error : notChanged(error);
        }
      }
    });
  }

  history(name?: SettingName): Promise<readonly HistoryEntry[]> {
    return this.#holder.inTurn(async () => {
      try {
        return await this.#use((client) => readHistory(client, name));
      } catch (error) {
        throw away(
          'the history of settings cannot be read: their database is away or refuses',
          error,
        );
      }
    });
  }

  watch(listener: (snapshot: SettingsSnapshot) => void): () => void {
    return this.#holder.watch(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#holder.settled();
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => undefined);
  }

  /** One transaction: lock, read, check, write, commit. */
  async #transact(work: Work): Promise<SettingsSnapshot> {
    return this.#use(async (client) => {
      await client.query('BEGIN');
      let committing = false;
      try {
        const { revision, at } = await lockRevision(client);
        const { kept, snapshot } = await work(client, revision, at);
        const fingerprint = await readFingerprint(client);
        if (this.#notifies)
          await client.query('SELECT pg_notify($1, $2)', [CHANNEL, String(revision)]);
        committing = true;
        await client.query('COMMIT');
        await this.#adopt(kept, snapshot, fingerprint);
        return snapshot;
      } catch (error) {
        if (committing && !(error instanceof pg.DatabaseError)) throw unknownOutcome(error);
        await client.query('ROLLBACK').catch(() => undefined);
        throw error;
      }
    });
  }

  /** Looks whether somebody has changed something, unless that is being done already. */
  #look(notified = false): void {
    const interval = this.#notifies ? POLL_WITH_NOTIFY_MS : POLL_MS;
    const now = performance.now();
    if (this.#looking || (!notified && this.#client && now - this.#lastLook < interval)) return;
    if (!this.#client && now - this.#lastAttempt < RECONNECT_MS) return;
    this.#looking = true;
    this.#lastLook = now;
    void this.#holder.inTurn(async () => {
      this.#looking = false;
      try {
        await this.#use((client) => this.#read(client));
      } catch (error) {
        this.#holder.report(error);
      }
    });
  }

  async #read(client: pg.Client): Promise<void> {
    const fingerprint = await readFingerprint(client);
    if (fingerprint === this.#fingerprint) {
      // The database is there, so nothing but its values can be wrong.
      this.#holder.problem = this.#refused;
      return;
    }
    const rows = await readRows(client);
    // Also of what is refused: it is looked at again when it has changed.
    this.#fingerprint = fingerprint;
    try {
      const kept = { stored: storedSettings(rows), apiKeys: await readApiKeys(client) };
      await this.#adopt(kept, this.#holder.build(kept), fingerprint);
    } catch (error) {
      this.#refused = errorText(error);
      throw error;
    }
  }

  async #adopt(kept: Kept, snapshot: SettingsSnapshot, fingerprint: string): Promise<void> {
    this.#fingerprint = fingerprint;
    this.#refused = undefined;
    this.#holder.adopt(snapshot);
    try {
      await keepLastSnapshot(this.#options.directory, kept);
    } catch (error) {
      this.#options.onProblem(
        new Error(`the last settings were not kept: ${errorText(error)}`, { cause: error }),
      );
    }
  }

  /** Works with the connection; one that is broken, or does not answer, is given up. */
  async #use<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = await this.#connected();
    try {
      return await work(client);
    } catch (error) {
      const cause = error instanceof PgError && error.cause instanceof Error ? error.cause : error;
      if (!(cause instanceof pg.DatabaseError || cause instanceof PgError)) this.#drop(client);
      throw error;
    }
  }

  async #connected(): Promise<pg.Client> {
    if (this.#client) return this.#client;
    if (this.#closed) throw new Error('the settings are closed');
    this.#lastAttempt = performance.now();
    const client = new pg.Client({
      ...this.#options.connection(),
      application_name: 'pgsso settings',
      options: '-c search_path=pg_catalog',
      connectionTimeoutMillis: TIMEOUT_MS,
      query_timeout: TIMEOUT_MS,
      keepAlive: true,
    });
    client.on('error', () => this.#drop(client));
    client.on('end', () => this.#drop(client));
    client.on('notification', () => this.#look(true));
    try {
      await client.connect();
      await createTables(client);
      this.#notifies = await listens(client);
    } catch (error) {
      void client.end().catch(() => undefined);
      throw new Error(`the settings database: ${errorText(error)}`, { cause: error });
    }
    this.#client = client;
    return client;
  }

  #drop(client: pg.Client): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    void client.end().catch(() => undefined);
  }
}

/** Whether the database tells of changes: CockroachDB does not know LISTEN. */
async function listens(client: pg.Client): Promise<boolean> {
  try {
    await client.query(`LISTEN ${CHANNEL}`);
    return true;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return false;
    throw error;
  }
}

function notChanged(error: unknown): PgError {
  return away('nothing was changed: the database of the settings is away or refuses', error);
}

function away(message: string, error: unknown): PgError {
  return new PgError({
    code: 'settings_store_failed',
    message,
    detail: errorText(error),
    reason: errorText(error),
    fault: 'us',
    cause: error,
  });
}

/**
 * The connection broke after COMMIT was sent (manual, appendix A: transaction_resolution_unknown).
 */
function unknownOutcome(error: unknown): PgError {
  return new PgError({
    code: 'settings_change_unknown',
    message:
      'the connection to the database of the settings broke: whether the change was made is not known',
    hint: 'Look for the change when the database is back.',
    reason: errorText(error),
    fault: 'us',
    cause: error,
  });
}
