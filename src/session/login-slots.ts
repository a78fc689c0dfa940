/**
 * Bounds the logins that are unfinished. Connections that say nothing cost an attacker nothing, so when the slots are full the oldest
 * login that has not sent a password makes room: a flood then pushes out itself, and somebody who types gets through.
 */

import type { RepeatedEvent } from '../observe/repeated-event.ts';

/** An unfinished login's hold on a slot. */
export interface LoginSlot {
  /** The password has come: this login is no longer dropped for another one. */
  keep(): void;
  /** Ends the login. */
  drop(): void;
  /** The login is over, one way or the other. */
  release(): void;
}

/** The slots of a process; `--max-logins` of them. */
export class LoginSlots {
  readonly #limit: number;
  readonly #dropped: RepeatedEvent;
  /** Logins without a password, oldest first, with what drops them. */
  readonly #waiting = new Map<LoginSlot, () => void>();
  #kept = 0;

  /** @param dropped is told of each login that was dropped or turned away */
  constructor(limit: number, dropped: RepeatedEvent) {
    this.#limit = limit;
    this.#dropped = dropped;
  }

  /** How many logins are unfinished. */
  get size(): number {
    return this.#waiting.size + this.#kept;
  }

  /**
   * Takes a slot, dropping the oldest login without a password if there is no free one.
   *
   * @param drop ends this login when it is in the way of a newer one
   * @returns undefined when every slot is held by a login that has sent its password
   */
  enter(drop: () => void): LoginSlot | undefined {
    if (this.size >= this.#limit) {
      this.#dropped.happened();
      if (!this.#dropOldest()) return undefined;
    }
    let kept = false;
    const slot: LoginSlot = {
      keep: () => {
        if (!this.#waiting.delete(slot)) return;
        kept = true;
        this.#kept++;
      },
      drop,
      release: () => {
        this.#waiting.delete(slot);
        if (kept) this.#kept--;
        kept = false;
      },
    };
    this.#waiting.set(slot, drop);
    return slot;
  }

  /** Drops every login that has not sent a password: at a shutdown there is nothing to wait for. */
  dropWaiting(): void {
    while (this.#dropOldest());
  }

  #dropOldest(): boolean {
    for (const [slot, drop] of this.#waiting) {
      this.#waiting.delete(slot);
      drop();
      return true;
    }
    return false;
  }
}
