/**
 * The place and the time of an unfinished login: one of `--max-logins`, and `--login-timeout`. A
 * login that waits for somebody to sign in elsewhere gives both back, and takes them again when it
 * goes on.
 */
import type { Permit } from '../lib/limiter.ts';

/** What a {@link LoginPlace} is made with. */
export interface LoginPlaceOptions {
  /** Takes a place. Undefined if there is none. */
  readonly enter: () => Permit | undefined;
  /** Milliseconds. */
  readonly timeout: number;
  readonly timedOut: () => void;
}

/** A login that holds a place, or has left it. */
export class LoginPlace {
  readonly #options: LoginPlaceOptions;
  #permit: Permit | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LoginPlaceOptions) {
    this.#options = options;
  }

  /** Takes a place. False if there is none. */
  enter(): boolean {
    this.#permit = this.#options.enter();
    if (!this.#permit) return false;
    this.#timer = setTimeout(this.#options.timedOut, this.#options.timeout);
    return true;
  }

  /** The login is no longer ended to make room: the client has sent its credential. */
  keep(): void {
    this.#permit?.keep();
  }

  /** Gives the place back, and the time no longer counts. Further calls change nothing. */
  leave(): void {
    clearTimeout(this.#timer);
    this.#permit?.release();
  }
}
