/**
 * The keys of one issuer over time: fetched once however many logins wait, renewed before they go
 * stale, kept while the issuer is away. What a stranger can cause here is bounded: his token is not
 * verified yet when it asks for a key that nobody knows.
 */
import { orAborted } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import { type KeySet, parsePublishedKeys } from '../settings/jwks.ts';
import type { KeyStore } from './key-files.ts';
import { type KeyEvents, KeysUnavailable } from './key-source.ts';

const SECOND = 1000;

/** How long after one unknown key ID the next one may cause a fetch. */
const REFETCH_COOL_DOWN = 30 * SECOND;

/** After a failed fetch; doubled with each further one, up to the longest. */
const RETRY_FIRST = SECOND;
const RETRY_LONGEST = 60 * SECOND;

/**
 * The part of the freshness lifetime after which keys are renewed; the spread keeps processes from
 * asking all at once.
 */
const RENEW_AFTER = 0.75;
const RENEW_SPREAD = 0.1;

/**
 * How long a login waits for an issuer that may be well, when there are keys from before, of which
 * one may have been withdrawn.
 */
const GRACE_MS = 2 * SECOND;

/**
 * Where an issuer's keys come from, and everything else that decides whether they are the right
 * ones.
 */
export interface KeyOrigin {
  readonly issuer: string;
  /** Undefined: the discovery document names it. */
  readonly jwksUri: string | undefined;
  readonly ca: string;
  readonly allowInsecure: boolean;
}

/** A key set that was fetched. */
export interface FetchedJwks {
  /** The address that it came from. */
  readonly source: string;
  readonly jwks: unknown;
  /** How long it may be used, in milliseconds. */
  readonly freshFor: number;
}

/** What the keys of every issuer share. */
export interface IssuerKeysParts {
  /** Fetches the key set. @param timeout in milliseconds */
  fetch(origin: KeyOrigin, timeout: number): Promise<FetchedJwks>;
  readonly shelf: KeyStore;
  readonly events: KeyEvents;
  /** Bounds the logins that wait for new keys. */
  readonly waiting: WaitingRoom;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** From 0 up to 1. */
  readonly random: () => number;
}

/** The settings that do not decide where keys come from. Times in milliseconds. */
export interface KeyTimes {
  readonly timeout: number;
  /** How old the last good keys may become. */
  readonly maxAge: number;
}

/** A set that is in use. */
interface CurrentSet {
  readonly keys: KeySet;
  readonly text: string;
  readonly source: string;
  readonly fetchedAt: number;
  readonly freshUntil: number;
  readonly renewAt: number;
}

/** Places for the logins that wait because of a token that nobody has verified. */
export class WaitingRoom {
  readonly #limit: number;
  #taken = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Waits in one of the places; false when there is none. */
  async wait(work: Promise<void>, signal: AbortSignal): Promise<boolean> {
    if (this.#taken >= this.#limit) return false;
    this.#taken++;
    try {
      await orAborted(work, signal);
      return true;
    } finally {
      this.#taken--;
    }
  }
}

/** One issuer's keys. */
export class IssuerKeys {
  readonly origin: KeyOrigin;
  readonly #parts: IssuerKeysParts;
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

  constructor(origin: KeyOrigin, parts: IssuerKeysParts) {
    this.origin = origin;
    this.#parts = parts;
    this.#loaded = this.#load();
  }

  /** Whether there are keys, or it is known that they could not be had. */
  get wasTried(): boolean {
    return this.#set !== undefined || this.#failures > 0;
  }

  /** When the keys were fetched, in milliseconds since the epoch. */
  get fetchedAt(): number | undefined {
    return this.#set?.fetchedAt;
  }

  /** Where they came from. */
  get source(): string | undefined {
    return this.#set?.source;
  }

  get keyIds(): readonly string[] {
    return namesOf(this.#set?.keys ?? []);
  }

  get lastError(): string | undefined {
    return this.#lastError;
  }

  /**
   * The keys to decide a login with. Fresh ones are there at once, and so are the last good ones of
   * an issuer that is known to be away; only when nothing is known of the issuer's present state
   * does a login wait for it.
   *
   * @throws KeysUnavailable; the signal's reason
   */
  async keys(times: KeyTimes, signal: AbortSignal): Promise<KeySet> {
    if (!this.#isLoaded) await orAborted(this.#loaded, signal);
    const fresh = this.#set !== undefined && this.#parts.now() < this.#set.freshUntil;
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
   * Fetches once more because of a key ID that the set lacks; undefined when that may not be done
   * now, or did not succeed.
   */
  async refetch(times: KeyTimes, signal: AbortSignal): Promise<KeySet | undefined> {
    const { now, waiting, events } = this.#parts;
    if (this.#running === undefined) {
      const since = now() - this.#refetchedAt;
      // A clock that was set back must not prolong it.
      if (since >= 0 && since < REFETCH_COOL_DOWN) {
        events.refetchRefused(this.origin.issuer);
        return undefined;
      }
      this.#refetchedAt = now();
    }
    const waited = await waiting.wait(this.#fetch(times), signal);
    if (!waited) events.refetchRefused(this.origin.issuer);
    return waited ? this.#usableSet(times)?.keys : undefined;
  }

  /** Starts the fetch that is due, if one is. To be called about once a second. */
  renew(times: KeyTimes): void {
    const due =
      this.#failures > 0 ? this.#retryAt : (this.#set?.renewAt ?? Number.NEGATIVE_INFINITY);
    if (this.#isLoaded && !this.#running && this.#parts.now() >= due) void this.#fetch(times);
  }

  /**
   * Nobody asks for this origin any more: what is still under way is not kept, lest it replace
   * another origin's, nor complained of.
   */
  retire(): void {
    this.#isRetired = true;
  }

  /** Resolves when the keys of before a restart have been read; never rejects. */
  async loaded(): Promise<void> {
    await this.#loaded;
  }

  /** The set that may decide a login now. */
  #usableSet({ maxAge }: KeyTimes): CurrentSet | undefined {
    const now = this.#parts.now();
    return this.#set && (now < this.#set.freshUntil || now - this.#set.fetchedAt < maxAge)
      ? this.#set
      : undefined;
  }

  /** The fetch that runs, or a new one. Never rejects. */
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

  async #fetchOnce({ timeout }: KeyTimes): Promise<void> {
    const { fetch, events, now, random } = this.#parts;
    const { issuer } = this.origin;
    const began = now();
    try {
      const { jwks, source, freshFor } = await fetch(this.origin, timeout);
      const renewAt = began + freshFor * (RENEW_AFTER + RENEW_SPREAD * random());
      this.#adopt(jwks, { source, fetchedAt: began, freshUntil: began + freshFor, renewAt });
      this.#failures = 0;
      this.#lastError = undefined;
      events.fetched(issuer);
      this.#keep(jwks, began);
    } catch (error) {
      if (this.#isRetired) return;
      const longest = Math.min(RETRY_LONGEST, RETRY_FIRST * 2 ** Math.min(this.#failures, 10));
      const retryIn = Math.max(RETRY_FIRST, longest * (0.5 + 0.5 * random()));
      this.#failures++;
      this.#lastError = errorText(error);
      this.#retryAt = now() + retryIn;
      const keysAge = this.#set && now() - this.#set.fetchedAt;
      events.fetchFailed(issuer, { reason: this.#lastError, retryIn, keysAge });
    }
  }

  /**
   * Takes a set over. One that says the same as before stays the same object: tokens that it has
   * verified stay verified.
   */
  #adopt(jwks: unknown, times: Omit<CurrentSet, 'keys' | 'text'>): void {
    const text = JSON.stringify(jwks);
    if (this.#set?.text === text) {
      this.#set = { ...this.#set, ...times };
      return;
    }
    const { keys, skipped } = parsePublishedKeys(jwks);
    const [before, after] = [this.keyIds, namesOf(keys)];
    this.#set = { keys, text, ...times };
    this.#parts.events.keysChanged(this.origin.issuer, {
      added: after.filter((kid) => !before.includes(kid)),
      removed: before.filter((kid) => !after.includes(kid)),
      skipped,
    });
  }

  /**
   * Reads what an earlier process has kept. It is not fresh, whenever it was fetched: keys may have
   * been withdrawn since.
   */
  async #load(): Promise<void> {
    const { shelf, events, now } = this.#parts;
    const { issuer } = this.origin;
    try {
      const kept = await shelf.read(issuer, originText(this.origin));
      // A time to come is no age: either clock may be wrong, and the keys could be of any age.
      if (kept && kept.fetchedAt <= now()) {
        const times = {
          fetchedAt: kept.fetchedAt,
          freshUntil: Number.NEGATIVE_INFINITY,
          renewAt: Number.NEGATIVE_INFINITY,
        };
        this.#adopt(kept.jwks, { source: 'the data directory', ...times });
      }
    } catch (error) {
      events.notKept(issuer, `cannot be read: ${errorText(error)}`);
    } finally {
      this.#isLoaded = true;
    }
  }

  #keep(jwks: unknown, fetchedAt: number): void {
    if (this.#isRetired) return;
    const { shelf, events } = this.#parts;
    const { issuer } = this.origin;
    shelf
      .write({ issuer, origin: originText(this.origin), fetchedAt, jwks })
      .catch((error: unknown) => events.notKept(issuer, `cannot be written: ${errorText(error)}`));
  }

  #unavailable(): KeysUnavailable {
    const age = this.#set
      ? `; the last good ones are of ${new Date(this.#set.fetchedAt).toISOString()}, pgsso.jwks_max_age`
      : '';
    return new KeysUnavailable(
      `that they could not be fetched: ${this.#lastError ?? 'the fetch was given up'}${age}`,
      'identity provider',
    );
  }
}

/** The origin as text that is the same for the same origin only. */
export function originText({ issuer, jwksUri, ca, allowInsecure }: KeyOrigin): string {
  return JSON.stringify([issuer, jwksUri ?? null, ca, allowInsecure]);
}

function namesOf(keys: KeySet): readonly string[] {
  return keys.map(({ kid }) => kid ?? '(no kid)');
}
