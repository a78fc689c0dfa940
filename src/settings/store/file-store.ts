/**
 * Settings in the data directory, shared by the processes that use it. Each change is a new file,
 * `settings.<number>.json`; the highest number counts. A new file is written whole under another
 * name, flushed, and then given its own by link(2), which fails if another process was faster: so
 * there is no lock that could be left behind, no change is lost, and a crash at any moment leaves
 * the old file or the new one.
 */

import { type FSWatcher, watch } from 'node:fs';
import { link, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, PgError } from '../../lib/errors.ts';
import { isErrno, removeIfThere, syncDirectory, writeTemporary } from '../../lib/files.ts';
import { type ApiKeyChange, applyApiKeyChange, noApiKeys } from '../api-keys.ts';
import type { SettingChange } from '../changes.ts';
import {
  applyChanges,
  canonicalChanges,
  type HistoryEntry,
  historyOf,
  historyOfApiKey,
  trimHistory,
} from '../changes.ts';
import type { SettingName } from '../definitions.ts';
import type { ProcessDefaults, SettingsSnapshot } from '../snapshot.ts';
import { formatSettings, parseSettings, type SettingsFile, sameSettings } from './file-format.ts';
import { type Kept, SnapshotHolder } from './snapshot-holder.ts';
import { type SettingsStore, type Vet, vetWithoutDirectory } from './store.ts';

/** What a file store is made with. */
export interface FileStoreOptions {
  /** The data directory. */
  readonly directory: string;
  readonly processDefaults: ProcessDefaults;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Told when a change by somebody else cannot be taken; the last good settings stay. */
  readonly onProblem: (error: Error) => void;
  /** Asked before a change is written; by default for a process without a directory. */
  readonly vet?: Vet;
}

/** A file with settings, or none yet. */
interface Generation extends SettingsFile {
  readonly number: number;
}

/** What a change makes of a file at a time. */
type Edit = (file: SettingsFile, at: number) => SettingsFile;

const NAME = /^settings\.(\d{1,15})\.json$/;

/** Half-written files of a process that died; nobody writes for longer than this. */
const TEMPORARY = /^settings\.[0-9a-f-]{36}\.tmp$/;
const TEMPORARY_MS = 60_000;

/** Where the file system tells of no changes (network drives), they are found by looking. */
const POLL_MS = 1000;

/** Settings in files. */
export class FileStore implements SettingsStore {
  readonly #options: FileStoreOptions;
  readonly #holder: SnapshotHolder;
  #generation: Generation;
  /** What was last seen of the files, to tell whether to read them again. */
  #seen = '';
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(options: FileStoreOptions, generation: Generation) {
    this.#options = options;
    this.#generation = generation;
    this.#holder = new SnapshotHolder(
      keptOf(generation),
      options.processDefaults,
      options.onProblem,
    );
  }

  /**
   * Reads the settings and watches them from then on.
   *
   * @throws Error that names the file and the setting when they cannot be read; nothing is ever
   *   written over them then
   */
  static async open(options: FileStoreOptions): Promise<FileStore> {
    await removeTemporaries(options);
    const store = new FileStore(options, await readNewest(options.directory));
    store.#seen = await look(options.directory);
    const notice = (): void => void store.#holder.inTurn(() => store.#catchUp());
    store.#watcher = watch(options.directory, { persistent: false }, notice);
    store.#watcher.on('error', (error) => options.onProblem(error));
    store.#poll = setInterval(notice, POLL_MS).unref();
    return store;
  }

  get current(): SettingsSnapshot {
    return this.#holder.current;
  }

  get problem(): string | undefined {
    return this.#holder.problem;
  }

  change(changes: readonly SettingChange[], user: string): Promise<SettingsSnapshot> {
    return this.#holder.inTurn(() => {
      const canonical = canonicalChanges(changes);
      const changed = new Set(changes.map(({ name }) => name));
      return this.#write(changed, (file, at) => ({
        ...file,
        stored: applyChanges(file.stored, canonical, user, at),
        history: [...file.history, ...historyOf(canonical, user, at)],
      }));
    });
  }

  changeApiKeys(change: ApiKeyChange, user: string): Promise<SettingsSnapshot> {
    return this.#holder.inTurn(() =>
      this.#write(new Set(), (file, at) => ({
        ...file,
        apiKeys: applyApiKeyChange(file.apiKeys, change, user, at),
        history: [...file.history, historyOfApiKey(change, user, at)],
      })),
    );
  }

  async history(name?: SettingName): Promise<readonly HistoryEntry[]> {
    return this.#generation.history
      .filter((entry) => name === undefined || entry.name === name)
      .toReversed();
  }

  watch(listener: (snapshot: SettingsSnapshot) => void): () => void {
    return this.#holder.watch(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#poll);
    this.#watcher?.close();
    await this.#holder.settled();
  }

  async #write(changed: ReadonlySet<SettingName>, edit: Edit): Promise<SettingsSnapshot> {
    if (this.#closed) throw closed();
    try {
      return await this.#writeNext(changed, edit);
    } catch (error) {
      throw error instanceof PgError ? error : notChanged(error);
    }
  }

  async #writeNext(changed: ReadonlySet<SettingName>, edit: Edit): Promise<SettingsSnapshot> {
    const { vet = vetWithoutDirectory } = this.#options;
    for (;;) {
      const newest = this.#checkThere(await readNewest(this.#options.directory));
      const edited = edit(newest, this.#options.now());
      // Built before it is written: what cannot be read back is not stored.
      const snapshot = this.#holder.build(keptOf(edited));
      await vet(snapshot.values, changed);
      const next = { ...edited, number: newest.number + 1, history: trimHistory(edited.history) };
      if (!(await writeGeneration(this.#options.directory, next))) continue;
      this.#seen = await look(this.#options.directory);
      this.#adopt(next, snapshot);
      return snapshot;
    }
  }

  /** Reads what another process, or a person, has written. */
  async #catchUp(): Promise<void> {
    try {
      const seen = await look(this.#options.directory);
      if (seen === this.#seen) return;
      this.#seen = seen;
      const newest = this.#checkThere(await readNewest(this.#options.directory));
      if (sameSettings(newest, this.#generation)) {
        this.#holder.problem = undefined;
        return;
      }
      this.#adopt(newest, this.#holder.build(keptOf(newest)));
    } catch (error) {
      this.#holder.report(error);
    }
  }

  /**
   * Settings that were there and are gone were lost, not reset: without an identity map a principal
   * may be any user, so the last good settings stay, and nothing new is begun on top of nothing.
   */
  #checkThere(newest: Generation): Generation {
    if (newest.number >= this.#generation.number) return newest;
    const expected = pathOf(this.#options.directory, this.#generation.number);
    throw new Error(
      `${expected}: the settings file is gone; put it back, or restart pgsso to begin with the defaults`,
    );
  }

  #adopt(generation: Generation, snapshot: SettingsSnapshot): void {
    this.#generation = generation;
    this.#holder.adopt(snapshot);
  }
}

/** The settings in a data directory, read once. Throws as {@link FileStore.open}. */
export async function readStoredSettings(directory: string): Promise<Kept> {
  return keptOf(await readNewest(directory));
}

function keptOf({ stored, apiKeys }: SettingsFile): Kept {
  return { stored, apiKeys };
}

function closed(): PgError {
  return new PgError({
    code: 'settings_closed',
    message: 'the settings are closed: the front-end is shutting down',
  });
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

/**
 * The settings of the highest number. A file that is gone when it is opened has been followed by a
 * newer one.
 */
async function readNewest(directory: string): Promise<Generation> {
  for (;;) {
    const number = Math.max(0, ...(await generations(directory)));
    if (number === 0) return { number, stored: new Map(), apiKeys: noApiKeys, history: [] };
    const path = pathOf(directory, number);
    try {
      return { number, ...parseSettings(await readFile(path, 'utf8')) };
    } catch (error) {
      if (isErrno(error, 'ENOENT')) continue;
      throw new Error(`${path}: ${errorText(error)}`, { cause: error });
    }
  }
}

/** Writes a file durably; false when another process was faster. */
async function writeGeneration(
  directory: string,
  { number, ...file }: Generation,
): Promise<boolean> {
  const temporary = await writeTemporary(directory, 'settings', formatSettings(file));
  try {
    await link(temporary, pathOf(directory, number));
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false;
    throw error;
  } finally {
    await removeIfThere(temporary);
  }
  const numbers = await generations(directory);
  // Others may have written this number and the next, and removed this one, before we came to it:
  // then ours counts for nothing.
  if (numbers.some((other) => other > number)) {
    await removeIfThere(pathOf(directory, number));
    return false;
  }
  await syncDirectory(directory);
  // The files before are no longer needed; one that a crash leaves here goes with the next change.
  for (const old of numbers) if (old < number) await removeIfThere(pathOf(directory, old));
  return true;
}

async function generations(directory: string): Promise<number[]> {
  const names = await readdir(directory);
  return names.flatMap((name) => NAME.exec(name)?.[1] ?? []).map(Number);
}

/** Something that differs whenever the settings may: the newest file's number, size and times. */
async function look(directory: string): Promise<string> {
  for (;;) {
    const number = Math.max(0, ...(await generations(directory)));
    if (number === 0) return '';
    try {
      const { size, mtimeMs, ino } = await stat(pathOf(directory, number));
      return [number, size, mtimeMs, ino].join();
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }
}

async function removeTemporaries({ directory, now }: FileStoreOptions): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!TEMPORARY.test(name)) continue;
    const path = join(directory, name);
    const age = await stat(path).then(
      ({ mtimeMs }) => now() - mtimeMs,
      () => 0,
    );
    if (age > TEMPORARY_MS) await removeIfThere(path);
  }
}

function pathOf(directory: string, number: number): string {
  return join(directory, `settings.${number}.json`);
}
