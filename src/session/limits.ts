/**
 * Bounds the logins that are unfinished. Connections that say nothing cost an attacker nothing, so
 * when the slots are full the oldest login that has not sent a password makes room: a flood then
 * pushes out itself, and somebody who types gets through.
 */
import type { CancelOutcome } from '../backend/cancel.ts';
import { PgError } from '../lib/errors.ts';
import { type Log, RepeatedEvent } from '../observe/log.ts';

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

/*
 * Bounds the native logins that are under way. Each holds a connection of the backend before
 * anybody has proved anything, so that strangers could use them all up; those who come when all are
 * taken wait in line, and then a login that has been asked for its password and does not answer
 * makes room.
 */

/** At once; half of PostgreSQL's default max_connections. */
const NATIVE_LIMIT = 50;

/**
 * How long, in ms, a client may think about its password while others wait. Programs answer at
 * once; psql comes back for it.
 */
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

/*
 * Bounds the sessions that run at once (`--max-sessions`). A place is taken before the backend is
 * dialled and given back when the session has ended, so that a flood of good logins costs the
 * backend no more connections than the operator allows.
 */

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

  /**
   * As {@link take}, for a connection that is there already and is closed when there is no place
   * for it.
   */
  takeFor(channel: { destroy(): void }): () => void {
    try {
      return this.take();
    } catch (error) {
      channel.destroy();
      throw error;
    }
  }
}

/*
 * Bounds the cancel requests that are on their way at once: they need no login, so a stranger can
 * send as many as he likes. What is above the bound is dropped, as a backend that is out of
 * connections would drop it.
 */

/** At once, in a process; each takes up to five seconds. */
const CANCEL_LIMIT = 32;

/** Sends a packet to the backend's hosts. */
type Forward = (packet: Buffer, signal: AbortSignal) => Promise<readonly CancelOutcome[]>;

/** The cancel requests of a process. */
export class Cancels {
  readonly #log: Log;
  readonly #forward: Forward;
  readonly #dropped: RepeatedEvent;
  #running = 0;

  /** @param dropped is told of each request that was dropped */
  constructor(log: Log, forward: Forward, dropped: () => void) {
    this.#log = log;
    this.#forward = forward;
    this.#dropped = new RepeatedEvent(
      log,
      'cancel_dropped',
      `cancel requests dropped: ${CANCEL_LIMIT} are being forwarded`,
      dropped,
    );
  }

  /** Forwards a CancelRequest; resolves when the backend has dealt with it, or it was dropped. */
  async forward(packet: Buffer, client: string, signal: AbortSignal): Promise<void> {
    if (this.#running >= CANCEL_LIMIT) return this.#dropped.happened();
    this.#running++;
    try {
      for (const { host, failure } of await this.#forward(packet, signal)) {
        if (failure === undefined)
          this.#log.debug({ event: 'cancel', client, backend: host }, 'cancel request forwarded');
        else
          this.#log.warn(
            { event: 'cancel', client, backend: host, reason: failure },
            'cancel request not delivered',
          );
      }
    } finally {
      this.#running--;
    }
  }
}
