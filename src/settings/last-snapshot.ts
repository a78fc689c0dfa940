/**
 * The last settings that were read from a database, kept in the data directory: a restart while the database is away must not lock
 * everybody out.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../errors.ts';
import { isErrno, replaceFile } from './durable-file.ts';
import { formatSettings, parseSettings } from './file-format.ts';
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
export async function keepLastSnapshot(directory: string, { stored, apiKeys }: Kept): Promise<void> {
  await replaceFile(directory, NAME, formatSettings({ stored, apiKeys, history: [] }));
}
