/**
 * Slows down those that are refused again and again. After some refusals of one address, or of one
 * user from anywhere, further refusals are told ever later. A good login is never delayed: all
 * clients behind a balancer share an address, and nobody may lock a user out by failing as that
 * user. A refusal that waits holds neither a login slot nor a token.
 */
import type { Socket } from 'node:net';
import { Limiter } from '../lib/limiter.ts';
import { addressKey, isInNetworks, type Network } from '../lib/network.ts';
import type { SettingValues } from '../settings/snapshot.ts';
import { partOf } from './limits.ts';

/** A refusal, or a sign-in that begins, which counts for the other workers of the node. */
export interface Counted {
  readonly what: 'refusal' | 'sign-in';
  /** As addressKey gives it. */
  readonly address: string;
  readonly user?: string | undefined;
}

/** What a worker has to do with the others of its node. */
export interface NodeThrottle {
  readonly workers: number;
  /** Tells the others. */
  counted(counted: Counted): void;
}

/** What the settings say about the throttle. */
export function throttleSettings(values: SettingValues): ThrottleSettings {
  return {
    addressRefusals: values['pgsso.throttle.address_refusals'],
    userRefusals: values['pgsso.throttle.user_refusals'],
    window: values['pgsso.throttle.window'],
    firstDelay: values['pgsso.throttle.first_delay'],
    longestDelay: values['pgsso.throttle.longest_delay'],
    exempt: values['pgsso.throttle.exempt'],
  };
}

/** The settings of the throttle. Times in milliseconds. */
export interface ThrottleSettings {
  /** Refusals of one address within the window that are told at once. 0: nobody is slowed down. */
  readonly addressRefusals: number;
  /** The same for one user, whatever the address. */
  readonly userRefusals: number;
  readonly window: number;
  /** The first delay. It doubles with each further refusal, up to the longest one. */
  readonly firstDelay: number;
  readonly longestDelay: number;
  /** Addresses that are never slowed down. */
  readonly exempt: readonly Network[];
}

/** Sign-ins of one address that may begin at once, and how many more it may begin in a minute. */
const SIGN_IN_BURST = 10;
const SIGN_INS_PER_MS = 10 / 60_000;

/** Addresses, and users, that are remembered. The one that failed least recently is forgotten. */
const BUCKET_LIMIT = 10_000;

/** Refusals that wait at once, in all and of one address. The oldest are told at once. */
export const WAITING_LIMIT = 1000;
const WAITING_SHARE = 20;

/** Counts refusals by key. A bucket fills by one with each refusal and leaks evenly. */
class Buckets {
  /** Level, and when it was that; least recently used first. */
  readonly #buckets = new Map<string, { readonly level: number; readonly at: number }>();

  /** Fills a key's bucket by one and returns its level. `leak` is per millisecond. */
  fill(key: string, now: number, leak: number): number {
    const before = this.#buckets.get(key);
    const level = Math.max(0, (before?.level ?? 0) - (now - (before?.at ?? now)) * leak) + 1;
    this.#buckets.delete(key);
    this.#buckets.set(key, { level, at: now });
    const [oldest = key] = this.#buckets.keys();
    if (this.#buckets.size > BUCKET_LIMIT) this.#buckets.delete(oldest);
    return level;
  }
}

/** The refusals of a process, and those that other workers of its node tell of. */
export class Throttle {
  readonly #now: () => number;
  readonly #node: NodeThrottle | undefined;
  readonly #addresses = new Buckets();
  readonly #users = new Buckets();
  readonly #signIns = new Buckets();
  readonly #waiting: Limiter;

  /** @param now milliseconds on a clock that does not jump */
  constructor(now: () => number = () => performance.now(), node?: NodeThrottle) {
    this.#now = now;
    this.#node = node;
    const part = (places: number): number => partOf(places, node?.workers);
    this.#waiting = new Limiter({ limit: part(WAITING_LIMIT), share: part(WAITING_SHARE) });
  }

  /** How many refusals wait. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * Counts a refusal.
   *
   * @param user as it is shown; undefined before the client has named one
   * @returns how long to wait before it is told, in milliseconds
   */
  delay(address: string | undefined, user: string | undefined, settings: ThrottleSettings): number {
    if (isInNetworks(address, settings.exempt)) return 0;
    const refusal = { what: 'refusal', address: addressKey(address), user } as const;
    this.#node?.counted(refusal);
    return this.#refused(refusal, settings);
  }

  /** Counts what another worker tells of. */
  count(counted: Counted, settings: ThrottleSettings): void {
    if (counted.what === 'refusal') this.#refused(counted, settings);
    else this.#signsIn(counted);
  }

  /** Counts a sign-in that is about to begin. False if the address has had too many. */
  admitsSignIn(address: string | undefined, exempt: readonly Network[]): boolean {
    if (isInNetworks(address, exempt)) return true;
    const signIn = { what: 'sign-in', address: addressKey(address) } as const;
    this.#node?.counted(signIn);
    return this.#signsIn(signIn);
  }

  /**
   * Waits before a refusal is told. Resolves earlier if the client leaves, or room is needed.
   *
   * @param address as addressKey gives it
   */
  async wait(ms: number, socket: Socket, address: string): Promise<void> {
    await new Promise<void>((resolve) => {
      const permit = this.#waiting.acquireByEviction(address, () => end());
      const end = (): void => {
        clearTimeout(timer);
        socket.off('close', end);
        permit?.release();
        resolve();
      };
      const timer = setTimeout(end, ms);
      socket.once('close', end);
      if (!permit || socket.destroyed) end();
    });
  }

  /** Tells all that wait at once: a shutdown waits for nobody who was refused. */
  release(): void {
    this.#waiting.evictAll();
  }

  #refused({ address, user }: Counted, settings: ThrottleSettings): number {
    const { addressRefusals, userRefusals } = settings;
    const byAddress = this.#delay(this.#addresses, address, addressRefusals, settings);
    const byUser = user ? this.#delay(this.#users, user, userRefusals, settings) : 0;
    return Math.max(byAddress, byUser);
  }

  #signsIn({ address }: Counted): boolean {
    return this.#signIns.fill(address, this.#now(), SIGN_INS_PER_MS) <= SIGN_IN_BURST;
  }

  #delay(buckets: Buckets, key: string, allowed: number, settings: ThrottleSettings): number {
    if (allowed === 0) return 0;
    const level = buckets.fill(key, this.#now(), allowed / settings.window);
    const excess = Math.ceil(level - allowed);
    if (excess <= 0) return 0;
    return Math.min(settings.longestDelay, settings.firstDelay * 2 ** Math.min(excess - 1, 30));
  }
}
