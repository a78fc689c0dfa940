/** Files that are there whole, or not at all, whenever the machine stops: written under another name, flushed, and then named. */
import { randomUUID } from 'node:crypto';
import { open, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';

/** Writes a flushed file under a temporary name, `settings.<uuid>.tmp`, which the caller gives its own or removes. */
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
