/**
 * Keys that are fetched from the issuers: the {@link KeySource} for
 * `server.jwt_authentication.jwks_auto_fetch.enabled`. There is one {@link IssuerKeys} for each
 * origin of keys. A login uses the origins that its own settings name, so that a change takes
 * effect at once. An origin that no setting names any more is forgotten.
 */
import type { FetchJson } from '../http/json-client.ts';
import { Limiter } from '../lib/limiter.ts';
import { formatValues } from '../lib/text.ts';
import type { KeySet } from '../settings/jwks.ts';
import { waysToLogIn } from '../settings/oauthbearer.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import { type Discovery, discoveryAddress, freshFor } from './discovery.ts';
import {
  type FetchedJwks,
  IssuerKeys,
  type IssuerKeysOptions,
  type KeyState,
  keyNames,
} from './issuer-keys.ts';
import { type KeyOrigin, keyTimes, OriginNames, originOf, originsOf } from './key-origin.ts';
import type { IssuerState, KeySource } from './key-source.ts';

/** What a {@link FetchedKeys} is made with. */
export interface FetchedKeysOptions extends Omit<IssuerKeysOptions, 'fetch' | 'waiting'> {
  readonly fetchJson: FetchJson;
  readonly discovery: Discovery;
  /** How many logins may wait at once because of an unknown key ID. */
  readonly waitingLimit: number;
  /** How many of them for one issuer. */
  readonly waitingShare: number;
}

/** How often the key sets are checked for being due. */
const RENEWAL_MS = 1000;

/** The fetched keys of a process. */
export class FetchedKeys implements KeySource {
  readonly #options: FetchedKeysOptions;
  readonly #issuerOptions: IssuerKeysOptions;
  readonly #closed = new AbortController();
  readonly #issuers = new Map<string, IssuerKeys>();
  readonly #names = new OriginNames();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: FetchedKeysOptions) {
    this.#options = options;
    const fetch = (origin: KeyOrigin, timeout: number): Promise<FetchedJwks> =>
      this.#fetch(origin, timeout);
    const waiting = new Limiter({ limit: options.waitingLimit, share: options.waitingShare });
    this.#issuerOptions = { ...options, fetch, waiting };
  }

  async keysFor(issuer: string, values: LoginSettings, signal: AbortSignal): Promise<KeySet> {
    return this.#find(issuer, values).keysFor(keyTimes(values), signal);
  }

  async refresh(
    issuer: string,
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<KeySet | undefined> {
    return this.#find(issuer, values).refetch(keyTimes(values), signal);
  }

  describe(values: LoginSettings): readonly IssuerState[] {
    return this.#current(values).map(({ origin, source, keys, fetchedAt, lastError }) => ({
      issuer: origin.issuer,
      source: source ?? origin.jwksUri ?? discoveryAddress(origin.issuer),
      keyCount: keys.length,
      keyIds: formatValues(keyNames(keys)),
      fetchedAt,
      lastError,
    }));
  }

  /**
   * What is known of the keys of an issuer.
   *
   * @throws KeysUnavailable if the settings name no place for them
   */
  stateOf(issuer: string, values: LoginSettings): KeyState {
    return this.#find(issuer, values).state;
  }

  /** The same of every issuer, for a worker that begins. */
  states(values: LoginSettings): readonly KeyState[] {
    return this.#due(values).map(({ state }) => state);
  }

  /** Whether the keys of each issuer are present, or a fetch of them has failed. */
  wereTried(values: LoginSettings): boolean {
    return this.#due(values).every(({ wasTried }) => wasTried);
  }

  /** Forgets the origins that the settings no longer name, and starts the fetches that are due. */
  renew(values: LoginSettings): void {
    const current = new Set(this.#due(values));
    this.#forgetAllBut(current);
    for (const issuer of current) issuer.renew(keyTimes(values));
  }

  /**
   * Starts to fetch keys in advance, so that no login has to wait.
   *
   * @param values returns the settings in force. Nothing is fetched while they turn fetching off
   */
  start(values: () => LoginSettings): void {
    const renew = (): void => this.renew(values());
    this.#timer = setInterval(renew, RENEWAL_MS).unref();
    void Promise.all(this.#due(values()).map((issuer) => issuer.loaded())).then(renew);
  }

  /** Ends the fetches in progress. Logins that wait for them are refused. */
  close(): void {
    clearInterval(this.#timer);
    this.#forgetAllBut(new Set());
    this.#closed.abort(new Error('the front-end is shutting down'));
  }

  #forgetAllBut(current: ReadonlySet<IssuerKeys>): void {
    for (const [name, issuer] of this.#issuers) {
      if (current.has(issuer)) continue;
      issuer.retire();
      this.#issuers.delete(name);
    }
  }

  /** The keys that are to be fetched, for whatever way to log in. */
  #due(values: LoginSettings): readonly IssuerKeys[] {
    return waysToLogIn(values)
      .filter((way) => way['server.jwt_authentication.jwks_auto_fetch.enabled'])
      .flatMap((way) => this.#current(way));
  }

  #current(values: LoginSettings): readonly IssuerKeys[] {
    return originsOf(values).map((origin) => this.#at(origin, values));
  }

  /** @throws KeysUnavailable if the settings name no place for the issuer's keys */
  #find(issuer: string, values: LoginSettings): IssuerKeys {
    return this.#at(originOf(issuer, values), values);
  }

  #at(origin: KeyOrigin, values: LoginSettings): IssuerKeys {
    const name = this.#names.nameOf(origin, values);
    const known = this.#issuers.get(name) ?? new IssuerKeys(origin, this.#issuerOptions);
    this.#issuers.set(name, known);
    return known;
  }

  async #fetch(
    { issuer, jwksUri, ca, allowInsecure }: KeyOrigin,
    timeout: number,
  ): Promise<FetchedJwks> {
    const { fetchJson, discovery, now } = this.#options;
    const { signal } = this.#closed;
    const access = { ca, allowInsecure, timeout };
    try {
      const source = jwksUri ?? (await discovery.find(issuer, access)).jwksUri;
      if (source === undefined) throw new Error('the discovery document has no jwks_uri');
      const since = now();
      const { body, headers } = await fetchJson(source, { ...access, signal });
      return { source, jwks: body, freshFor: freshFor(headers, since) };
    } catch (error) {
      // The address in the document may be wrong by now.
      if (jwksUri === undefined) discovery.forget(issuer);
      throw error;
    }
  }
}
