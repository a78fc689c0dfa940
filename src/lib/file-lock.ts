/**
 * A lock that processes of one user share, as a file. Its owner touches the file while it works. A
 * file that nobody touches has lost its owner, and the next process takes it. Ages are measured on
 * the waiting process's own clock, so neither a clock that jumps nor one of a file server matters.
 */
import { randomUUID } from 'node:crypto';
import { open, readFile, stat, unlink, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { isErrno, removeIfThere } from './files.ts';

/** How often the owner touches the file, in ms. */
const TOUCH_MS = 2000;

/** How long a file stays untouched before its owner counts as gone, in ms. */
const ABANDONED_MS = 10_000;

/** How often a waiting process looks, in ms. */
const LOOK_MS = 100;

/** What a waiting process has seen of a file, and since when. */
interface Sighting {
  readonly content: string;
  readonly touched: number;
  readonly since: number;
}

/**
 * Runs the work while this process owns the lock.
 *
 * @param path of a file in a directory that only this user can change
 * @param signal gives up the wait; work that has begun goes on
 * @throws what the work throws; the signal's reason
 */
export async function withFileLock<T>(
  path: string,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const content = `${hostname()} ${process.pid} ${randomUUID()}`;
  await acquire(path, content, signal);
  const touching = setInterval(() => {
    const now = new Date();
    void utimes(path, now, now).catch(() => undefined);
  }, TOUCH_MS);
  try {
    return await work();
  } finally {
    clearInterval(touching);
    // Another process has the lock if this one was stopped for so long that it seemed gone.
    if ((await look(path))?.content === content) await removeIfThere(path);
  }
}

async function acquire(path: string, content: string, signal: AbortSignal): Promise<void> {
  let seen: Sighting | undefined;
  while (!(await create(path, content))) {
    signal.throwIfAborted();
    seen = await follow(path, seen);
    if (seen && isAbandoned(seen)) await removeAbandoned(path, seen);
    else await pause(LOOK_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/** Whether the file was made. It fails if there is one, also if that is a symbolic link. */
async function create(path: string, content: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx', 0o600);
    await file.writeFile(content).finally(() => file.close());
    return true;
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false;
    throw error;
  }
}

/** What there is now: seen before, or new. */
async function follow(path: string, before: Sighting | undefined): Promise<Sighting | undefined> {
  const now = await look(path);
  const isSame = now && before?.content === now.content && before.touched === now.touched;
  return isSame ? before : now;
}

async function look(path: string): Promise<Sighting | undefined> {
  try {
    const [content, { mtimeMs }] = await Promise.all([readFile(path, 'utf8'), stat(path)]);
    return { content, touched: mtimeMs, since: performance.now() };
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Untouched for long, or of a process of this host that has ended. */
function isAbandoned({ content, since }: Sighting): boolean {
  if (performance.now() - since > ABANDONED_MS) return true;
  const [host, pid = ''] = content.split(' ');
  return host === hostname() && /^[1-9]\d*$/.test(pid) && !isRunning(Number(pid));
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !isErrno(error, 'ESRCH');
  }
}

/**
 * Removes the file if it is still the one that was seen. Only the process that makes the guard may
 * do so: another one could otherwise remove the lock of a new owner.
 */
async function removeAbandoned(path: string, seen: Sighting): Promise<void> {
  const guard = `${path}.abandoned`;
  if (!(await create(guard, ''))) {
    const { mtimeMs } = await stat(guard).catch(() => ({ mtimeMs: Date.now() }));
    // Its process ended between two system calls.
    if (Date.now() - mtimeMs > 6 * ABANDONED_MS) await removeIfThere(guard);
    else await pause(LOOK_MS);
    return;
  }
  try {
    const now = await look(path);
    if (now?.content === seen.content && now.touched === seen.touched) await removeIfThere(path);
  } finally {
    await unlink(guard);
  }
}
