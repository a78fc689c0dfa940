/**
 * An issuer's discovery document (OpenID Connect Discovery 1.0), which names the addresses of its
 * services. A document is used for as long as its server allows. Concurrent callers share one
 * fetch.
 */

import { type FetchJson, type ProviderAccess, remainingFreshness } from '../http/json-client.ts';
import { ExpiringCache } from '../lib/expiring-cache.ts';
import { isJsonObject } from '../lib/json.ts';
import { formatText } from '../lib/text.ts';
import type { LoginSettings } from '../settings/snapshot.ts';

const MINUTE = 60_000;

/**
 * The bounds of what issuers say about freshness, so that we notice in time that a key was
 * withdrawn.
 */
const FRESH_MINIMUM = MINUTE;
const FRESH_MAXIMUM = 24 * 60 * MINUTE;

/** For an answer that does not say how long it is fresh. */
const FRESH_DEFAULT = 10 * MINUTE;

/** More issuers than anybody configures. */
const ISSUER_LIMIT = 1000;

/** The longest address of a service, in characters. It is shown in the log. */
const ADDRESS_LIMIT = 2048;

/**
 * Two clocks in milliseconds. Ages and waits are measured on the monotonic one, which does not jump
 * when the clock of the system is set.
 */
export interface Clocks {
  /** Since the epoch: for dates that others read or wrote. */
  readonly now: () => number;
  readonly monotonic: () => number;
}

/** Where an issuer's services are. */
export interface ProviderDocument {
  /** Undefined if the issuer names none: its tokens cannot be verified with fetched keys. */
  readonly jwksUri: string | undefined;
  /** Undefined if the issuer has none, as with SPIFFE and Kubernetes. */
  readonly tokenEndpoint: string | undefined;
  /** Undefined if the issuer has none. */
  readonly userinfoEndpoint: string | undefined;
  /** Undefined if the issuer has none (RFC 8628, 4). */
  readonly deviceAuthorizationEndpoint: string | undefined;
}

/** A document that is fetched or being fetched. */
interface Entry extends Pick<ProviderAccess, 'ca' | 'allowInsecure'> {
  readonly document: Promise<ProviderDocument>;
}

/** The document with its freshness lifetime in milliseconds. */
interface FetchedDocument {
  readonly document: ProviderDocument;
  readonly lifetime: number;
}

/** What the settings say about requests to issuers. */
export function providerAccess(values: LoginSettings): ProviderAccess {
  return {
    ca: values['server.jwt_authentication.issuers.custom_ca'],
    timeout: values['server.jwt_authentication.client.timeout'],
    allowInsecure: values['pgsso.allow_insecure_http'],
  };
}

/**
 * How long an answer is used before it is fetched again, in milliseconds.
 *
 * @param now milliseconds since the epoch
 */
export function freshFor(headers: Parameters<typeof remainingFreshness>[0], now: number): number {
  return Math.min(
    FRESH_MAXIMUM,
    Math.max(FRESH_MINIMUM, remainingFreshness(headers, now) ?? FRESH_DEFAULT),
  );
}

/** The address of an issuer's document: Discovery 4.1, "any terminating / MUST be removed". */
export function discoveryAddress(issuer: string): string {
  return `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
}

/** The discovery documents of all issuers. */
export class Discovery {
  readonly #fetchJson: FetchJson;
  readonly #clocks: Clocks;
  readonly #entries: ExpiringCache<Entry>;
  readonly #closed = new AbortController();

  constructor(fetchJson: FetchJson, clocks: Clocks) {
    this.#fetchJson = fetchJson;
    this.#clocks = clocks;
    this.#entries = new ExpiringCache(ISSUER_LIMIT, clocks.monotonic);
  }

  /**
   * The document of an issuer. A fetch serves all that wait for it, so that no login ends it.
   *
   * @throws HttpFailure; Error if the document is not the issuer's, or names an unsafe address
   */
  find(issuer: string, access: ProviderAccess): Promise<ProviderDocument> {
    const { ca, allowInsecure } = access;
    const known = this.#entries.get(issuer);
    if (known?.ca === ca && known.allowInsecure === allowInsecure) return known.document;
    const isCurrent = (): boolean => this.#entries.get(issuer) === entry;
    const document = this.#fetch(issuer, access).then(
      (fetched) => {
        if (isCurrent()) this.#entries.set(issuer, entry, fetched.lifetime);
        return fetched.document;
      },
      (error: unknown) => {
        if (isCurrent()) this.#entries.delete(issuer);
        throw error;
      },
    );
    const entry: Entry = { ca, allowInsecure, document };
    this.#entries.set(issuer, entry, Number.POSITIVE_INFINITY);
    return document;
  }

  /** Fetches the document again at the next call, because what it names was not there. */
  forget(issuer: string): void {
    this.#entries.delete(issuer);
  }

  /** Ends the fetches in progress. */
  close(): void {
    this.#closed.abort(new Error('the front-end is shutting down'));
  }

  async #fetch(issuer: string, access: ProviderAccess): Promise<FetchedDocument> {
    const { now, monotonic } = this.#clocks;
    const since = monotonic();
    const { body, headers } = await this.#fetchJson(discoveryAddress(issuer), {
      ...access,
      signal: this.#closed.signal,
    });
    const freshUntil = since + freshFor(headers, now());
    return { document: readDocument(issuer, body), lifetime: freshUntil - monotonic() };
  }
}

function readDocument(issuer: string, body: unknown): ProviderDocument {
  const { issuer: named, jwks_uri: jwksUri, ...endpoints } = isJsonObject(body) ? body : {};
  const { token_endpoint: tokenEndpoint, userinfo_endpoint: userinfoEndpoint } = endpoints;
  const { device_authorization_endpoint: deviceAuthorizationEndpoint } = endpoints;
  // Discovery 4.3: "MUST be identical". Otherwise one provider could name its own keys for the
  // tokens of another.
  if (named !== issuer) {
    const shown = typeof named === 'string' ? `"${formatText(named)}"` : 'no issuer';
    throw new Error(`the discovery document names ${shown} instead of "${formatText(issuer)}"`);
  }
  return {
    jwksUri: readAddress(issuer, jwksUri),
    tokenEndpoint: readAddress(issuer, tokenEndpoint),
    userinfoEndpoint: readAddress(issuer, userinfoEndpoint),
    deviceAuthorizationEndpoint: readAddress(issuer, deviceAuthorizationEndpoint),
  };
}

/**
 * An address of the document. An empty one is none, as some providers write it.
 *
 * An issuer on https may not name an address on plain http, not even on this host: it could reach
 * services that only this host can reach.
 */
function readAddress(issuer: string, address: unknown): string | undefined {
  if (typeof address !== 'string' || address === '') return undefined;
  if (address.length > ADDRESS_LIMIT) {
    throw new Error(
      `the discovery document names an address of more than ${ADDRESS_LIMIT} characters`,
    );
  }
  if (/^https:/i.test(issuer) && !/^https:/i.test(address)) {
    throw new Error('the discovery document of an issuer on https names an address that is not');
  }
  return address;
}
