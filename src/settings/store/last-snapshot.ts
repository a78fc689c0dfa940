/**
 * The stored settings of a data directory, read without a store. If the settings are in a database,
 * the directory holds a copy of those that were read last, so that a restart while the database is
 * away does not lock out all users.
 */

import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../lib/errors.ts';
import { isErrno, replaceFile } from '../../lib/files.ts';
import type { StoredState } from '../snapshot.ts';
import { formatSettings, parseSettings } from './file-format.ts';
import { readNewest } from './settings-files.ts';

const NAME = 'last-settings.json';

/** The settings that were read last from a database. */
export interface LastSnapshot extends StoredState {
  /** When they were read, in milliseconds since the epoch. */
  readonly at: number;
}

/**
 * The stored settings of a data directory: those of its settings files, or, if there are none, the
 * last ones from a database.
 *
 * @throws Error that names the file if it is damaged; Error if the directory cannot be read
 */
export async function readStoredState(directory: string): Promise<StoredState> {
  const { stored, apiKeys } = await readNewest(directory);
  const isEmpty = stored.size === 0 && apiKeys.size === 0;
  const last = isEmpty ? await readLastSnapshot(directory) : undefined;
  return last ?? { stored, apiKeys };
}

/**
 * Reads the last settings from a database; undefined if there is no file with them.
 *
 * @throws Error that names the file if it is damaged
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

/** Writes the settings that were read from a database, durably. */
export async function writeLastSnapshot(
  directory: string,
  { stored, apiKeys }: StoredState,
): Promise<void> {
  await replaceFile(directory, NAME, formatSettings({ stored, apiKeys, history: [] }));
}
