/**
 * Settings in the data directory, shared by the processes that use it. Each change is a new file, `settings.<number>.json`; the highest
 * number counts. A new file is written whole under another name, flushed, and then given its own by link(2), which fails if another process
 * was faster: so there is no lock that could be left behind, no change is lost, and a crash at any moment leaves the old file or the new one.
 */
import { randomUUID } from 'node:crypto';
import { type FSWatcher, watch } from 'node:fs';
import { link, open, readdir, readFile, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../errors.ts';
import { formatSettings, parseSettings, sameSettings } from './file-format.ts';
import { parseSetting } from './lookup.ts';
import { buildSnapshot, type ProcessDefaults, type SettingsSnapshot, type StoredSettings } from './snapshot.ts';
import type { SettingChange, SettingsStore } from './store.ts';

/** What a file store is made with. */
export interface FileStoreOptions {
  /** The data directory. */
  readonly directory: string;
  readonly processDefaults: ProcessDefaults;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Told when a change by somebody else cannot be taken; the last good settings stay. */
  readonly onProblem: (error: Error) => void;
}

/** A file with settings, or none yet. */
interface Generation {
  readonly number: number;
  readonly stored: StoredSettings;
}

const NAME = /^settings\.(\d{1,15})\.json$/;

/** Half-written files of a process that died; nobody writes for longer than this. */
const TEMPORARY = /^settings\.[0-9a-f-]{36}\.tmp$/;
const TEMPORARY_MS = 60_000;

/** Where the file system tells of no changes (network drives), they are found by looking. */
const POLL_MS = 1000;

/** Settings in files. */
export class FileStore implements SettingsStore {
  readonly #options: FileStoreOptions;
  readonly #listeners = new Set<(snapshot: SettingsSnapshot) => void>();
  #generation: Generation;
  #current: SettingsSnapshot;
  /** What was last seen of the files, to tell whether to read them again. */
  #seen = '';
  /** Changes and looks, one after the other. */
  #queue: Promise<unknown> = Promise.resolve();
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(options: FileStoreOptions, generation: Generation) {
    this.#options = options;
    this.#generation = generation;
    this.#current = buildSnapshot({ stored: generation.stored, processDefaults: options.processDefaults, previous: undefined });
  }

  /**
   * Reads the settings and watches them from then on.
   *
   * @throws Error that names the file and the setting when they cannot be read; nothing is ever written over them then
   */
  static async open(options: FileStoreOptions): Promise<FileStore> {
    await removeTemporaries(options);
    const store = new FileStore(options, await readNewest(options.directory));
    store.#seen = await look(options.directory);
    const notice = (): void => void store.#inTurn(() => store.#catchUp());
    store.#watcher = watch(options.directory, { persistent: false }, notice);
    store.#watcher.on('error', (error) => options.onProblem(error));
    store.#poll = setInterval(notice, POLL_MS).unref();
    return store;
  }

  get current(): SettingsSnapshot {
    return this.#current;
  }

  change(changes: readonly SettingChange[], user: string): Promise<SettingsSnapshot> {
    return this.#inTurn(async () => {
      if (this.#closed) throw new Error('the settings are closed: the front-end is shutting down');
      for (;;) {
        const newest = this.#checkThere(await readNewest(this.#options.directory));
        const stored = applyChanges(newest.stored, changes, user, this.#options.now());
        // Built before it is written: what cannot be read back is not stored.
        const snapshot = this.#build(stored);
        const next = { number: newest.number + 1, stored };
        if (!(await writeGeneration(this.#options.directory, next))) continue;
        this.#seen = await look(this.#options.directory);
        this.#adopt(next, snapshot);
        return snapshot;
      }
    });
  }

  watch(listener: (snapshot: SettingsSnapshot) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#poll);
    this.#watcher?.close();
    await this.#queue;
  }

  /** Reads what another process, or a person, has written. */
  async #catchUp(): Promise<void> {
    try {
      const seen = await look(this.#options.directory);
      if (seen === this.#seen) return;
      this.#seen = seen;
      const newest = this.#checkThere(await readNewest(this.#options.directory));
      if (sameSettings(newest.stored, this.#generation.stored)) return;
      this.#adopt(newest, this.#build(newest.stored));
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error: unknown): void {
    this.#options.onProblem(error instanceof Error ? error : new Error(String(error)));
  }

  /**
   * Settings that were there and are gone were lost, not reset: without an identity map a principal may be any user, so the last good
   * settings stay, and nothing new is begun on top of nothing.
   */
  #checkThere(newest: Generation): Generation {
    if (newest.number >= this.#generation.number) return newest;
    const expected = pathOf(this.#options.directory, this.#generation.number);
    throw new Error(`${expected}: the settings file is gone; put it back, or restart pgsso to begin with the defaults`);
  }

  #build(stored: StoredSettings): SettingsSnapshot {
    return buildSnapshot({ stored, processDefaults: this.#options.processDefaults, previous: this.#current });
  }

  #adopt(generation: Generation, snapshot: SettingsSnapshot): void {
    this.#generation = generation;
    this.#current = snapshot;
    for (const listener of this.#listeners) {
      try {
        listener(snapshot);
      } catch (error) {
        // The change is made and durable, whatever somebody does with the news.
        this.#report(error);
      }
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }
}

function applyChanges(stored: StoredSettings, changes: readonly SettingChange[], user: string, at: number): StoredSettings {
  const changed = new Map(stored);
  for (const change of changes) {
    if (change.kind === 'reset') changed.delete(change.name);
    else changed.set(change.name, { text: parseSetting(change.name, change.text).text, user, at });
  }
  return changed;
}

/** The settings of the highest number. A file that is gone when it is opened has been followed by a newer one. */
async function readNewest(directory: string): Promise<Generation> {
  for (;;) {
    const number = Math.max(0, ...(await generations(directory)));
    if (number === 0) return { number, stored: new Map() };
    const path = pathOf(directory, number);
    try {
      return { number, stored: parseSettings(await readFile(path, 'utf8')) };
    } catch (error) {
      if (isErrno(error, 'ENOENT')) continue;
      throw new Error(`${path}: ${errorText(error)}`, { cause: error });
    }
  }
}

/** Writes a file durably; false when another process was faster. */
async function writeGeneration(directory: string, { number, stored }: Generation): Promise<boolean> {
  const temporary = join(directory, `settings.${randomUUID()}.tmp`);
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(formatSettings(stored));
      await file.sync();
    } finally {
      await file.close();
    }
    await link(temporary, pathOf(directory, number));
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false;
    throw error;
  } finally {
    await removeIfThere(temporary);
  }
  const numbers = await generations(directory);
  // Others may have written this number and the next, and removed this one, before we came to it: then ours counts for nothing.
  if (numbers.some((other) => other > number)) {
    await removeIfThere(pathOf(directory, number));
    return false;
  }
  await syncDirectory(directory);
  // The files before are no longer needed; one that a crash leaves here goes with the next change.
  for (const old of numbers) if (old < number) await removeIfThere(pathOf(directory, old));
  return true;
}

/** A new name is durable when the directory is (fsync(2)). */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
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

async function removeIfThere(path: string): Promise<void> {
  await unlink(path).catch((error: unknown) => {
    if (!isErrno(error, 'ENOENT')) throw error;
  });
}

function pathOf(directory: string, number: number): string {
  return join(directory, `settings.${number}.json`);
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
