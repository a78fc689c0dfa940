/**
 * What an issuer says of itself: its discovery document (OpenID Connect Discovery 1.0). Everything
 * that is fetched from an issuer begins here, so the document is kept for as long as its server
 * allows, and however many ask for it at once, it is fetched once.
 */

import { LRUCache } from 'lru-cache';
import { type FetchJson, type ProviderAccess, remainingFreshness } from '../http/json-client.ts';
import { isJsonObject } from '../lib/json.ts';
import { formatText } from '../lib/text.ts';
import type { LoginSettings } from '../settings/snapshot.ts';

const MINUTE = 60_000;

/**
 * What issuers say about freshness is kept within these, since it is us who have to notice a key
 * that was withdrawn; without a word:
 */
const FRESH_MINIMUM = MINUTE;
const FRESH_MAXIMUM = 24 * 60 * MINUTE;
const FRESH_DEFAULT = 10 * MINUTE;

/** More issuers than anybody configures. */
const ISSUER_LIMIT = 1000;

/** Where an issuer's services are. */
export interface ProviderDocument {
  readonly jwksUri: string;
  /** Undefined when the issuer has none, as SPIFFE's and Kubernetes' have not. */
  readonly tokenEndpoint: string | undefined;
  /** Undefined when the issuer has none. */
  readonly userinfoEndpoint: string | undefined;
}

/** A document, or its fetch while that runs. */
interface Entry extends Pick<ProviderAccess, 'ca' | 'allowInsecure'> {
  readonly document: Promise<ProviderDocument>;
  /** Milliseconds since the epoch. */
  freshUntil: number;
}

/** How the settings want an issuer to be asked. */
export function providerAccess(values: LoginSettings): ProviderAccess {
  return {
    ca: values['server.jwt_authentication.issuers.custom_ca'],
    timeout: values['server.jwt_authentication.client.timeout'],
    allowInsecure: values['pgsso.allow_insecure_http'],
  };
}

/** How long an answer is used before it is asked for again, in milliseconds. */
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
  readonly #now: () => number;
  readonly #entries = new LRUCache<string, Entry>({ max: ISSUER_LIMIT });

  /** @param now milliseconds since the epoch */
  constructor(fetchJson: FetchJson, now: () => number) {
    this.#fetchJson = fetchJson;
    this.#now = now;
  }

  /**
   * The document of an issuer.
   *
   * @param signal ends the fetch for everybody who waits for it: the end of the process, never that
   *   of a login
   * @throws HttpFailure, or Error when the document is not the issuer's or lacks what is needed
   */
  find(issuer: string, access: ProviderAccess, signal: AbortSignal): Promise<ProviderDocument> {
    const { ca, allowInsecure } = access;
    const known = this.#entries.get(issuer);
    if (
      known &&
      known.ca === ca &&
      known.allowInsecure === allowInsecure &&
      this.#now() < known.freshUntil
    ) {
      return known.document;
    }
    const forgetFailure = (error: unknown): never => {
      if (this.#entries.get(issuer) === entry) this.#entries.delete(issuer);
      throw error;
    };
    const document = this.#fetch(issuer, access, signal).then((fetched) => {
      entry.freshUntil = fetched.freshUntil;
      return fetched.document;
    }, forgetFailure);
    const entry: Entry = { ca, allowInsecure, document, freshUntil: Number.POSITIVE_INFINITY };
    this.#entries.set(issuer, entry);
    return document;
  }

  /** Fetches the document again when it is next asked for: what it named was not there. */
  forget(issuer: string): void {
    this.#entries.delete(issuer);
  }

  async #fetch(
    issuer: string,
    access: ProviderAccess,
    signal: AbortSignal,
  ): Promise<{ document: ProviderDocument; freshUntil: number }> {
    const since = this.#now();
    const { body, headers } = await this.#fetchJson(discoveryAddress(issuer), {
      ...access,
      signal,
    });
    return { document: readDocument(issuer, body), freshUntil: since + freshFor(headers, since) };
  }
}

function readDocument(issuer: string, body: unknown): ProviderDocument {
  const { issuer: named, jwks_uri: jwksUri, ...endpoints } = isJsonObject(body) ? body : {};
  const { token_endpoint: tokenEndpoint, userinfo_endpoint: userinfoEndpoint } = endpoints;
  // Discovery 4.3: "MUST be identical". Otherwise one provider could hand out its keys for the
  // tokens of another.
  if (named !== issuer) {
    const shown = typeof named === 'string' ? `"${formatText(named)}"` : 'no issuer';
    throw new Error(`the discovery document names ${shown} instead of "${formatText(issuer)}"`);
  }
  if (typeof jwksUri !== 'string') throw new Error('the discovery document has no jwks_uri');
  return {
    jwksUri: asSafeAsIssuer(issuer, jwksUri),
    tokenEndpoint:
      typeof tokenEndpoint === 'string' ? asSafeAsIssuer(issuer, tokenEndpoint) : undefined,
    userinfoEndpoint:
      typeof userinfoEndpoint === 'string' ? asSafeAsIssuer(issuer, userinfoEndpoint) : undefined,
  };
}

/**
 * An issuer on https may not send us to plain http, not even on this host, where it could reach
 * what only we can.
 */
function asSafeAsIssuer(issuer: string, address: string): string {
  if (/^https:/i.test(issuer) && !/^https:/i.test(address)) {
    throw new Error('the discovery document of an issuer on https names an address that is not');
  }
  return address;
}
