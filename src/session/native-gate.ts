/**
 * Bounds the native logins that are under way. Each holds a connection of the backend before anybody has proved anything, so that
 * strangers could use them all up; those who come when all are taken wait in line, and then a login that has been asked for its password
 * and does not answer makes room.
 */

/** At once; half of PostgreSQL's default max_connections. */
const NATIVE_LIMIT = 50;

/** How long, in ms, a client may think about its password while others wait. Programs answer at once; psql comes back for it. */
const PATIENCE_MS = 2000;

/** A native login's leave to be under way. */
export interface NativePass {
  /** The client has answered: it is no longer dropped for another one. */
  keep(): void;
  /** It is over, one way or the other. */
  leave(): void;
}

/** One that is under way. */
interface Holder {
  readonly since: number;
  readonly drop: () => void;
}

/** The gate of a process. */
export class NativeGate {
  readonly #limit: number;
  readonly #patience: number;
  #taken = 0;
  /** Those that have not answered, oldest first. */
  readonly #unanswered = new Set<Holder>();
  readonly #line: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(limit = NATIVE_LIMIT, patience = PATIENCE_MS) {
    this.#limit = limit;
    this.#patience = patience;
  }

  /**
   * Waits for a place.
   *
   * @param drop ends this login when it stands in the way of others
   * @throws the signal's reason
   */
  async enter(drop: () => void, signal: AbortSignal): Promise<NativePass> {
    if (this.#taken >= this.#limit) await this.#wait(signal);
    else this.#taken++;
    const holder: Holder = { since: performance.now(), drop };
    this.#unanswered.add(holder);
    this.#watch();
    let left = false;
    return {
      keep: () => this.#unanswered.delete(holder),
      leave: () => {
        this.#unanswered.delete(holder);
        if (!left) this.#free();
        left = true;
      },
    };
  }

  /** The place of somebody who leaves goes to the first in line. */
  async #wait(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const next = (): void => {
        signal.removeEventListener('abort', abort);
        resolve();
      };
      const abort = (): void => {
        this.#line.splice(this.#line.indexOf(next), 1);
        reject(signal.reason);
      };
      signal.addEventListener('abort', abort, { once: true });
      this.#line.push(next);
      this.#watch();
    });
  }

  #free(): void {
    const next = this.#line.shift();
    if (next) next();
    else this.#taken--;
  }

  /** While somebody waits, the oldest that does not answer is dropped when its time is up. */
  #watch(): void {
    const [oldest] = this.#unanswered;
    if (this.#timer || this.#line.length === 0 || !oldest) return;
    const left = oldest.since + this.#patience - performance.now();
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        if (this.#line.length > 0 && this.#unanswered.delete(oldest)) oldest.drop();
        this.#watch();
      },
      Math.max(left, 0),
    ).unref();
  }
}
