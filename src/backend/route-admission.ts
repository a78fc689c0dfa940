/**
 * How many unfinished logins may wait for one route, and what happens while its hosts are away. A
 * backend that is frozen answers nobody, and its logins would hold the places of all others until
 * the connect timeout. The rest hears at once that there is no place, or that the hosts just
 * failed.
 */
import { orAborted, withDeadline } from '../lib/abort.ts';
import { PgError } from '../lib/errors.ts';
import { Limiter } from '../lib/limiter.ts';
import { BackendRefusal, notTried } from './errors.ts';

/** How long logins are refused after all hosts failed, in ms. It doubles with each failed round. */
const FIRST_PAUSE_MS = 1000;
const LAST_PAUSE_MS = 5000;

/** A failure is a new outage after this time without one, in ms. */
const FORGOTTEN_AFTER_MS = 60_000;

/**
 * How long, in ms, a login waits for the outcome of a probe that has just begun: a host that is
 * back answers sooner, and then nobody is refused.
 */
const PROBE_MS = 250;

/** All hosts failed, and no login has succeeded since. */
interface Outage {
  readonly error: PgError;
  /** When the last login failed. */
  readonly failedAt: number;
  readonly pause: number;
}

/** A login that tries the hosts during an outage. */
interface Probe {
  readonly startedAt: number;
  readonly ended: Promise<void>;
}

/** What a route may hold. */
export interface RouteShare {
  /** The option, for the log. */
  readonly name: string;
  /** Unfinished logins at once. */
  readonly limit: number;
}

/** Admits logins to the backend of one route. */
export class RouteAdmission {
  readonly #name: string;
  readonly #logins: Limiter;
  readonly #now: () => number;
  #outage: Outage | undefined;
  /** The probes under way, oldest first. */
  readonly #probes = new Set<Probe>();

  /** @param now milliseconds on a clock that does not jump */
  constructor({ name, limit }: RouteShare, now: () => number = () => performance.now()) {
    this.#name = name;
    this.#logins = new Limiter({ limit });
    this.#now = now;
  }

  /**
   * Runs a login at the backend. During an outage one login is the probe that tries the hosts, and
   * a further one if that has no answer within the pause.
   *
   * @throws PgError 53300 if the route has its share of logins, 08001 if its hosts just failed and
   *   another login tries them; what the login throws; the signal's reason
   */
  async admit<T>(signal: AbortSignal, login: () => Promise<T>): Promise<T> {
    const permit = this.#logins.acquire();
    if (!permit) throw this.#busy();
    try {
      const outage = this.#currentOutage();
      if (!outage) return await this.#follow(login);
      const newest = [...this.#probes].at(-1);
      const age = newest ? this.#now() - newest.startedAt : outage.pause;
      if (!newest || age >= outage.pause) return await this.#probe(login);
      if (age < PROBE_MS) await outcomeOf(newest, PROBE_MS - age, signal);
      if (!this.#outage) return await this.#follow(login);
      throw notTried(this.#outage.error);
    } finally {
      permit.release();
    }
  }

  /** The outage; undefined if its pause is over and no login tries the hosts any more. */
  #currentOutage(): Outage | undefined {
    const outage = this.#outage;
    if (!outage || this.#probes.size > 0) return outage;
    return this.#now() < outage.failedAt + outage.pause ? outage : undefined;
  }

  async #probe<T>(login: () => Promise<T>): Promise<T> {
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const probe = { startedAt: this.#now(), ended };
    this.#probes.add(probe);
    try {
      return await this.#follow(login);
    } finally {
      this.#probes.delete(probe);
      end();
    }
  }

  /** Notes what the outcome says of the hosts. */
  async #follow<T>(login: () => Promise<T>): Promise<T> {
    const startedAt = this.#now();
    try {
      const session = await login();
      this.#outage = undefined;
      return session;
    } catch (error) {
      if (error instanceof BackendRefusal) this.#outage = undefined;
      if (error instanceof PgError && error.code === 'backend_unreachable')
        this.#failed(error, startedAt);
      throw error;
    }
  }

  /** Logins that began before the last failure belong to the same round. */
  #failed(error: PgError, startedAt: number): void {
    const failedAt = this.#now();
    const last = this.#outage;
    let pause = FIRST_PAUSE_MS;
    if (last && failedAt - last.failedAt < FORGOTTEN_AFTER_MS) {
      const isNextRound = startedAt > last.failedAt;
      pause = isNextRound ? Math.min(2 * last.pause, LAST_PAUSE_MS) : last.pause;
    }
    this.#outage = { error, failedAt, pause };
  }

  #busy(): PgError {
    return new PgError({
      code: 'route_busy',
      message: 'sorry, too many clients already',
      reason:
        `${this.#name}: ${this.#logins.limit} unfinished logins wait for its backend, ` +
        'as many as one route may hold of --max-logins',
      fault: 'backend',
    });
  }
}

/** Waits until the probe has ended, but not longer than the time. Throws the signal's reason. */
async function outcomeOf({ ended }: Probe, ms: number, signal: AbortSignal): Promise<void> {
  const wait = (within: AbortSignal): Promise<void> => orAborted(ended, within);
  await withDeadline(ms, 'no outcome', signal, wait).catch(() => signal.throwIfAborted());
}
