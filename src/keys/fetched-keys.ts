/**
 * Keys that are fetched from the issuers: the {@link KeySource} behind
 * `server.jwt_authentication.jwks_auto_fetch.enabled`. It keeps one {@link IssuerKeys} for each
 * place that keys come from. What a login uses follows from its own settings, so that a change
 * takes effect at once; what no longer belongs to any setting is forgotten.
 */
import type { FetchJson } from '../http/json-client.ts';
import { formatText } from '../lib/text.ts';
import type { KeySet } from '../settings/jwks.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import { type Discovery, discoveryAddress, freshFor, providerAccess } from './discovery.ts';
import {
  type FetchedJwks,
  IssuerKeys,
  type IssuerKeysParts,
  type KeyOrigin,
  type KeyTimes,
  originText,
  WaitingRoom,
} from './issuer-keys.ts';
import {
  type IssuerKeys as IssuerDescription,
  type KeySource,
  KeysUnavailable,
} from './key-source.ts';

/** What the source is made of. */
export interface FetchedKeysOptions extends Omit<IssuerKeysParts, 'fetch' | 'waiting'> {
  readonly fetchJson: FetchJson;
  readonly discovery: Discovery;
  /** How many logins may wait at once because of a key ID that nobody knows. */
  readonly waitingLimit: number;
}

/** How often it is looked whether a key set is due. */
const RENEWAL_MS = 1000;

/** The fetched keys of a process. */
export class FetchedKeys implements KeySource {
  readonly #options: FetchedKeysOptions;
  readonly #parts: IssuerKeysParts;
  readonly #closed = new AbortController();
  readonly #issuers = new Map<string, IssuerKeys>();
  /**
   * The names of the entries that belong to settings, so that a login does not make them up anew.
   */
  readonly #names = new WeakMap<LoginSettings, ReadonlyMap<string, string>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: FetchedKeysOptions) {
    this.#options = options;
    const fetch = (origin: KeyOrigin, timeout: number): Promise<FetchedJwks> =>
      this.#fetch(origin, timeout);
    this.#parts = { ...options, fetch, waiting: new WaitingRoom(options.waitingLimit) };
  }

  async keysFor(issuer: string, values: LoginSettings, signal: AbortSignal): Promise<KeySet> {
    return this.#find(issuer, values).keys(keyTimes(values), signal);
  }

  async refresh(
    issuer: string,
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<KeySet | undefined> {
    return this.#find(issuer, values).refetch(keyTimes(values), signal);
  }

  describe(values: LoginSettings): readonly IssuerDescription[] {
    return this.#current(values).map(({ origin, source, keyIds, fetchedAt, lastError }) => ({
      issuer: origin.issuer,
      source: source ?? origin.jwksUri ?? discoveryAddress(origin.issuer),
      keyIds,
      fetchedAt,
      lastError,
    }));
  }

  /** Whether the keys of each issuer are there, or it is known that they cannot be had. */
  wereTried(values: LoginSettings): boolean {
    return this.#current(values).every(({ wasTried }) => wasTried);
  }

  /** Forgets what the settings no longer name, and starts the fetches that are due. */
  renew(values: LoginSettings): void {
    const current = new Set(this.#current(values));
    this.#forgetAllBut(current);
    for (const issuer of current) issuer.renew(keyTimes(values));
  }

  /**
   * Fetches ahead from now on, so that no login has to wait.
   *
   * @param values the settings in force; nothing is fetched while they say so
   */
  start(values: () => LoginSettings): void {
    const renew = (): void => {
      const current = values();
      if (current['server.jwt_authentication.jwks_auto_fetch.enabled']) this.renew(current);
      else this.#forgetAllBut(new Set());
    };
    this.#timer = setInterval(renew, RENEWAL_MS).unref();
    if (!values()['server.jwt_authentication.jwks_auto_fetch.enabled']) return;
    void Promise.all(this.#current(values()).map((issuer) => issuer.loaded())).then(renew);
  }

  /** Ends what is under way; logins that wait for it are refused. */
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
    const known = this.#issuers.get(name) ?? new IssuerKeys(origin, this.#parts);
    this.#issuers.set(name, known);
    return known;
  }

  /**
   * The origin's text is made once for each snapshot: a bundle of authorities may have a megabyte.
   */
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
    const source = jwksUri ?? (await discovery.find(issuer, access, signal)).jwksUri;
    const since = now();
    try {
      const { body, headers } = await fetchJson(source, { ...access, signal });
      return { source, jwks: body, freshFor: freshFor(headers, since) };
    } catch (error) {
      discovery.forget(issuer);
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
