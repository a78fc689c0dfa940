/**
 * The fetched keys as a worker has them. One process of the node fetches, and tells the workers
 * after each fetch what is known then ({@link KeyState}). A worker uses that as long as it is
 * fresh, and during an outage of the issuer. It asks only if there is nothing that it may use, or
 * for a key ID that it does not know. All logins of an issuer that wait share one question.
 */
import { orAborted } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import { readJson } from '../lib/json.ts';
import { Limiter } from '../lib/limiter.ts';
import { type KeySet, parsePublishedKeys } from '../settings/jwks.ts';
import { waysToLogIn } from '../settings/oauthbearer.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import { type KeyState, noUsableKeys } from './issuer-keys.ts';
import { keyTimes, OriginNames, originOf, originsOf } from './key-origin.ts';
import { type IssuerState, type KeyEvents, type KeySource, KeysUnavailable } from './key-source.ts';

/** What a worker wants: the keys of an issuer, or newer ones because of an unknown key ID. */
export type KeyQuestion = 'keys' | 'newer keys';

/** What a {@link SharedKeys} is made with. */
export interface SharedKeysOptions {
  /**
   * Asks the process that fetches about an origin, by its digest.
   *
   * @returns undefined if no settings name the origin any more
   */
  ask(question: KeyQuestion, origin: string): Promise<KeyState | undefined>;
  readonly events: Pick<KeyEvents, 'refetchRefused'>;
  /** How many logins may wait at once because of an unknown key ID, and how many of one issuer. */
  readonly waitingLimit: number;
  readonly waitingShare: number;
  /** Milliseconds on a clock that does not jump. */
  readonly monotonic: () => number;
}

/**
 * After one unknown key ID of an issuer the next one causes no question for so long, in ms. What is
 * fetched meanwhile is told all the same.
 */
const QUESTION_COOL_DOWN_MS = 1000;

/** The last state of an origin. Times on the monotonic clock. */
interface Held {
  readonly text: string | undefined;
  readonly keys: KeySet;
  readonly fetchedAt: number | undefined;
  readonly since: number;
  readonly freshUntil: number;
  readonly lastError: string | undefined;
}

/** The keys that another process fetches. */
export class SharedKeys implements KeySource {
  readonly #options: SharedKeysOptions;
  readonly #names = new OriginNames();
  readonly #waiting: Limiter;
  /** By the digest of the origin. */
  readonly #held = new Map<string, Held>();
  /** Questions under way, by question and origin. */
  readonly #asked = new Map<string, Promise<void>>();
  /** When newer keys of an origin were asked for. */
  readonly #refreshedAt = new Map<string, number>();
  #adopting: Promise<void> = Promise.resolve();

  constructor(options: SharedKeysOptions) {
    this.#options = options;
    this.#waiting = new Limiter({ limit: options.waitingLimit, share: options.waitingShare });
  }

  /** Takes over what was told. States are taken over in the order of the calls. */
  adopt(state: KeyState): Promise<void> {
    const adopted = this.#adopting.then(() => this.#adopt(state));
    this.#adopting = adopted.catch(() => undefined);
    return adopted;
  }

  /** Forgets the origins that the settings no longer name. */
  forgetOthers(values: LoginSettings): void {
    const named = new Set(
      waysToLogIn(values).flatMap((way) =>
        originsOf(way).map((origin) => this.#names.nameOf(origin, way)),
      ),
    );
    for (const known of [this.#held, this.#refreshedAt])
      for (const name of [...known.keys()]) if (!named.has(name)) known.delete(name);
  }

  async keysFor(issuer: string, values: LoginSettings, signal: AbortSignal): Promise<KeySet> {
    const name = this.#nameOf(issuer, values);
    const held = this.#held.get(name);
    const isFresh = held !== undefined && this.#options.monotonic() < held.freshUntil;
    if (!isFresh && held?.lastError === undefined) await orAborted(this.#ask('keys', name), signal);
    const keys = this.#usable(name, values);
    if (keys) return keys;
    const { fetchedAt, lastError } = this.#held.get(name) ?? {};
    throw noUsableKeys(fetchedAt, lastError);
  }

  async refresh(
    issuer: string,
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<KeySet | undefined> {
    const { events, monotonic } = this.#options;
    const name = this.#nameOf(issuer, values);
    const since = monotonic() - (this.#refreshedAt.get(name) ?? Number.NEGATIVE_INFINITY);
    const isRecent = since < QUESTION_COOL_DOWN_MS && !this.#asked.has(`newer keys ${name}`);
    const permit = isRecent ? undefined : this.#waiting.acquire(issuer);
    if (!permit) {
      events.refetchRefused(issuer);
      return this.#usable(name, values);
    }
    try {
      if (since >= QUESTION_COOL_DOWN_MS) this.#refreshedAt.set(name, monotonic());
      await orAborted(this.#ask('newer keys', name), signal);
    } finally {
      permit.release();
    }
    return this.#usable(name, values);
  }

  /** Forgets all keys. */
  close(): void {
    this.#held.clear();
  }

  /** Only the process that fetches describes them. */
  describe(): readonly IssuerState[] {
    return [];
  }

  #nameOf(issuer: string, values: LoginSettings): string {
    return this.#names.nameOf(originOf(issuer, values), values);
  }

  #usable(name: string, values: LoginSettings): KeySet | undefined {
    const held = this.#held.get(name);
    if (held?.text === undefined) return undefined;
    const now = this.#options.monotonic();
    const { maxAge } = keyTimes(values);
    return now < held.freshUntil || now - held.since < maxAge ? held.keys : undefined;
  }

  /** @throws KeysUnavailable if there is no answer */
  #ask(question: KeyQuestion, name: string): Promise<void> {
    const key = `${question} ${name}`;
    const known = this.#asked.get(key);
    if (known !== undefined) return known;
    const asked = this.#askOnce(question, name).finally(() => this.#asked.delete(key));
    this.#asked.set(key, asked);
    return asked;
  }

  async #askOnce(question: KeyQuestion, name: string): Promise<void> {
    let state: KeyState | undefined;
    try {
      state = await this.#options.ask(question, name);
    } catch (error) {
      throw new KeysUnavailable(`that the node did not answer: ${errorText(error)}`, 'us');
    }
    if (!state) throw new KeysUnavailable('that the settings have changed meanwhile', 'us');
    await this.adopt(state);
  }

  /** A set with the same text as before remains the same object: see VerifiedTokens. */
  async #adopt({ origin, jwks: text, age, freshFor, ...known }: KeyState): Promise<void> {
    const before = this.#held.get(origin);
    const now = this.#options.monotonic();
    const keys = before?.text === text ? before?.keys : await parseKeys(text);
    const times = { since: now - age, freshUntil: now + freshFor };
    this.#held.set(origin, { ...known, ...times, text, keys: keys ?? [] });
  }
}

/** The text was parsed before by the process that fetched it. */
async function parseKeys(text: string | undefined): Promise<KeySet> {
  const reading = readJson(text ?? '');
  return reading.valid ? (await parsePublishedKeys(reading.value)).keys : [];
}
