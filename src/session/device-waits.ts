/**
 * Logins that wait for somebody to sign in elsewhere. They hold no place among the unfinished
 * logins, and have a limit of their own. Waiting costs a stranger nothing: so when there is no free
 * place, the oldest one of the busiest address makes room, and one user has one at an address.
 */
import { PgError } from '../lib/errors.ts';
import { Limiter, type Permit } from '../lib/limiter.ts';

/** A login that is about to wait. */
export interface DeviceWait {
  /** As the client sent it. */
  readonly user: string;
  /** As addressKey gives it. */
  readonly address: string;
  /** Ends the login for a reason that the client is told. */
  readonly end: (reason: PgError) => void;
}

/** The waiting logins of a process. */
export class DeviceWaits {
  readonly #waiting = new Map<string, { end(reason: PgError): void; release(): void }>();
  #places = new Limiter({ limit: 0 });

  /** How many there are. */
  get size(): number {
    return this.#waiting.size;
  }

  /**
   * Takes a place. One that waits for the same user at the same address is replaced.
   *
   * @param limit places in all; an address may have half of them
   * @throws PgError 53300 if there is no place
   */
  enter({ user, address, end }: DeviceWait, limit: number): Pick<Permit, 'release'> {
    // Those that wait already keep their places when the limit changes.
    if (this.#places.limit !== limit) {
      this.#places = new Limiter({ limit, share: Math.ceil(limit / 2) });
    }
    const key = JSON.stringify([address, user]);
    const before = this.#waiting.get(key);
    before?.release();
    before?.end(replaced());
    const permit = this.#places.acquireByEviction(address, () => {
      release();
      end(crowdedOut(limit));
    });
    if (!permit) throw crowdedOut(limit);
    const release = (): void => {
      permit.release();
      if (this.#waiting.get(key) === wait) this.#waiting.delete(key);
    };
    const wait = { end, release };
    this.#waiting.set(key, wait);
    return wait;
  }

  /** Ends all of them. */
  endAll(reason: () => PgError): void {
    for (const { end, release } of [...this.#waiting.values()]) {
      release();
      end(reason());
    }
  }
}

function replaced(): PgError {
  return new PgError({
    code: 'device_login_replaced',
    message: 'JWT authentication: sign-in was replaced by a newer one',
    reason: 'another login of this user and address began to wait',
  });
}

function crowdedOut(limit: number): PgError {
  return new PgError({
    code: 'too_many_device_logins',
    message: 'too many sign-ins are waiting',
    hint: 'Try again in a while.',
    reason: `${limit} logins may wait for a sign-in, pgsso.device_login.limit, half of one address`,
    fault: 'us',
  });
}
