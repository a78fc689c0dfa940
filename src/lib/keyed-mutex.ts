/**
 * Asynchronous work that runs one piece after the other: all of it, or all that has the same key.
 * Work that fails does not stop the work behind it.
 */

import { orAborted } from './abort.ts';

/** Runs one piece of work at a time, in the order in which it came. */
export class Mutex {
  #last: Promise<void> = Promise.resolve();
  #pending = 0;

  /** Whether no work runs or waits. */
  get isIdle(): boolean {
    return this.#pending === 0;
  }

  /**
   * Runs the work after all work that came before. Returns its value, or throws its error.
   *
   * @param signal gives up the wait, so that the work never begins; work that has begun goes on
   * @throws the signal's reason
   */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#last;
    let end = (): void => undefined;
    this.#last = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#pending += 1;
    try {
      await (signal ? orAborted(before, signal) : before);
      return await work();
    } finally {
      this.#pending -= 1;
      // Work that gave up its wait still stands between the work before it and the work after it.
      void before.then(end);
    }
  }

  /** Resolves when all work that came so far is over, whether or not it failed. */
  async settled(): Promise<void> {
    await this.#last;
  }
}

/**
 * One {@link Mutex} for each key that is in use. Logins of one user that all make the same change
 * would otherwise hold every connection of a pool while they wait for each other.
 */
export class KeyedMutex {
  readonly #mutexes = new Map<string, Mutex>();

  /** Whether work with this key runs or waits. */
  isBusy(key: string): boolean {
    return this.#mutexes.has(key);
  }

  /** Runs the work after all work that came before with the same key; see {@link Mutex.run}. */
  async run<T>(key: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const mutex = this.#mutexes.get(key) ?? new Mutex();
    this.#mutexes.set(key, mutex);
    try {
      return await mutex.run(work, signal);
    } finally {
      if (mutex.isIdle && this.#mutexes.get(key) === mutex) this.#mutexes.delete(key);
    }
  }
}
