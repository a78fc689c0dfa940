/**
 * Files of the data directory, and files that hold a secret. A file is written under a temporary
 * name, flushed and then named, so that a crash at any moment leaves the old file or the new one.
 * A file with a secret is refused if others can read it, as libpq refuses such a `.pgpass`.
 */

import { randomUUID } from 'node:crypto';
import { open, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, PgError } from './errors.ts';

/**
 * Bytes. A password file of a megabyte has lines for 20,000 users; no password file and no key is
 * larger.
 */
const SECRET_SIZE_LIMIT = 1024 * 1024;

/** The mode bits of group and world. */
const OTHERS = 0o077;

/** Replaces the file of that name, or creates it, durably and with mode 0600. */
export async function replaceFile(directory: string, name: string, text: string): Promise<void> {
  const temporary = await writeTemporary(directory, name, text);
  try {
    await rename(temporary, join(directory, name));
  } catch (error) {
    await removeIfThere(temporary);
    throw error;
  }
  await syncDirectory(directory);
}

/**
 * Writes a flushed file of mode 0600 under a temporary name, `<name>.<uuid>.tmp`. The caller
 * renames, links or removes it.
 *
 * @returns the path of the file
 */
export async function writeTemporary(
  directory: string,
  name: string,
  text: string,
): Promise<string> {
  const path = join(directory, `${name}.${randomUUID()}.tmp`);
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } catch (error) {
    await removeIfThere(path);
    throw error;
  } finally {
    await file.close();
  }
  return path;
}

/** Flushes a directory: only then is a new name in it durable (fsync(2)). */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Removes a file. A file that does not exist is no error. */
export async function removeIfThere(path: string): Promise<void> {
  await unlink(path).catch((error: unknown) => {
    if (!isErrno(error, 'ENOENT')) throw error;
  });
}

/**
 * The bytes of a file that only its owner can read. The checks and the reading use one handle, so
 * that the file cannot be exchanged between them.
 *
 * @param what names the file's kind in the error
 * @throws PgError F0000 if the file cannot be read, is not a plain file, or group or world have
 *   access to it
 */
export async function readPrivateFile(what: string, path: string): Promise<Buffer> {
  try {
    const file = await open(path, 'r');
    try {
      const status = await file.stat();
      if (!status.isFile()) throw new Error('it is not a plain file');
      if ((status.mode & OTHERS) !== 0)
        throw new Error('group or world has access to it; it has to be 0600 or stricter');
      if (status.size > SECRET_SIZE_LIMIT)
        throw new Error(`it is larger than ${SECRET_SIZE_LIMIT} bytes`);
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw unusableFile(what, path, error);
  }
}

/** The error of a file that an option or a parameter names and that cannot be used. */
export function unusableFile(what: string, path: string, error: unknown): PgError {
  return new PgError({
    code: 'unusable_file',
    message: `${what} ${path}: ${errorText(error)}`,
    fault: 'us',
    cause: error,
  });
}

/** Whether a system call failed with that code, such as `ENOENT`. */
export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
