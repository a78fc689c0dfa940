/**
 * Mutual exclusion by key, within this process. Logins of one user that make the same change would
 * otherwise each hold a connection of the pool while they wait for each other.
 */

/** Runs work with the same key one after the other, and work with different keys at once. */
export class KeyedMutex {
  /** The last work of each key. A key is deleted when its last work ends. */
  readonly #last = new Map<string, Promise<unknown>>();

  /**
   * Runs the work when all earlier work with the same key has ended, whether it succeeded or not.
   * There is no time limit: the work must end by itself.
   *
   * @returns the result of the work
   * @throws what the work throws
   */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const turn = before.then(work, work);
    this.#last.set(key, turn);
    try {
      return await turn;
    } finally {
      if (this.#last.get(key) === turn) this.#last.delete(key);
    }
  }
}
