/**
 * Bounds the logins that wait for a directory that does not answer. Each holds one of the process's
 * places for logins, so that one user whose changes hang, or a frozen database, would otherwise
 * keep out logins that need no directory. While answers come, any number may wait: a burst of
 * logins of one user, such as that of a pool of connections, is over soon.
 */
import { PgError } from '../lib/errors.ts';
import { unavailable } from './pool.ts';

/** Logins that wait without an answer, in all and of one user. */
const LIMIT = 100;
const SHARE = 10;

/**
 * Milliseconds without an answer after which the limits hold. A login takes about a millisecond,
 * but a burst of them may keep a busy process from reading the answers.
 */
const PATIENCE_MS = 2000;

/** Those that wait. */
interface Line {
  waiting: number;
  /** When one of them got an answer last, or the first one came. */
  since: number;
}

/** The logins that wait for the directory. */
export class WaitingRoom {
  readonly #now: () => number;
  readonly #all: Line = { waiting: 0, since: 0 };
  readonly #users = new Map<string, Line>();

  /** @param now milliseconds on a clock that does not jump */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** How many logins wait. */
  get size(): number {
    return this.#all.waiting;
  }

  /**
   * Runs the work of a user's login.
   *
   * @throws what the work throws; PgError 57P03 if too many wait already
   */
  async run<T>(user: string, work: () => Promise<T>): Promise<T> {
    const line = this.#users.get(user) ?? { waiting: 0, since: 0 };
    this.#refuseIfStalled(line, SHARE, 'of this user');
    this.#refuseIfStalled(this.#all, LIMIT, 'in all');
    this.#users.set(user, line);
    for (const counted of [line, this.#all]) {
      if (counted.waiting === 0) counted.since = this.#now();
      counted.waiting++;
    }
    try {
      const result = await work();
      this.#noteAnswer(line);
      return result;
    } catch (error) {
      if (error instanceof PgError && error.code !== 'directory_unavailable')
        this.#noteAnswer(line);
      throw error;
    } finally {
      line.waiting--;
      this.#all.waiting--;
      if (line.waiting === 0) this.#users.delete(user);
    }
  }

  #noteAnswer(line: Line): void {
    line.since = this.#now();
    this.#all.since = line.since;
  }

  #refuseIfStalled({ waiting, since }: Line, limit: number, whose: string): void {
    if (waiting < limit || this.#now() - since <= PATIENCE_MS) return;
    throw unavailable(`no answer, and ${limit} logins ${whose} wait for one`);
  }
}
