/**
 * The limits of a node, counted in the primary process. The places of sessions are lent to the
 * workers, so that there are never more sessions than `--max-sessions`. Unfinished logins are told
 * of after the fact: a worker takes one at once, and the node ends another one if there are too
 * many. So a login waits for no other process, and a limit is exceeded for milliseconds at most.
 */
import { Limiter, type Permit } from '../../lib/limiter.ts';
import type { PoolWorker } from './pool.ts';

/** How long a worker may take to say how many places it can spare, in ms. */
const LEND_MS = 2000;

/** The places of sessions. */
export class SessionPlaces {
  readonly #part: (slot: number) => number;
  /** How many each worker has. */
  readonly #lent = new Map<PoolWorker, number>();
  #free: number;

  constructor(maxSessions: number, workers: number) {
    this.#free = maxSessions;
    this.#part = (slot) =>
      Math.floor(maxSessions / workers) + (slot < maxSessions % workers ? 1 : 0);
  }

  /** The places that a worker starts with. */
  first(worker: PoolWorker): number {
    return this.#give(worker, Math.min(this.#free, this.#part(worker.slot)));
  }

  /** More places for a worker: half of those that nobody has, or else what the others can spare. */
  async borrow(worker: PoolWorker, others: readonly PoolWorker[]): Promise<number> {
    if (this.#free === 0) {
      const asked = Promise.all(others.map((other) => this.#callIn(other)));
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise((resolve) => {
        timer = setTimeout(resolve, LEND_MS);
      });
      // What a slow worker can spare is there for the next one that asks.
      await Promise.race([asked, late]);
      clearTimeout(timer);
      return this.#give(worker, this.#free);
    }
    return this.#give(worker, Math.ceil(this.#free / 2));
  }

  /** A worker has ended, and its sessions with it. */
  ended(worker: PoolWorker): void {
    this.#free += this.#lent.get(worker) ?? 0;
    this.#lent.delete(worker);
  }

  #give(worker: PoolWorker, places: number): number {
    // It may have ended while others were asked.
    if (worker.state === 'ended') return 0;
    this.#free -= places;
    this.#lent.set(worker, (this.#lent.get(worker) ?? 0) + places);
    return places;
  }

  async #callIn(worker: PoolWorker): Promise<void> {
    const places = await worker.link.ask('lend', undefined, 0).catch(() => 0);
    const lent = this.#lent.get(worker);
    if (lent === undefined) return;
    this.#lent.set(worker, lent - places);
    this.#free += places;
  }
}

/** The options about unfinished logins. */
export interface LoginLedgerOptions {
  readonly maxLogins: number;
  readonly maxLoginsPerAddress?: number;
}

/** What workers tell of their unfinished logins. */
export interface LoginNews {
  readonly begun: readonly (readonly [id: number, address: string])[];
  readonly kept: readonly number[];
  readonly over: readonly number[];
}

/** The unfinished logins of all workers. */
export class LoginLedger {
  readonly #logins: Limiter;
  readonly #evict: (worker: PoolWorker, id: number) => void;
  readonly #permits = new Map<PoolWorker, Map<number, Permit>>();

  /** @param evict ends a login to make room, unless it has sent its password meanwhile */
  constructor(
    { maxLogins, maxLoginsPerAddress }: LoginLedgerOptions,
    evict: (worker: PoolWorker, id: number) => void,
  ) {
    this.#logins = new Limiter({ limit: maxLogins, share: maxLoginsPerAddress });
    this.#evict = evict;
  }

  /** Counts what a worker tells, by the same rules as a process alone (session/limits.ts). */
  note(worker: PoolWorker, { begun, kept, over }: LoginNews): void {
    const permits = this.#permits.get(worker) ?? new Map<number, Permit>();
    this.#permits.set(worker, permits);
    for (const id of over) {
      permits.get(id)?.release();
      permits.delete(id);
    }
    for (const [id, address] of begun) {
      const end = (): void => {
        permits.delete(id);
        this.#evict(worker, id);
      };
      const permit = this.#logins.acquireByEviction(address, end);
      if (!permit) this.#evict(worker, id);
      else permits.set(id, permit);
    }
    for (const id of kept) permits.get(id)?.keep();
  }

  /** A worker has ended, and its logins with it. */
  ended(worker: PoolWorker): void {
    for (const permit of this.#permits.get(worker)?.values() ?? []) permit.release();
    this.#permits.delete(worker);
  }
}
