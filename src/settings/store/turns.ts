/**
 * The turns of a store: changes and looks at what others have changed run one after the other. Each
 * has a deadline from when it came, so that work that hangs does not delay the work behind it, and
 * the store can be closed while its database or file system is silent.
 */
import { setMaxListeners } from 'node:events';
import { overWithin, withDeadline } from '../../lib/abort.ts';
import { Mutex } from '../../lib/keyed-mutex.ts';
import { settingsClosed } from './store.ts';

/**
 * Milliseconds until work is given up, with the wait for its turn. A connection and a statement
 * take up to 5 s each until they fail by themselves.
 */
const DEADLINE_MS = 7000;

/** Milliseconds that work has to end by itself when the store is closed. */
const CLOSE_MS = 3000;

/** Milliseconds after which the store counts as closed. */
const CLOSED_MS = CLOSE_MS + 1000;

/** Runs the work of a store. */
export class Turns {
  readonly #mutex = new Mutex();
  readonly #closing = new AbortController();
  #isClosed = false;

  constructor() {
    // Each work that runs or waits listens for the end.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Whether the store is being closed, or is closed. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /**
   * Runs work in its turn. It is never begun if its deadline passes before.
   *
   * @param work ends when its signal aborts
   * @throws what the work throws; the reason of its signal; 57P01 if the store is being closed
   */
  async run<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#isClosed) throw settingsClosed();
    const text = `no answer within ${DEADLINE_MS / 1000} s`;
    return withDeadline(DEADLINE_MS, text, this.#closing.signal, (signal) =>
      this.#mutex.run(() => work(signal), signal),
    );
  }

  /**
   * Lets the work that came so far end, gives it up after some seconds, and begins no other.
   *
   * @param release frees the store's resources when the work is over
   */
  async close(release: (workIsOver: Promise<void>) => Promise<void>): Promise<void> {
    this.#isClosed = true;
    const giveUp = setTimeout(() => this.#closing.abort(settingsClosed()), CLOSE_MS);
    await overWithin(CLOSED_MS, release(this.#mutex.settled()));
    clearTimeout(giveUp);
    this.#closing.abort(settingsClosed());
  }
}
