/**
 * Bounds how much is under way at once. Each place is held under a key, such as a client's address,
 * and the keys get fair shares: a flood from one of them neither fills the places of the others nor
 * stands before them in line.
 */

/** A place that is held. */
export interface Permit {
  /** The holder is no longer evicted to make room. */
  keep(): void;
  /** Gives the place back. Further calls change nothing. */
  release(): void;
}

/** How much there may be. */
export interface LimiterOptions {
  /** Places in all. */
  readonly limit: number;
  /** Places of one key. Default: all. */
  readonly share?: number | undefined;
  /** How long a holder that can be evicted is left alone while others wait in line, in ms. */
  readonly patience?: number | undefined;
}

/** Ends the work of a holder, which then releases its place. */
type Evict = () => void;

/** A place that is held. An idle session holds one, so it is small. */
class Holder implements Permit {
  /** On the monotonic clock, in ms. */
  readonly since = performance.now();
  readonly #key: string;
  readonly #evictable: Set<Holder>;
  readonly #release: (key: string) => void;
  #evict: Evict | undefined;
  #isHeld = true;

  constructor(
    evictable: Set<Holder>,
    evict: Evict | undefined,
    release: (key: string) => void,
    key: string,
  ) {
    this.#evictable = evictable;
    this.#evict = evict;
    this.#release = release;
    this.#key = key;
  }

  evict(): void {
    this.#evict?.();
  }

  keep(): void {
    this.#evictable.delete(this);
    this.#evict = undefined;
  }

  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#evictable.delete(this);
    this.#release(this.#key);
  }
}

/** What one key has. It is forgotten when it has nothing any more. */
interface Account {
  held: number;
  /** Holders that can be evicted, oldest first. */
  readonly evictable: Set<Holder>;
  /** Those that wait for a place, oldest first. */
  readonly line: Set<() => void>;
}

/** A bounded number of places. */
export class Limiter {
  #limit: number;
  readonly #share: number;
  readonly #patience: number;
  /** By key; the one that has had something for the longest time comes first. */
  readonly #accounts = new Map<string, Account>();
  /** The keys that wait, in the order of their turns. */
  readonly #turns = new Set<string>();
  #held = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor({ limit, share = Number.POSITIVE_INFINITY, patience = 0 }: LimiterOptions) {
    this.#limit = limit;
    this.#share = share;
    this.#patience = patience;
  }

  /** Places in all. */
  get limit(): number {
    return this.#limit;
  }

  /**
   * Adds places, for those that wait too, or takes away some that are free.
   *
   * @param places negative to take away
   */
  grow(places: number): void {
    this.#limit += places;
    for (let free = places; free > 0; free--) this.#next();
  }

  /** How many places are held. */
  get size(): number {
    return this.#held;
  }

  /** How many callers wait in line. */
  get waiting(): number {
    let waiting = 0;
    for (const key of this.#turns) waiting += this.#accounts.get(key)?.line.size ?? 0;
    return waiting;
  }

  /** Whether a place is free for the key. */
  hasRoom(key: string): boolean {
    return this.#held < this.#limit && (this.#accounts.get(key)?.held ?? 0) < this.#share;
  }

  /** Takes a place. Undefined if none is free, or the key has its share. */
  acquire(key = '', evict?: Evict): Permit | undefined {
    if (!this.hasRoom(key)) return undefined;
    return this.#hold(key, evict);
  }

  /**
   * Takes a place. If none is free, the oldest holder of the busiest key is evicted; if only the
   * key's own share is used up, its own oldest holder.
   *
   * @returns undefined if no holder can be evicted
   */
  acquireByEviction(key: string, evict: Evict): Permit | undefined {
    if (!this.hasRoom(key)) {
      const isFull = this.#held >= this.#limit;
      const victim = isFull ? this.#busiestHolder() : this.#oldestHolder(key);
      if (!victim) return undefined;
      this.#evict(victim);
      if (!this.hasRoom(key)) return undefined;
    }
    return this.#hold(key, evict);
  }

  /**
   * Waits in line for a place. The keys take turns.
   *
   * @throws the signal's reason
   */
  async wait(key: string, signal: AbortSignal, evict?: Evict): Promise<Permit> {
    signal.throwIfAborted();
    if (this.hasRoom(key)) return this.#hold(key, evict);
    return new Promise<Permit>((resolve, reject) => {
      const { line } = this.#account(key);
      const next = (): void => {
        signal.removeEventListener('abort', abort);
        this.#leaveLine(key, next);
        resolve(this.#hold(key, evict));
      };
      const abort = (): void => {
        this.#leaveLine(key, next);
        this.#forgetIfIdle(key);
        reject(signal.reason);
      };
      signal.addEventListener('abort', abort, { once: true });
      line.add(next);
      this.#turns.add(key);
      this.#watch();
    });
  }

  /** Evicts every holder that has not been kept. */
  evictAll(): void {
    for (const { evictable } of [...this.#accounts.values()]) {
      for (const holder of [...evictable]) this.#evict(holder);
    }
  }

  #hold(key: string, evict: Evict | undefined): Permit {
    const account = this.#account(key);
    const holder = new Holder(account.evictable, evict, this.#release, key);
    account.held++;
    this.#held++;
    if (evict) {
      account.evictable.add(holder);
      this.#watch();
    }
    return holder;
  }

  readonly #release = (key: string): void => {
    this.#account(key).held--;
    this.#held--;
    this.#forgetIfIdle(key);
    this.#next();
  };

  /** The place is free at once, before the work has noticed that it is over. */
  #evict(holder: Holder): void {
    holder.release();
    holder.evict();
  }

  #account(key: string): Account {
    const known = this.#accounts.get(key);
    if (known) return known;
    const account = { held: 0, evictable: new Set<Holder>(), line: new Set<() => void>() };
    this.#accounts.set(key, account);
    return account;
  }

  #forgetIfIdle(key: string): void {
    const account = this.#accounts.get(key);
    if (account?.held === 0 && account.line.size === 0) this.#accounts.delete(key);
  }

  #oldestHolder(key: string): Holder | undefined {
    const [oldest] = this.#accounts.get(key)?.evictable ?? [];
    return oldest;
  }

  /** The oldest holder of the key that has the most; of several such keys, the first. */
  #busiestHolder(): Holder | undefined {
    let busiest: Account | undefined;
    for (const account of this.#accounts.values()) {
      if (account.evictable.size > (busiest?.evictable.size ?? 0)) busiest = account;
    }
    const [oldest] = busiest?.evictable ?? [];
    return oldest;
  }

  /** Gives a free place to the key whose turn it is. */
  #next(): void {
    for (const key of this.#turns) {
      if (this.#held >= this.#limit) return;
      if (!this.hasRoom(key)) continue;
      const [first] = this.#account(key).line;
      // Its next turn comes after those of all others.
      this.#turns.delete(key);
      this.#turns.add(key);
      first?.();
      return;
    }
  }

  #leaveLine(key: string, next: () => void): void {
    const account = this.#accounts.get(key);
    account?.line.delete(next);
    if (!account?.line.size) this.#turns.delete(key);
  }

  /** While somebody waits, a holder that can be evicted is evicted when its time is up. */
  #watch(): void {
    if (this.#timer || this.#turns.size === 0) return;
    const holder = this.#busiestHolder();
    if (!holder) return;
    const left = holder.since + this.#patience - performance.now();
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        const due = this.#turns.size > 0 ? this.#busiestHolder() : undefined;
        if (due && performance.now() >= due.since + this.#patience) this.#evict(due);
        this.#watch();
      },
      Math.max(left, 0),
    ).unref();
  }
}
