/**
 * What is bounded in a node: unfinished logins, native logins under way, sessions, and cancel
 * requests under way. Each limit says what happens to a connection that finds no place. If the node
 * has several workers, each has a part of the places: those of sessions move to where they are
 * needed, and unfinished logins are counted for all workers together.
 */
import type { BackendTarget } from '../backend/target.ts';
import { PgError } from '../lib/errors.ts';
import { Limiter, type Permit } from '../lib/limiter.ts';
import { type Log, RepeatedEvent } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import { type DeviceWait, DeviceWaits } from './device-waits.ts';

/**
 * Native logins at once at one backend: half of PostgreSQL's default max_connections. Each holds a
 * connection of the backend before the client has proved anything. Backends have places of their
 * own: the logins that a frozen one never answers would fill the places of all.
 */
const NATIVE_LIMIT = 50;

/**
 * How long, in ms, a native client may think about its password while others wait. Programs answer
 * at once. psql closes the connection at its prompt and comes back with the password.
 */
const NATIVE_PATIENCE_MS = 2000;

/** Cancel requests at once. Each takes up to five seconds, and nobody has to log in for one. */
const CANCEL_LIMIT = 32;

/** Those of one address. Half of the places are left to others. */
const CANCEL_SHARE = CANCEL_LIMIT / 2;

/** The options that set limits. */
export interface LimitOptions {
  readonly maxLogins: number;
  /** Default: no limit of its own, since all clients behind a balancer share an address. */
  readonly maxLoginsPerAddress?: number;
  readonly maxSessions: number;
}

/** What a worker has to do with the others of its node. */
export interface NodeLimits {
  readonly workers: number;
  /** This worker's part of `--max-sessions` at its start. */
  readonly sessions: number;
  /** Asks for places of sessions that other workers do not need. Resolves to how many came. */
  borrowSessions(): Promise<number>;
  /**
   * Notes an unfinished login for the count of the node.
   *
   * @param address as addressKey gives it
   * @param evict makes room for a login at another worker
   */
  noteLogin(address: string, evict: () => void): Permit;
}

/** One worker's part of something that is divided: at least one, unless there is none at all. */
export function partOf(places: number, workers = 1): number {
  return places === 0 ? 0 : Math.max(1, Math.floor(places / workers));
}

/** The limits of a process. */
export class Limits {
  readonly #node: NodeLimits | undefined;
  readonly #maxSessions: number;
  readonly #logins: Limiter;
  /** By the hosts of a backend, of which the options name a few. */
  readonly #natives = new Map<string, Limiter>();
  readonly #sessions: Limiter;
  readonly #deviceWaits = new DeviceWaits();
  readonly #cancels: Limiter;
  readonly #ownCancels: Limiter;
  #borrowing: Promise<boolean> | undefined;
  readonly #loginDropped: RepeatedEvent;
  readonly #cancelDropped: RepeatedEvent;
  #isShuttingDown = false;

  constructor(
    { maxLogins, maxLoginsPerAddress, maxSessions }: LimitOptions,
    log: Log,
    metrics: Pick<Metrics, 'loginDropped' | 'cancelDropped'>,
    node?: NodeLimits,
  ) {
    this.#node = node;
    this.#maxSessions = maxSessions;
    const part = (places: number): number => partOf(places, node?.workers);
    this.#logins = new Limiter({ limit: maxLogins, share: maxLoginsPerAddress });
    this.#sessions = new Limiter({ limit: node?.sessions ?? maxSessions });
    this.#cancels = new Limiter({ limit: part(CANCEL_LIMIT), share: part(CANCEL_SHARE) });
    this.#ownCancels = new Limiter({ limit: part(CANCEL_LIMIT) });
    this.#loginDropped = new RepeatedEvent(
      log,
      'logins_dropped',
      `unfinished logins dropped: there are ${maxLogins}, --max-logins${
        maxLoginsPerAddress === undefined
          ? ''
          : `, or ${maxLoginsPerAddress} of one address, --max-logins-per-address`
      }`,
      () => metrics.loginDropped(),
    );
    this.#cancelDropped = new RepeatedEvent(
      log,
      'cancel_dropped',
      `cancel requests dropped: ${CANCEL_LIMIT} are being forwarded, ` +
        `or ${CANCEL_SHARE} of one address`,
      () => metrics.cancelDropped(),
    );
  }

  /**
   * Takes a slot for an unfinished login. Silent connections cost an attacker nothing. So if there
   * is no free slot, the oldest login of the busiest address makes room that has not sent a
   * password: a flood from one address evicts itself.
   *
   * @param address as addressKey gives it
   * @param evict ends this login to make room for a newer one, or for a reason that the client is
   *   to be told
   * @returns undefined if no login can make room
   */
  enterLogin(address: string, evict: (reason?: PgError) => void): Permit | undefined {
    if (!this.#logins.hasRoom(address)) this.#loginDropped.happened();
    const end = (): void => evict(this.#isShuttingDown ? shuttingDown() : undefined);
    const permit = this.#logins.acquireByEviction(address, end);
    if (!permit || !this.#node) return permit;
    let isKept = false;
    const noted = this.#node.noteLogin(address, () => {
      // The node may not know yet that it has sent its password.
      if (isKept) return;
      this.#loginDropped.happened();
      permit.release();
      end();
    });
    return {
      keep() {
        isKept = true;
        permit.keep();
        noted.keep();
      },
      release() {
        permit.release();
        noted.release();
      },
    };
  }

  /**
   * Ends every login that has not sent a password, and lets no other one begin. At a shutdown there
   * is nothing to wait for. The clients are told why.
   */
  evictLogins(): void {
    this.#isShuttingDown = true;
    this.#logins.evictAll();
    this.#deviceWaits.endAll(shuttingDown);
  }

  /**
   * Lets a login go on behind its startup packet.
   *
   * @throws PgError 57P03 during a shutdown
   */
  checkOpen(): void {
    if (this.#isShuttingDown) throw shuttingDown();
  }

  /**
   * Waits for a place among the native logins at a backend. The addresses take turns. While others
   * wait, a login that was asked for its password and does not answer makes room.
   *
   * @param address as addressKey gives it
   * @param evict ends this login to make room for another one
   * @throws the signal's reason
   */
  enterNative(
    { servers }: Pick<BackendTarget, 'servers'>,
    address: string,
    signal: AbortSignal,
    evict: () => void,
  ): Promise<Permit> {
    const known = this.#natives.get(servers);
    const limit = partOf(NATIVE_LIMIT, this.#node?.workers);
    const natives = known ?? new Limiter({ limit, patience: NATIVE_PATIENCE_MS });
    if (!known) this.#natives.set(servers, natives);
    return natives.wait(address, signal, evict);
  }

  /** How many logins wait for somebody to sign in. */
  get deviceWaits(): number {
    return this.#deviceWaits.size;
  }

  /**
   * Takes a place for a login that waits for somebody to sign in elsewhere.
   *
   * @param limit how many may wait
   * @throws PgError 53300 if there is none, 57P03 during a shutdown
   */
  enterDeviceWait(wait: DeviceWait, limit: number): Pick<Permit, 'release'> {
    this.checkOpen();
    return this.#deviceWaits.enter(wait, partOf(limit, this.#node?.workers));
  }

  /**
   * Takes a place for a session. It is taken before the backend is dialled, so that a flood of good
   * logins costs the backend no more connections than `--max-sessions` allows. Only a worker that
   * has no free place waits for one of another worker.
   *
   * @throws PgError 53300 if there is none
   */
  async enterSession(): Promise<Permit> {
    do {
      const permit = this.#sessions.acquire();
      if (permit) return permit;
    } while (await this.#borrow());
    throw new PgError({
      code: 'too_many_sessions',
      message: 'sorry, too many clients already',
      reason: `no place is free; --max-sessions is ${this.#maxSessions}`,
      fault: 'us',
    });
  }

  /** Gives places of sessions away: half of those that are free. Returns how many. */
  lendSessions(): number {
    const free = this.#sessions.limit - this.#sessions.size;
    const lent = Math.ceil(free / 2);
    this.#sessions.grow(-lent);
    return lent;
  }

  /**
   * Waits for a place for a cancel request of our own. They have places of their own: a flood of
   * clients' requests must not keep an operator from ending a session.
   *
   * @throws the signal's reason
   */
  enterOwnCancel(signal: AbortSignal): Promise<Permit> {
    return this.#ownCancels.wait('', signal);
  }

  /** Takes a place for a cancel request. Undefined if there is none: the request is dropped. */
  enterCancel(address: string): Permit | undefined {
    const permit = this.#cancels.acquire(address);
    if (!permit) this.#cancelDropped.happened();
    return permit;
  }

  /** Asks the node for places of sessions, once for all that need one. Returns whether any came. */
  async #borrow(): Promise<boolean> {
    const node = this.#node;
    if (!node) return false;
    this.#borrowing ??= node
      .borrowSessions()
      .then((places) => {
        this.#sessions.grow(places);
        return places > 0;
      })
      .finally(() => {
        this.#borrowing = undefined;
      });
    return this.#borrowing;
  }
}

/** The server's own refusal while it shuts down. */
function shuttingDown(): PgError {
  return new PgError({
    code: 'cannot_connect_now',
    message: 'the database system is shutting down',
    reason: 'the front-end is shutting down, and the client had not sent a password',
    fault: 'us',
  });
}
