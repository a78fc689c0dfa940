/**
 * Files that are there whole, or not at all, whenever the machine stops: written under another
 * name, flushed, and then named.
 */

import { randomUUID } from 'node:crypto';
import { open, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, PgError } from './errors.ts';

/**
 * Writes a flushed file under a temporary name, `settings.<uuid>.tmp`, which the caller gives its
 * own or removes.
 */
export async function writeTemporary(directory: string, text: string): Promise<string> {
  const path = join(directory, `settings.${randomUUID()}.tmp`);
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

/** Puts a file in the place of the one of that name, durably. */
export async function replaceFile(directory: string, name: string, text: string): Promise<void> {
  const temporary = await writeTemporary(directory, text);
  try {
    await rename(temporary, join(directory, name));
  } catch (error) {
    await removeIfThere(temporary);
    throw error;
  }
  await syncDirectory(directory);
}

/** A new name is durable when the directory is (fsync(2)). */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Removes a file that may be gone already. */
export async function removeIfThere(path: string): Promise<void> {
  await unlink(path).catch((error: unknown) => {
    if (!isErrno(error, 'ENOENT')) throw error;
  });
}

/** Whether a system call failed with that code. */
export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/*
 * Files that hold a secret: passwords, private keys. One that others may read is not used, as libpq
 * does not use it either, so that a slip of the file's mode shows at the start and not after
 * somebody has found it.
 */

/**
 * A password file of a megabyte has lines for 20,000 users; a larger one is something else, and so
 * is a larger key.
 */
const SIZE_LIMIT = 1024 * 1024;

const OTHERS = 0o077;

/**
 * The bytes of a file that only its owner can read; what was checked is what is read, since both go
 * through one handle.
 *
 * @param what names the file's kind in the error
 * @throws PgError F0000 when it cannot be read, is no plain file, or group or world have access to
 *   it
 */
export async function readPrivateFile(what: string, path: string): Promise<Buffer> {
  try {
    const file = await open(path, 'r');
    try {
      const status = await file.stat();
      if (!status.isFile()) throw new Error('it is not a plain file');
      if ((status.mode & OTHERS) !== 0)
        throw new Error('group or world has access to it; it has to be 0600 or stricter');
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
    message: `${what} ${path}: ${errorText(error)}`,
    fault: 'us',
    cause: error,
  });
}
