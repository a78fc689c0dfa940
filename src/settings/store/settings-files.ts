/**
 * The numbered settings files of a data directory, `settings.<number>.json`. The file with the
 * highest number counts. A new file is written under a temporary name, flushed, and then named by
 * link(2), which fails if another process was faster. No lock can therefore be left behind, no
 * change is lost, and a crash at any moment leaves the old file or the new one.
 */

import { link, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../lib/errors.ts';
import { isErrno, removeIfThere, syncDirectory, writeTemporary } from '../../lib/files.ts';
import { noApiKeys } from '../api-keys.ts';
import { formatSettings, parseSettings, type SettingsFile } from './file-format.ts';

/** The content of a settings file. The number is 0 if there is no file yet. */
export interface Generation extends SettingsFile {
  readonly number: number;
}

const NAME = /^settings\.(\d{1,15})\.json$/;

/** Temporary files of settings files; a process that dies leaves its own behind. */
const TEMPORARY = /^settings\.[0-9a-f-]{36}\.tmp$/;

/** Milliseconds. No process writes a temporary file for longer. */
const TEMPORARY_MS = 60_000;

/**
 * Reads the file with the highest number.
 *
 * @throws Error that names the file, and the setting that cannot be read
 */
export async function readNewest(directory: string): Promise<Generation> {
  const newest = await withNewest(directory, async (path, number): Promise<Generation> => {
    const text = await readFile(path, 'utf8');
    try {
      return { number, ...parseSettings(text) };
    } catch (error) {
      throw new Error(`${path}: ${errorText(error)}`, { cause: error });
    }
  });
  return newest ?? { number: 0, stored: new Map(), apiKeys: noApiKeys, history: [] };
}

/**
 * Writes a file durably, and removes the older ones.
 *
 * @returns false if another process wrote a file of that number or a higher one; nothing is changed
 *   then
 */
export async function writeGeneration(
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
  const numbers = await numbersIn(directory);
  // Other processes may have written this number and the next one, and removed this one again.
  if (numbers.some((other) => other > number)) {
    await removeIfThere(pathOf(directory, number));
    return false;
  }
  await syncDirectory(directory);
  // A crash here leaves older files, which the next change removes.
  for (const old of numbers) if (old < number) await removeIfThere(pathOf(directory, old));
  return true;
}

/**
 * The number, size, inode and modification time of the newest file, as one text. The text differs
 * whenever the settings differ; it is empty if there is no file.
 */
export async function readFingerprint(directory: string): Promise<string> {
  const fingerprint = await withNewest(directory, async (path, number) => {
    const { size, mtimeMs, ino } = await stat(path);
    return [number, size, mtimeMs, ino].join();
  });
  return fingerprint ?? '';
}

/**
 * Reads of the file with the highest number. If that is removed meanwhile, there is a newer one.
 *
 * @returns undefined if there is no file
 * @throws what the work throws; for a link that leads nowhere, its ENOENT
 */
async function withNewest<T>(
  directory: string,
  work: (path: string, number: number) => Promise<T>,
): Promise<T | undefined> {
  for (let missing = 0; ; ) {
    const number = await newestNumber(directory);
    if (number === 0) return undefined;
    try {
      return await work(pathOf(directory, number), number);
    } catch (error) {
      if (!isErrno(error, 'ENOENT') || number === missing) throw error;
      missing = number;
    }
  }
}

/**
 * Removes the temporary files of processes that died.
 *
 * @param now milliseconds since the epoch
 */
export async function removeTemporaries(directory: string, now: number): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!TEMPORARY.test(name)) continue;
    const path = join(directory, name);
    const age = await stat(path).then(
      ({ mtimeMs }) => now - mtimeMs,
      () => 0,
    );
    if (age > TEMPORARY_MS) await removeIfThere(path);
  }
}

/** The path of the file with that number. */
export function pathOf(directory: string, number: number): string {
  return join(directory, `settings.${number}.json`);
}

async function newestNumber(directory: string): Promise<number> {
  return Math.max(0, ...(await numbersIn(directory)));
}

async function numbersIn(directory: string): Promise<number[]> {
  const names = await readdir(directory);
  return names.flatMap((name) => NAME.exec(name)?.[1] ?? []).map(Number);
}
