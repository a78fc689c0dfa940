/**
 * The settings store in a database that several nodes share. The other nodes learn of a change by
 * NOTIFY, or by polling if the database does not notify (CockroachDB). While the database is away,
 * logins use the last settings and changes fail.
 */

import type pg from 'pg';
import { orAborted } from '../../lib/abort.ts';
import { errorText, PgError } from '../../lib/errors.ts';
import { type ApiKeyChange, applyApiKeyChange, noApiKeys } from '../api-keys.ts';
import {
  applyChanges,
  canonicalChanges,
  type HistoryEntry,
  historyOf,
  historyOfApiKey,
  type SettingChange,
} from '../changes.ts';
import type { SettingName } from '../definitions.ts';
import type { SettingsSnapshot, StoredState } from '../snapshot.ts';
import { readLastSnapshot, writeLastSnapshot } from './last-snapshot.ts';
import {
  readApiKeys,
  readFingerprint,
  readHistory,
  readRows,
  storedSettings,
  writeApiKey,
  writeChanges,
} from './postgres-tables.ts';
import { SettingsConnection, type Transaction } from './settings-connection.ts';
import { SnapshotHolder, type SnapshotOptions } from './snapshot-holder.ts';
import { type SettingsStore, type Vet, vetWithoutDirectory } from './store.ts';
import { Turns } from './turns.ts';

/** What a store in a database is made with. */
export interface PostgresStoreOptions extends SnapshotOptions {
  /** How to connect; called at each attempt. */
  readonly connection: () => pg.ClientConfig;
  /** The data directory, which holds a copy of the last settings. */
  readonly directory: string;
  /** Called before a change is written. Default: {@link vetWithoutDirectory}. */
  readonly vet?: Vet;
}

/** Milliseconds between two looks at a database that does not notify. */
const POLL_MS = 500;

/** The same if it notifies, for a notification that is lost. */
const POLL_WITH_NOTIFY_MS = 2000;

/** The same after a notification. Any user of the database can send thousands of them a second. */
const PAUSE_MS = 100;

/** The state after a change, and its snapshot. */
interface Changed {
  readonly state: StoredState;
  readonly snapshot: SettingsSnapshot;
}

/** Settings in PostgreSQL or CockroachDB. */
export class PostgresStore implements SettingsStore {
  readonly #options: PostgresStoreOptions;
  readonly #holder: SnapshotHolder;
  readonly #connection: SettingsConnection;
  readonly #turns = new Turns();
  /** The {@link readFingerprint} of the settings that were read last. */
  #fingerprint: string | undefined;
  /** Why the settings of that fingerprint were refused; undefined if they were not. */
  #refused: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Looks again after a pause, because of a notification. */
  #soon: NodeJS.Timeout | undefined;
  #lastLook = 0;
  /** Whether a look runs, or waits for its turn. */
  #looking = false;
  /** Whether a change was notified meanwhile. */
  #isNotified = false;

  private constructor(options: PostgresStoreOptions, state: StoredState) {
    this.#options = options;
    this.#holder = new SnapshotHolder(state, options);
    this.#connection = new SettingsConnection(options.connection, () => this.#look(true));
  }

  /**
   * Reads the settings; while the database is away, the copy in the data directory.
   *
   * @throws Error of one line if there are neither
   */
  static async open(options: PostgresStoreOptions): Promise<PostgresStore> {
    const last = await readLastSnapshot(options.directory);
    const store = new PostgresStore(options, last ?? { stored: new Map(), apiKeys: noApiKeys });
    try {
      await store.#use((client) => store.#read(client));
    } catch (error) {
      if (!last) {
        await store.close();
        throw error;
      }
      const since = new Date(last.at).toISOString();
      store.#holder.report(
        new Error(`${errorText(error)}; those of ${since} are used`, { cause: error }),
      );
    }
    store.#timer = setInterval(() => store.#look(false), POLL_MS).unref();
    return store;
  }

  get current(): SettingsSnapshot {
    return this.#holder.current;
  }

  get problem(): string | undefined {
    return this.#holder.problem;
  }

  watch(listener: (snapshot: SettingsSnapshot) => void): void {
    this.#holder.watch(listener);
  }

  async change(changes: readonly SettingChange[], user: string): Promise<SettingsSnapshot> {
    const canonical = canonicalChanges(changes);
    const changed = new Set(changes.map(({ name }) => name));
    return this.#commit(async ({ client, revision, at }, signal) => {
      // A row that is to be replaced is not checked: it may hold a bad value written by hand.
      const rows = (await readRows(client)).filter(({ name }) =>
        changes.every((change) => change.name !== name),
      );
      const stored = applyChanges(storedSettings(rows), canonical, user, at);
      const state = { stored, apiKeys: await readApiKeys(client) };
      const snapshot = this.#holder.build(state);
      const { vet = vetWithoutDirectory } = this.#options;
      await orAborted(vet(snapshot.values, changed), signal);
      await writeChanges(client, canonical, historyOf(canonical, user, at), revision);
      return { state, snapshot };
    });
  }

  changeApiKeys(change: ApiKeyChange, user: string): Promise<SettingsSnapshot> {
    return this.#commit(async ({ client, revision, at }) => {
      const stored = storedSettings(await readRows(client));
      const before = await readApiKeys(client, change.kind === 'drop' ? change.name : undefined);
      const state = { stored, apiKeys: applyApiKeyChange(before, change, user, at) };
      const snapshot = this.#holder.build(state);
      await writeApiKey(client, change, historyOfApiKey(change, user, at), revision);
      return { state, snapshot };
    });
  }

  async history(name?: SettingName): Promise<readonly HistoryEntry[]> {
    try {
      return await this.#use((client) => readHistory(client, name));
    } catch (error) {
      if (error instanceof PgError) throw error;
      throw storeFailed(
        'the history of settings cannot be read: their database is away or refuses',
        error,
      );
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#turns.close((workIsOver) => this.#connection.close(workIsOver));
    clearTimeout(this.#soon);
  }

  /** Reads in its turn. */
  #use<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    return this.#turns.run((signal) => this.#connection.use(work, signal));
  }

  async #commit(
    work: (transaction: Transaction, signal: AbortSignal) => Promise<Changed>,
  ): Promise<SettingsSnapshot> {
    try {
      return await this.#turns.run(async (signal) => {
        const { state, snapshot, fingerprint } = await this.#connection.transact(
          async (transaction) => ({
            ...(await work(transaction, signal)),
            fingerprint: await readFingerprint(transaction.client),
          }),
          signal,
        );
        await this.#adopt(state, snapshot, fingerprint);
        return snapshot;
      });
    } catch (error) {
      throw error instanceof PgError
        ? error
        : storeFailed(
            'nothing was changed: the database of the settings is away or refuses',
            error,
          );
    }
  }

  /** Reads the settings in their turn, if it is time for that or a change was notified. */
  #look(notified: boolean): void {
    const { isOpen, mayReconnect, notifies } = this.#connection;
    const since = performance.now() - this.#lastLook;
    const isRecent = since < (notifies ? POLL_WITH_NOTIFY_MS : POLL_MS);
    if (this.#looking) this.#isNotified ||= notified;
    else if (isOpen ? isRecent && !notified : !mayReconnect) return;
    else if (notified && since < PAUSE_MS) this.#lookAfter(PAUSE_MS - since);
    else void this.#readInTurn();
  }

  /** All notifications of a pause lead to one look. */
  #lookAfter(pause: number): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#look(true);
    }, pause).unref();
  }

  async #readInTurn(): Promise<void> {
    this.#looking = true;
    this.#isNotified = false;
    try {
      await this.#use((client) => this.#read(client));
    } catch (error) {
      if (!this.#turns.isClosed) this.#holder.report(error);
    }
    this.#looking = false;
    this.#lastLook = performance.now();
    // What was notified meanwhile may have been changed after it was read.
    if (this.#isNotified) this.#look(true);
  }

  async #read(client: pg.Client): Promise<void> {
    const fingerprint = await readFingerprint(client);
    if (fingerprint === this.#fingerprint) {
      // The database answers, so the only problem can be a value.
      this.#holder.problem = this.#refused;
      return;
    }
    const rows = await readRows(client);
    // Refused settings are not read again until they change.
    this.#fingerprint = fingerprint;
    try {
      const state = { stored: storedSettings(rows), apiKeys: await readApiKeys(client) };
      await this.#adopt(state, this.#holder.build(state), fingerprint);
    } catch (error) {
      this.#refused = errorText(error);
      throw error;
    }
  }

  async #adopt(state: StoredState, snapshot: SettingsSnapshot, fingerprint: string): Promise<void> {
    this.#fingerprint = fingerprint;
    this.#refused = undefined;
    this.#holder.adopt(snapshot);
    try {
      await writeLastSnapshot(this.#options.directory, state);
    } catch (error) {
      this.#options.onProblem(
        new Error(`the last settings were not kept: ${errorText(error)}`, { cause: error }),
      );
    }
  }
}

function storeFailed(message: string, error: unknown): PgError {
  return new PgError({
    code: 'settings_store_failed',
    message,
    detail: errorText(error),
    reason: errorText(error),
    fault: 'us',
    cause: error,
  });
}
