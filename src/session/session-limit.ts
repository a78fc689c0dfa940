/**
 * Bounds the sessions that run at once (`--max-sessions`). A place is taken before the backend is dialled and given back when the
 * session has ended, so that a flood of good logins costs the backend no more connections than the operator allows.
 */
import { PgError } from '../errors.ts';

/** The places of a process. */
export class SessionLimit {
  readonly #limit: number;
  #taken = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /**
   * Takes a place.
   *
   * @returns what gives it back, once
   * @throws PgError 53300 when all are taken
   */
  take(): () => void {
    if (this.#taken >= this.#limit) {
      throw new PgError({
        code: 'too_many_sessions',
        sqlstate: '53300',
        message: 'sorry, too many clients already',
        reason: `${this.#taken} sessions are running; --max-sessions is ${this.#limit}`,
        fault: 'us',
      });
    }
    this.#taken++;
    let held = true;
    return () => {
      if (held) this.#taken--;
      held = false;
    };
  }

  /** As {@link take}, for a connection that is there already and is closed when there is no place for it. */
  takeFor(channel: { destroy(): void }): () => void {
    try {
      return this.take();
    } catch (error) {
      channel.destroy();
      throw error;
    }
  }
}
