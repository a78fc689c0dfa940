/**
 * Files that hold a secret: passwords, private keys. One that others may read is not used, as libpq does not use it either, so that a
 * slip of the file's mode shows at the start and not after somebody has found it.
 */
import { open } from 'node:fs/promises';
import { errorText, PgError } from '../errors.ts';

/** A password file of a megabyte has lines for 20,000 users; a larger one is something else, and so is a larger key. */
const SIZE_LIMIT = 1024 * 1024;

const OTHERS = 0o077;

/**
 * The bytes of a file that only its owner can read; what was checked is what is read, since both go through one handle.
 *
 * @param what names the file's kind in the error
 * @throws PgError F0000 when it cannot be read, is no plain file, or group or world have access to it
 */
export async function readPrivateFile(what: string, path: string): Promise<Buffer> {
  try {
    const file = await open(path, 'r');
    try {
      const status = await file.stat();
      if (!status.isFile()) throw new Error('it is not a plain file');
      if ((status.mode & OTHERS) !== 0) throw new Error('group or world has access to it; it has to be 0600 or stricter');
      if (status.size > SIZE_LIMIT) throw new Error(`it is larger than ${SIZE_LIMIT} bytes`);
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw unusableFile(what, path, error);
  }
}

/** A file that an option or a parameter names cannot be used. */
export function unusableFile(what: string, path: string, error: unknown): PgError {
  return new PgError({
    code: 'unusable_file',
    sqlstate: 'F0000',
    message: `${what} ${path}: ${errorText(error)}`,
    fault: 'us',
    cause: error,
  });
}
