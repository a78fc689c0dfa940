/**
 * A bounded cache around `node-cache`. The package needs care: it clones values by default, which
 * breaks keys and promises; it throws when it is full; a lifetime of 0 means for ever; and its
 * store is a plain object, in which `__proto__` is not an ordinary key. It also counts lifetimes on
 * the clock of the system, so that a clock that is set back prolongs them. They are counted here.
 */
import NodeCache from 'node-cache';

/** How often expired entries are deleted, in seconds. The timer does not keep the process alive. */
const CHECK_SECONDS = 60;

/** What is stored. */
interface Entry<Value> {
  readonly value: Value;
  /** The last moment of its lifetime. */
  readonly until: number;
}

/** Values that are forgotten after a time. */
export class ExpiringCache<Value extends object> {
  readonly #cache: NodeCache;
  readonly #limit: number;
  readonly #monotonic: () => number;

  /**
   * @param limit how many entries there may be
   * @param monotonic milliseconds on a clock that does not jump
   */
  constructor(limit: number, monotonic: () => number = () => performance.now()) {
    this.#limit = limit;
    this.#monotonic = monotonic;
    this.#cache = new NodeCache({
      useClones: false,
      maxKeys: limit,
      checkperiod: CHECK_SECONDS,
    });
  }

  /** How many entries there are. Expired ones count until they are deleted. */
  get size(): number {
    return this.#cache.getStats().keys;
  }

  /** The value, unless it has expired. */
  get(key: string): Value | undefined {
    const entry = this.#cache.get<Entry<Value>>(stored(key));
    return entry && this.#monotonic() <= entry.until ? entry.value : undefined;
  }

  /**
   * Stores a value in place of any earlier one. The value is not stored if the cache is full, or if
   * its lifetime is not positive.
   *
   * @param lifetime milliseconds; `Infinity` for a value that stays until it is deleted
   */
  set(key: string, value: Value, lifetime: number): void {
    this.delete(key);
    if (!(lifetime > 0) || this.size >= this.#limit) return;
    const entry: Entry<Value> = { value, until: this.#monotonic() + lifetime };
    this.#cache.set(
      stored(key),
      entry,
      lifetime === Number.POSITIVE_INFINITY ? 0 : lifetime / 1000,
    );
  }

  delete(key: string): void {
    this.#cache.del(stored(key));
  }

  clear(): void {
    this.#cache.flushAll();
  }
}

/** The key in the store. No property that every object has begins with this prefix. */
function stored(key: string): string {
  return `key:${key}`;
}
