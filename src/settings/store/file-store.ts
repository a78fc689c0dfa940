/**
 * The settings store in the data directory. Several processes may share the directory: a change is
 * a new settings file, and the others find it because they watch the directory.
 */

import { type FSWatcher, watch } from 'node:fs';
import { orAborted } from '../../lib/abort.ts';
import { errorText, PgError } from '../../lib/errors.ts';
import { type ApiKeyChange, applyApiKeyChange } from '../api-keys.ts';
import {
  applyChanges,
  canonicalChanges,
  type HistoryEntry,
  historyOf,
  historyOfApiKey,
  type SettingChange,
  trimHistory,
} from '../changes.ts';
import type { SettingName } from '../definitions.ts';
import type { SettingsSnapshot } from '../snapshot.ts';
import { type SettingsFile, sameSettings } from './file-format.ts';
import {
  type Generation,
  pathOf,
  readFingerprint,
  readNewest,
  removeTemporaries,
  writeGeneration,
} from './settings-files.ts';
import { SnapshotHolder, type SnapshotOptions } from './snapshot-holder.ts';
import { type SettingsStore, type Vet, vetWithoutDirectory } from './store.ts';
import { Turns } from './turns.ts';

/** What a file store is made with. */
export interface FileStoreOptions extends SnapshotOptions {
  /** The data directory. */
  readonly directory: string;
  /** The time in milliseconds since the epoch. */
  readonly now: () => number;
  /** Called before a change is written. Default: {@link vetWithoutDirectory}. */
  readonly vet?: Vet;
}

/** The content of a file after a change. */
type Edit = (file: SettingsFile, at: number) => SettingsFile;

/** Milliseconds between two looks at the directory. Network file systems do not notify. */
const POLL_MS = 1000;

/** Settings in files. */
export class FileStore implements SettingsStore {
  readonly #options: FileStoreOptions;
  readonly #holder: SnapshotHolder;
  readonly #turns = new Turns();
  #generation: Generation;
  /** The {@link readFingerprint} of the files that were read last; undefined to read them again. */
  #fingerprint: string | undefined;
  /** Whether the directory could not be read last time. */
  #isLost = false;
  /** Whether a look at the directory runs, or waits for its turn. */
  #looking = false;
  /** Whether the directory changed while a look ran. */
  #isNotified = false;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;

  private constructor(options: FileStoreOptions, generation: Generation) {
    this.#options = options;
    this.#generation = generation;
    this.#holder = new SnapshotHolder(generation, options);
  }

  /**
   * Reads the settings, and watches the directory from then on.
   *
   * @throws Error that names the file and the setting if they cannot be read; the file is never
   *   overwritten then
   */
  static async open(options: FileStoreOptions): Promise<FileStore> {
    await removeTemporaries(options.directory, options.now());
    const fingerprint = await readFingerprint(options.directory);
    const store = new FileStore(options, await readNewest(options.directory));
    store.#fingerprint = fingerprint;
    store.#watch();
    store.#poll = setInterval(() => void store.#look(), POLL_MS).unref();
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
    return this.#write(changed, (file, at) => ({
      ...file,
      stored: applyChanges(file.stored, canonical, user, at),
      history: [...file.history, ...historyOf(canonical, user, at)],
    }));
  }

  changeApiKeys(change: ApiKeyChange, user: string): Promise<SettingsSnapshot> {
    return this.#write(new Set(), (file, at) => ({
      ...file,
      apiKeys: applyApiKeyChange(file.apiKeys, change, user, at),
      history: [...file.history, historyOfApiKey(change, user, at)],
    }));
  }

  async history(name?: SettingName): Promise<readonly HistoryEntry[]> {
    return this.#generation.history
      .filter((entry) => name === undefined || entry.name === name)
      .toReversed();
  }

  async close(): Promise<void> {
    clearInterval(this.#poll);
    this.#watcher?.close();
    await this.#turns.close((workIsOver) => workIsOver);
  }

  async #write(changed: ReadonlySet<SettingName>, edit: Edit): Promise<SettingsSnapshot> {
    try {
      return await this.#turns.run((signal) => this.#writeNext(changed, edit, signal));
    } catch (error) {
      throw error instanceof PgError ? error : notChanged(error);
    }
  }

  /** @param signal gives up until the file is written */
  async #writeNext(
    changed: ReadonlySet<SettingName>,
    edit: Edit,
    signal: AbortSignal,
  ): Promise<SettingsSnapshot> {
    const { directory, now, vet = vetWithoutDirectory } = this.#options;
    for (;;) {
      const newest = this.#checkPresent(await orAborted(readNewest(directory), signal));
      const edited = edit(newest, now());
      // The snapshot is built first, so that nothing is stored that cannot be read again.
      const snapshot = this.#holder.build(edited);
      await orAborted(vet(snapshot.values, changed), signal);
      const next = { ...edited, number: newest.number + 1, history: trimHistory(edited.history) };
      if (!(await writeGeneration(directory, next))) continue;
      // Another process may already have written the next file.
      this.#fingerprint = undefined;
      this.#adopt(next, snapshot);
      return snapshot;
    }
  }

  #watch(): void {
    this.#watcher?.close();
    this.#watcher = watch(this.#options.directory, { persistent: false }, () => void this.#look());
    this.#watcher.on('error', (error) => this.#options.onProblem(error));
  }

  /** Looks at the directory in its turn. All that happens there during a look leads to one more. */
  async #look(): Promise<void> {
    if (this.#looking) {
      this.#isNotified = true;
      return;
    }
    this.#looking = true;
    do {
      this.#isNotified = false;
      try {
        await this.#turns.run(() => this.#catchUp());
      } catch (error) {
        if (!this.#turns.isClosed) this.#holder.report(error);
      }
    } while (this.#isNotified && !this.#turns.isClosed);
    this.#looking = false;
  }

  /** Reads what another process or a person has written. */
  async #catchUp(): Promise<void> {
    const fingerprint = await this.#readFingerprint();
    if (fingerprint === this.#fingerprint) {
      // A directory that was away is back as it was.
      this.#holder.problem = undefined;
      return;
    }
    const newest = this.#checkPresent(await readNewest(this.#options.directory));
    if (sameSettings(newest, this.#generation)) this.#holder.problem = undefined;
    else this.#adopt(newest, this.#holder.build(newest));
    this.#fingerprint = fingerprint;
  }

  /** Reads the fingerprint, and watches the directory again if it was away: it may be another. */
  async #readFingerprint(): Promise<string> {
    const wasLost = this.#isLost;
    this.#isLost = true;
    const fingerprint = await readFingerprint(this.#options.directory);
    if (wasLost) this.#watch();
    this.#isLost = false;
    return fingerprint;
  }

  /**
   * Refuses a directory whose settings file is gone. Lost settings are not the defaults: without an
   * identity map a principal may be any user. The last good settings stay in force.
   */
  #checkPresent(newest: Generation): Generation {
    if (newest.number >= this.#generation.number) return newest;
    const expected = pathOf(this.#options.directory, this.#generation.number);
    throw new Error(
      `${expected}: the settings file is gone; ` +
        'put it back, or restart pgsso to begin with the defaults',
    );
  }

  #adopt(generation: Generation, snapshot: SettingsSnapshot): void {
    this.#generation = generation;
    this.#holder.adopt(snapshot);
  }
}

function notChanged(error: unknown): PgError {
  return new PgError({
    code: 'settings_store_failed',
    sqlstate: '58030',
    message: errorText(error),
    hint: 'Nothing was changed.',
    reason: errorText(error),
    fault: 'us',
    cause: error,
  });
}
