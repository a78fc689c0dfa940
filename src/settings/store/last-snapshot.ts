/**
 * The last settings that were read from a database, kept in the data directory: a restart while the
 * database is away must not lock everybody out.
 */

import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../lib/errors.ts';
import { isErrno, replaceFile } from '../../lib/files.ts';
import { formatSettings, parseSettings } from './file-format.ts';
import { readStoredSettings } from './file-store.ts';
import type { Kept } from './snapshot-holder.ts';

const NAME = 'last-settings.json';

/** Settings as they were. */
export interface LastSnapshot extends Kept {
  /** When they were read, in milliseconds since the epoch. */
  readonly at: number;
}

/**
 * Reads what was kept; undefined when nothing was.
 *
 * @throws Error that names the file when it is damaged
 */
export async function readLastSnapshot(directory: string): Promise<LastSnapshot | undefined> {
  const path = join(directory, NAME);
  try {
    const { stored, apiKeys } = parseSettings(await readFile(path, 'utf8'));
    return { stored, apiKeys, at: (await stat(path)).mtimeMs };
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw new Error(`${path}: ${errorText(error)}`, { cause: error });
  }
}

/** Keeps settings, durably. */
export async function keepLastSnapshot(
  directory: string,
  { stored, apiKeys }: Kept,
): Promise<void> {
  await replaceFile(directory, NAME, formatSettings({ stored, apiKeys, history: [] }));
}

/* The settings that a data directory holds, for a look at them without opening a store. */

/**
 * Reads them: those of the files, or, where settings live in a database, the last ones that were
 * read from it.
 *
 * @throws Error that names the file when it is damaged, or the directory cannot be read
 */
export async function readKeptSettings(directory: string): Promise<Kept> {
  const kept = await readStoredSettings(directory);
  const isEmpty = kept.stored.size === 0 && kept.apiKeys.size === 0;
  return isEmpty ? ((await readLastSnapshot(directory)) ?? kept) : kept;
}
