/**
 * Keys that are fetched from the issuers: the {@link KeySource} for
 * `server.jwt_authentication.jwks_auto_fetch.enabled`. There is one {@link IssuerKeys} for each
 * origin of keys. A login uses the origins that its own settings name, so that a change takes
 * effect at once. An origin that no setting names any more is forgotten.
 */
import type { FetchJson } from '../http/json-client.ts';
import { Limiter } from '../lib/limiter.ts';
import { formatText, formatValues } from '../lib/text.ts';
import type { KeySet } from '../settings/jwks.ts';
import { waysToLogIn } from '../settings/oauthbearer.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import { type Discovery, discoveryAddress, freshFor, providerAccess } from './discovery.ts';
import {
  type FetchedJwks,
  IssuerKeys,
  type IssuerKeysOptions,
  type KeyOrigin,
  type KeyTimes,
  keyNames,
  originText,
} from './issuer-keys.ts';
import { type IssuerState, type KeySource, KeysUnavailable } from './key-source.ts';

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
  /** By snapshot of the settings, then by issuer: the key in `#issuers`. */
  readonly #names = new WeakMap<LoginSettings, ReadonlyMap<string, string>>();
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
    const { issuers, jwksUris } = values['server.jwt_authentication.issuers.configuration'];
    return issuers
      .filter((issuer) => !jwksUris || jwksUris.has(issuer))
      .map((issuer) => this.#find(issuer, values));
  }

  #find(issuer: string, values: LoginSettings): IssuerKeys {
    const { jwksUris } = values['server.jwt_authentication.issuers.configuration'];
    const jwksUri = jwksUris?.get(issuer);
    if (jwksUris && jwksUri === undefined) {
      throw new KeysUnavailable(`no entry for ${formatText(issuer)} in the issuer_jwks_map`, 'us');
    }
    const { ca, allowInsecure } = providerAccess(values);
    const origin = { issuer, jwksUri, ca, allowInsecure };
    const name = this.#nameOf(origin, values);
    const known = this.#issuers.get(name) ?? new IssuerKeys(origin, this.#issuerOptions);
    this.#issuers.set(name, known);
    return known;
  }

  /** Made once for each snapshot, because a bundle of authorities may have a megabyte. */
  #nameOf(origin: KeyOrigin, values: LoginSettings): string {
    const names = this.#names.get(values);
    const known = names?.get(origin.issuer);
    if (known !== undefined) return known;
    const name = originText(origin);
    this.#names.set(values, new Map([...(names ?? []), [origin.issuer, name]]));
    return name;
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

function keyTimes(values: LoginSettings): KeyTimes {
  return {
    timeout: values['server.jwt_authentication.client.timeout'],
    maxAge: values['pgsso.jwks_max_age'],
  };
}
