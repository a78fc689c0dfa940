/** The settings that a data directory holds, for a look at them without opening a store. */
import { readStoredSettings } from './file-store.ts';
import { readLastSnapshot } from './last-snapshot.ts';
import type { Kept } from './snapshot-holder.ts';

/**
 * Reads them: those of the files, or, where settings live in a database, the last ones that were read from it.
 *
 * @throws Error that names the file when it is damaged, or the directory cannot be read
 */
export async function readKeptSettings(directory: string): Promise<Kept> {
  const kept = await readStoredSettings(directory);
  const isEmpty = kept.stored.size === 0 && kept.apiKeys.size === 0;
  return isEmpty ? ((await readLastSnapshot(directory)) ?? kept) : kept;
}
