/**
 * Asynchronous work that runs one piece after the other: all of it, or all that has the same key.
 * Work that fails does not stop the work behind it.
 */

/** Runs one piece of work at a time, in the order in which it came. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();
  #pending = 0;

  /** Whether no work runs or waits. */
  get isIdle(): boolean {
    return this.#pending === 0;
  }

  /** Runs the work after all work that came before. Returns its value, or throws its error. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    this.#pending += 1;
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => undefined);
    try {
      return await turn;
    } finally {
      this.#pending -= 1;
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

  /** Runs the work after all work that came before with the same key. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const mutex = this.#mutexes.get(key) ?? new Mutex();
    this.#mutexes.set(key, mutex);
    try {
      return await mutex.run(work);
    } finally {
      if (mutex.isIdle && this.#mutexes.get(key) === mutex) this.#mutexes.delete(key);
    }
  }
}
