/**
 * Asks an issuer for the claims about the owner of a token (OpenID Connect Core 5.3), for tokens
 * that do not hold the groups themselves. The token is sent only to the issuer that signed it, at
 * the address in that issuer's discovery document.
 */
import type { FetchJson } from '../http/json-client.ts';
import { type Discovery, providerAccess } from '../keys/discovery.ts';
import { orAborted } from '../lib/abort.ts';
import { isJsonObject, type JsonObject } from '../lib/json.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import { NoUserinfoEndpoint } from './groups.ts';

/** The userinfo endpoints of all issuers. */
export class Userinfo {
  readonly #fetchJson: FetchJson;
  readonly #discovery: Discovery;
  readonly #closed = new AbortController();

  constructor(fetchJson: FetchJson, discovery: Discovery) {
    this.#fetchJson = fetchJson;
    this.#discovery = discovery;
  }

  /**
   * The members of the issuer's answer.
   *
   * @throws NoUserinfoEndpoint if the issuer names no endpoint; HttpFailure; Error if the answer is
   *   not an object; the signal's reason
   */
  readonly lookup = async (
    issuer: string,
    token: string,
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<JsonObject> => {
    const access = providerAccess(values);
    const { userinfoEndpoint } = await orAborted(
      this.#discovery.find(issuer, access, this.#closed.signal),
      signal,
    );
    if (userinfoEndpoint === undefined)
      throw new NoUserinfoEndpoint('the discovery document names no userinfo_endpoint');
    const { body } = await this.#fetchJson(userinfoEndpoint, {
      ...access,
      signal,
      authorization: `Bearer ${token}`,
    });
    if (!isJsonObject(body)) throw new Error('the answer of userinfo is not a JSON object');
    return new Map(Object.entries(body));
  };

  /** Ends the lookups that are in progress. */
  close(): void {
    this.#closed.abort(new Error('the front-end is shutting down'));
  }
}
