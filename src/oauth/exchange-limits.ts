/**
 * Bounds the exchanges of client credentials. Anybody can cause one with any user and password, and
 * the issuer sees all of them as ours. Who is not known yet waits in line by address, and addresses
 * whose exchanges fail are slowed down. Credentials that have been right have places of their own,
 * so that no flood of wrong ones keeps a service out.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { ExpiringCache } from '../lib/expiring-cache.ts';
import { Limiter, type Permit } from '../lib/limiter.ts';
import { addressKey } from '../lib/network.ts';

/** How many exchanges may be in progress at once, of known credentials and of others. */
const EXCHANGE_LIMIT = 32;

/** How many of them one address may have, or the known credentials of one id. */
const EXCHANGE_SHARE = 8;

/** How many exchanges of unknown credentials one id may have from one address. */
const PAIR_SHARE = 4;

/** Failures of one address that slow down nothing, and how many more it may have in a second. */
const FAILURE_BURST = 20;
const FAILURES_PER_SECOND = 10;

/** Addresses whose failures are counted. The one that failed least recently is forgotten. */
const ADDRESS_LIMIT = 10_000;

/** More services than one front-end has. */
const KNOWN_LIMIT = 10_000;

/** How long credentials that were right count as known, in milliseconds. */
const KNOWN_MS = 24 * 3_600_000;

/** Who wants an exchange. */
export interface Applicant {
  readonly id: string;
  readonly secret: string;
  /** Undefined if it is not known. All such clients count as one address. */
  readonly address: string | undefined;
}

/**
 * How an exchange ended: whether the credentials were right, or the issuer failed, or had too many
 * requests, or the client left before there was an answer.
 */
export type ExchangeOutcome = 'right' | 'wrong' | 'failed' | 'too many' | 'given up';

/** An exchange that may begin. It is ended once. */
export interface ExchangePermit {
  end(outcome: ExchangeOutcome): void;
}

/** Thrown if too many logins wait already. */
class TooManyExchanges extends Error {
  override readonly name = 'TooManyExchanges';
}

/** Those that wait, and the exchanges in progress. */
interface Lane {
  /** Bounds the logins, each of which holds a place for logins while it waits. */
  readonly room: Limiter;
  readonly exchanges: Limiter;
}

/** The limits of a process. */
export class ExchangeLimits {
  /** By digest: the secret is a credential and is not stored. */
  readonly #known: ExpiringCache<object>;
  readonly #secret = randomBytes(32);
  readonly #failures: FailurePace;
  readonly #knownLane: Lane;
  readonly #otherLane: Lane;
  /** Keep one id of an address from taking all the room and the turns of the address. */
  readonly #pairRoom: Limiter;
  readonly #pairs: Limiter;

  /**
   * @param waitingLimit how many logins of unknown credentials may wait, and how many of known ones
   * @param workers how many processes the limits of the node are divided among
   * @param monotonic milliseconds on a clock that does not jump
   */
  constructor(
    waitingLimit: number,
    workers = 1,
    monotonic: () => number = () => performance.now(),
  ) {
    const part = (places: number): number => Math.max(1, Math.floor(places / workers));
    const exchanges = { limit: part(EXCHANGE_LIMIT), share: part(EXCHANGE_SHARE) };
    const share = Math.ceil(waitingLimit / 4);
    this.#known = new ExpiringCache(KNOWN_LIMIT, monotonic);
    this.#failures = new FailurePace(workers, monotonic);
    this.#knownLane = {
      room: new Limiter({ limit: waitingLimit, share: Math.ceil(waitingLimit / 2) }),
      exchanges: new Limiter(exchanges),
    };
    this.#otherLane = {
      room: new Limiter({ limit: waitingLimit, share }),
      exchanges: new Limiter(exchanges),
    };
    this.#pairRoom = new Limiter({ limit: waitingLimit, share: Math.ceil(share / 2) });
    this.#pairs = new Limiter({ limit: waitingLimit, share: part(PAIR_SHARE) });
  }

  /**
   * Waits until an exchange may begin.
   *
   * @throws TooManyExchanges; the signal's reason
   */
  async begin(applicant: Applicant, signal: AbortSignal): Promise<ExchangePermit> {
    const digest = this.#digestOf(applicant);
    const isKnown = this.#known.get(digest) !== undefined;
    const address = addressKey(applicant.address);
    const held: Permit[] = [];
    const release = (): void => {
      for (const permit of held) permit.release();
    };
    try {
      if (isKnown) await this.#enterKnown(applicant.id, held, signal);
      else await this.#enterOther(applicant.id, address, held, signal);
    } catch (error) {
      release();
      throw error;
    }
    return {
      end: (outcome) => {
        release();
        this.#note(outcome, { digest, address, isKnown });
      },
    };
  }

  /** Known credentials take turns by id. */
  async #enterKnown(id: string, held: Permit[], signal: AbortSignal): Promise<void> {
    const { room, exchanges } = this.#knownLane;
    held.push(enter(room, id, 'with this id'));
    held.push(await exchanges.wait(id, signal));
  }

  /** Other credentials take turns by address. */
  async #enterOther(
    id: string,
    address: string,
    held: Permit[],
    signal: AbortSignal,
  ): Promise<void> {
    const { room, exchanges } = this.#otherLane;
    const pair = JSON.stringify([address, id]);
    held.push(enter(this.#pairRoom, pair, 'with this id and address'));
    held.push(enter(room, address, 'of this address'));
    held.push(await this.#pairs.wait(pair, signal));
    await this.#failures.wait(address, signal);
    try {
      held.push(await exchanges.wait(address, signal));
    } catch (error) {
      this.#failures.forgive(address);
      throw error;
    }
  }

  #note(outcome: ExchangeOutcome, { digest, address, isKnown }: Noted): void {
    if (outcome === 'wrong') this.#known.delete(digest);
    // To leave before the answer must not be a way to guess faster. Nor does an address go on at
    // full speed when the issuer has had too many of its requests.
    if (!isKnown && (outcome === 'right' || outcome === 'failed')) this.#failures.forgive(address);
    if (outcome === 'right') this.#known.set(digest, {}, KNOWN_MS);
  }

  #digestOf({ id, secret }: Applicant): string {
    return createHmac('sha256', this.#secret)
      .update(JSON.stringify([id, secret]))
      .digest('base64');
  }
}

/** What is known of an exchange that has ended. */
interface Noted {
  readonly digest: string;
  readonly address: string;
  readonly isKnown: boolean;
}

function enter(room: Limiter, key: string, whose: string): Permit {
  const permit = room.acquire(key);
  if (permit) return permit;
  throw new TooManyExchanges(
    `too many logins ${whose} wait for an exchange, or ${room.limit} in all`,
  );
}

/**
 * Slows down the exchanges of an address that fail. Each one counts as a failure from its begin, so
 * that many at once are not free, until it is forgiven. The count of an address falls evenly.
 */
class FailurePace {
  readonly #burst: number;
  readonly #perSecond: number;
  readonly #monotonic: () => number;
  /** The count, and when it was that; least recently used first. */
  readonly #counts = new Map<string, { readonly count: number; readonly at: number }>();

  constructor(workers: number, monotonic: () => number) {
    this.#burst = Math.max(1, FAILURE_BURST / workers);
    this.#perSecond = FAILURES_PER_SECOND / workers;
    this.#monotonic = monotonic;
  }

  /**
   * Waits until the address may have one more failure, and counts it.
   *
   * @throws the signal's reason
   */
  async wait(address: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    for (;;) {
      const excess = this.#count(address) + 1 - this.#burst;
      if (excess <= 0) break;
      const ms = Math.ceil((excess * 1000) / this.#perSecond);
      await setTimeout(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
    this.#set(address, this.#count(address) + 1);
  }

  /** Takes one failure back. */
  forgive(address: string): void {
    this.#set(address, Math.max(0, this.#count(address) - 1));
  }

  #count(address: string): number {
    const { count = 0, at = 0 } = this.#counts.get(address) ?? {};
    return Math.max(0, count - ((this.#monotonic() - at) * this.#perSecond) / 1000);
  }

  #set(address: string, count: number): void {
    this.#counts.delete(address);
    this.#counts.set(address, { count, at: this.#monotonic() });
    const [oldest = address] = this.#counts.keys();
    if (this.#counts.size > ADDRESS_LIMIT) this.#counts.delete(oldest);
  }
}
