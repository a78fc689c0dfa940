/**
 * The data directory: settings, and what else has to outlive the process. Whoever can write to it can let himself in, so it has to be
 * ours and closed to others, or the start is refused.
 */
import { chmod, lstat, mkdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { errorText } from './errors.ts';

const OWNER_ONLY = 0o700;
const OTHERS = 0o077;

/**
 * Makes the directory if it is missing, and checks it.
 *
 * @returns its absolute path
 * @throws Error with a text that names `--data-dir` and says what is wrong with it
 */
export async function openDataDir(path: string): Promise<string> {
  const directory = resolve(path);
  try {
    const made = await mkdir(directory, { recursive: true, mode: OWNER_ONLY });
    // The mode of mkdir passes through the umask, which may have taken the owner's own bits.
    if (made !== undefined) await chmod(directory, OWNER_ONLY);
    const status = await lstat(directory);
    if (!status.isDirectory()) throw new Error('it is not a directory');
    if (process.getuid && status.uid !== process.getuid()) throw new Error(`it belongs to another user (uid ${status.uid})`);
    if ((status.mode & OTHERS) !== 0) throw new Error(`others have access to it: chmod 700 ${directory}`);
  } catch (error) {
    throw new Error(`--data-dir ${directory}: ${errorText(error)}`, { cause: error });
  }
  return directory;
}
