/**
 * The keys of one issuer over time. Logins that wait share one fetch. Keys are renewed before they
 * go stale, and remain in use during an outage of the issuer. A token with an unknown key ID is not
 * verified yet, so what it can cause here is bounded: how many fetches, and how many logins wait.
 */
import { orAborted } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import type { Limiter } from '../lib/limiter.ts';
import { formatValues } from '../lib/text.ts';
import { type KeySet, parsePublishedKeys } from '../settings/jwks.ts';
import type { Clocks } from './discovery.ts';
import type { KeyStore } from './key-files.ts';
import { type KeyOrigin, type KeyTimes, originDigest, originText } from './key-origin.ts';
import { type KeyEvents, KeysUnavailable } from './key-source.ts';

const SECOND = 1000;

/** How long after one unknown key ID the next one may cause a fetch. */
const REFETCH_COOL_DOWN = 30 * SECOND;

/** The wait after a failed fetch. It doubles with each further failure, up to the longest. */
const RETRY_FIRST = SECOND;
const RETRY_LONGEST = 60 * SECOND;

/**
 * The part of the freshness lifetime after which keys are renewed. The spread keeps processes from
 * asking at the same time.
 */
const RENEW_AFTER = 0.75;
const RENEW_SPREAD = 0.1;

/**
 * How long a login waits for a fetch if there are stale keys. The issuer may be available, and one
 * of these keys may have been withdrawn.
 */
const GRACE_MS = 2 * SECOND;

/** A key set as it was fetched. */
export interface FetchedJwks {
  /** The address that it was fetched from. */
  readonly source: string;
  readonly jwks: unknown;
  /** How long it may be used, in milliseconds. */
  readonly freshFor: number;
}

/** What is known of the keys of one origin, for another process of the node. */
export interface KeyState {
  /** The {@link originDigest}. */
  readonly origin: string;
  /** The key set, as text. Undefined if there is none. */
  readonly jwks: string | undefined;
  /** When it was fetched, in milliseconds since the epoch. */
  readonly fetchedAt: number | undefined;
  /** How old it is, and how long it is still fresh, in milliseconds. */
  readonly age: number;
  readonly freshFor: number;
  /** Why the last fetch failed. Undefined if it did not. */
  readonly lastError: string | undefined;
}

/** What all {@link IssuerKeys} of a process share. */
export interface IssuerKeysOptions extends Clocks {
  /** Fetches the key set. The timeout is in milliseconds. */
  fetch(origin: KeyOrigin, timeout: number): Promise<FetchedJwks>;
  readonly store: KeyStore;
  readonly events: KeyEvents;
  /** Called after each fetch with what is known then. */
  readonly changed?: ((state: KeyState) => void) | undefined;
  /** Bounds the logins that wait because of a token that is not verified, by issuer. */
  readonly waiting: Limiter;
  /** From 0 to less than 1. */
  readonly random: () => number;
}

/** The set in use. Times are on the monotonic clock, in milliseconds. */
interface CurrentSet {
  readonly keys: KeySet;
  readonly text: string;
  readonly source: string;
  /** When the fetch began, in milliseconds since the epoch: to be shown and stored. */
  readonly fetchedAt: number;
  /** The same on the monotonic clock: for the age. */
  readonly since: number;
  readonly freshUntil: number;
  readonly renewAt: number;
}

/** The keys of one issuer, from one origin. */
export class IssuerKeys {
  readonly origin: KeyOrigin;
  readonly #options: IssuerKeysOptions;
  readonly #loaded: Promise<void>;
  #isLoaded = false;
  #set: CurrentSet | undefined;
  #running: Promise<void> | undefined;
  #graceOver: Promise<void> | undefined;
  #failures = 0;
  #lastError: string | undefined;
  #retryAt = Number.NEGATIVE_INFINITY;
  #refetchedAt = Number.NEGATIVE_INFINITY;
  #isRetired = false;

  constructor(origin: KeyOrigin, options: IssuerKeysOptions) {
    this.origin = origin;
    this.#options = options;
    this.#loaded = this.#load();
  }

  /** Whether there are keys, or a fetch of them has failed. */
  get wasTried(): boolean {
    return this.#set !== undefined || this.#failures > 0;
  }

  /** When the keys were fetched, in milliseconds since the epoch. Undefined without keys. */
  get fetchedAt(): number | undefined {
    return this.#set?.fetchedAt;
  }

  /** Where the keys were found. Undefined without keys. */
  get source(): string | undefined {
    return this.#set?.source;
  }

  get keys(): KeySet {
    return this.#set?.keys ?? [];
  }

  get lastError(): string | undefined {
    return this.#lastError;
  }

  get state(): KeyState {
    const now = this.#options.monotonic();
    const { text, fetchedAt, since = now, freshUntil = now } = this.#set ?? {};
    return {
      origin: originDigest(this.origin),
      jwks: text,
      fetchedAt,
      age: now - since,
      freshFor: freshUntil - now,
      lastError: this.#lastError,
    };
  }

  /**
   * The keys for a login. Fresh keys are returned at once. If the last fetch failed, the last good
   * keys are returned at once, too. Otherwise the login waits for a fetch.
   *
   * @throws KeysUnavailable; the signal's reason
   */
  async keysFor(times: KeyTimes, signal: AbortSignal): Promise<KeySet> {
    if (!this.#isLoaded) await orAborted(this.#loaded, signal);
    const now = this.#options.monotonic();
    const fresh = this.#set !== undefined && now < this.#set.freshUntil;
    if (!fresh && this.#failures === 0) {
      const fetching = this.#fetch(times);
      const enough = this.#usableSet(times) ? Promise.race([fetching, this.#graceOver]) : fetching;
      await orAborted(enough, signal);
    }
    const set = this.#usableSet(times);
    if (set) return set.keys;
    throw this.#unavailable();
  }

  /**
   * Fetches once more, because of a key ID that is not in the set.
   *
   * @returns undefined if the fetch is not allowed now or fails
   * @throws the signal's reason
   */
  async refetch(times: KeyTimes, signal: AbortSignal): Promise<KeySet | undefined> {
    const { monotonic, waiting, events } = this.#options;
    if (this.#running === undefined) {
      if (monotonic() - this.#refetchedAt < REFETCH_COOL_DOWN) {
        events.refetchRefused(this.origin.issuer);
        return undefined;
      }
      this.#refetchedAt = monotonic();
    }
    const fetching = this.#fetch(times);
    const permit = waiting.acquire(this.origin.issuer);
    if (!permit) {
      events.refetchRefused(this.origin.issuer);
      return undefined;
    }
    try {
      await orAborted(fetching, signal);
    } finally {
      permit.release();
    }
    return this.#usableSet(times)?.keys;
  }

  /** Starts a fetch if one is due. To be called about once a second. */
  renew(times: KeyTimes): void {
    const due =
      this.#failures > 0 ? this.#retryAt : (this.#set?.renewAt ?? Number.NEGATIVE_INFINITY);
    const isDue = this.#options.monotonic() >= due;
    if (this.#isLoaded && !this.#running && isDue) void this.#fetch(times);
  }

  /**
   * To be called when no setting names this origin any more. A fetch still running is neither
   * stored, where it could replace the keys of another origin, nor reported if it fails.
   */
  retire(): void {
    this.#isRetired = true;
  }

  /** Resolves when the stored keys have been read. Never rejects. */
  async loaded(): Promise<void> {
    await this.#loaded;
  }

  /** The set, if it is fresh or not older than the settings allow. */
  #usableSet({ maxAge }: KeyTimes): CurrentSet | undefined {
    const now = this.#options.monotonic();
    return this.#set && (now < this.#set.freshUntil || now - this.#set.since < maxAge)
      ? this.#set
      : undefined;
  }

  /** The running fetch, or a new one. Never rejects. */
  #fetch(times: KeyTimes): Promise<void> {
    if (this.#running !== undefined) return this.#running;
    let grace: NodeJS.Timeout | undefined;
    this.#graceOver = new Promise((resolve) => {
      grace = setTimeout(resolve, GRACE_MS);
    });
    this.#running = this.#fetchOnce(times).finally(() => {
      clearTimeout(grace);
      this.#running = undefined;
    });
    return this.#running;
  }

  async #fetchOnce(times: KeyTimes): Promise<void> {
    await this.#tryFetch(times);
    if (!this.#isRetired) this.#options.changed?.(this.state);
  }

  async #tryFetch({ timeout }: KeyTimes): Promise<void> {
    const { fetch, events, now, monotonic, random } = this.#options;
    const { issuer } = this.origin;
    const [fetchedAt, since] = [now(), monotonic()];
    try {
      const { jwks, source, freshFor } = await fetch(this.origin, timeout);
      const renewAt = since + freshFor * (RENEW_AFTER + RENEW_SPREAD * random());
      const freshUntil = since + freshFor;
      await this.#adopt(jwks, { source, fetchedAt, since, freshUntil, renewAt });
      this.#failures = 0;
      this.#lastError = undefined;
      events.fetched(issuer);
      this.#write(jwks, fetchedAt);
    } catch (error) {
      if (this.#isRetired) return;
      const longest = Math.min(RETRY_LONGEST, RETRY_FIRST * 2 ** Math.min(this.#failures, 10));
      const retryIn = Math.max(RETRY_FIRST, longest * (0.5 + 0.5 * random()));
      this.#failures++;
      this.#lastError = errorText(error);
      this.#retryAt = monotonic() + retryIn;
      const keysAge = this.#set && monotonic() - this.#set.since;
      events.fetchFailed(issuer, { reason: this.#lastError, retryIn, keysAge });
    }
  }

  /**
   * Puts a set into use. A set with the same text as before remains the same object, so that tokens
   * that were verified with it remain verified.
   */
  async #adopt(jwks: unknown, times: Omit<CurrentSet, 'keys' | 'text'>): Promise<void> {
    const text = JSON.stringify(jwks);
    if (this.#set?.text === text) {
      this.#set = { ...this.#set, ...times };
      return;
    }
    const { keys, skipped } = await parsePublishedKeys(jwks);
    const [before, after] = [new Set(keyNames(this.keys)), new Set(keyNames(keys))];
    this.#set = { keys, text, ...times };
    // The issuer chose the key IDs, and how many there are.
    this.#options.events.keysChanged(this.origin.issuer, {
      added: formatValues([...after].filter((kid) => !before.has(kid))),
      removed: formatValues([...before].filter((kid) => !after.has(kid))),
      skipped: formatValues(skipped),
    });
  }

  /**
   * Reads the keys that an earlier process stored. They are never fresh, since they may have been
   * withdrawn meanwhile.
   */
  async #load(): Promise<void> {
    const { store, events, now, monotonic } = this.#options;
    const { issuer } = this.origin;
    try {
      const stored = await store.read(issuer, originText(this.origin));
      // Keys from the future may have any age, because one of the clocks was wrong.
      const age = now() - (stored?.fetchedAt ?? Number.POSITIVE_INFINITY);
      if (stored && age >= 0) {
        const times = {
          fetchedAt: stored.fetchedAt,
          since: monotonic() - age,
          freshUntil: Number.NEGATIVE_INFINITY,
          renewAt: Number.NEGATIVE_INFINITY,
        };
        await this.#adopt(stored.jwks, { source: 'the data directory', ...times });
      }
    } catch (error) {
      events.notStored(issuer, `cannot be read: ${errorText(error)}`);
    } finally {
      this.#isLoaded = true;
    }
  }

  #write(jwks: unknown, fetchedAt: number): void {
    if (this.#isRetired) return;
    const { store, events } = this.#options;
    const { issuer } = this.origin;
    store
      .write({ issuer, origin: originText(this.origin), fetchedAt, jwks })
      .catch((error: unknown) =>
        events.notStored(issuer, `cannot be written: ${errorText(error)}`),
      );
  }

  #unavailable(): KeysUnavailable {
    return noUsableKeys(this.#set?.fetchedAt, this.#lastError);
  }
}

/**
 * There are no keys that may be used.
 *
 * @param fetchedAt when the last good ones were fetched, in milliseconds since the epoch
 */
export function noUsableKeys(
  fetchedAt: number | undefined,
  lastError = 'the fetch was given up',
): KeysUnavailable {
  const time = fetchedAt === undefined ? '' : new Date(fetchedAt).toISOString();
  const age = time && `; the last good ones are of ${time}, pgsso.jwks_max_age`;
  return new KeysUnavailable(
    `that they could not be fetched: ${lastError}${age}`,
    'identity provider',
  );
}

/** The key IDs of a set. */
export function keyNames(keys: KeySet): readonly string[] {
  return keys.map(({ kid }) => kid ?? '(no kid)');
}
