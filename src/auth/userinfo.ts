/**
 * Asks an issuer for the claims about the owner of a token (OpenID Connect Core 5.3), for tokens
 * that do not hold the groups themselves. The token is sent only to the issuer that signed it, at
 * the address in that issuer's discovery document.
 */
import type { FetchJson } from '../http/json-client.ts';
import { type Discovery, providerAccess } from '../keys/discovery.ts';
import { orAborted } from '../lib/abort.ts';
import { isJsonObject, type JsonObject } from '../lib/json.ts';
import { Limiter } from '../lib/limiter.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import { NoUserinfoEndpoint } from './groups.ts';

/** How many logins may wait for userinfo at once. Each of them holds a place for logins. */
export interface UserinfoLimits {
  readonly waitingLimit: number;
  /** Of one issuer, so that one that hangs leaves room for the others. */
  readonly waitingShare: number;
}

/** The userinfo endpoints of all issuers. */
export class Userinfo {
  readonly #fetchJson: FetchJson;
  readonly #discovery: Discovery;
  readonly #limits: UserinfoLimits;
  readonly #waiting: Limiter;

  constructor(fetchJson: FetchJson, discovery: Discovery, limits: UserinfoLimits) {
    this.#fetchJson = fetchJson;
    this.#discovery = discovery;
    this.#limits = limits;
    this.#waiting = new Limiter({ limit: limits.waitingLimit, share: limits.waitingShare });
  }

  /**
   * The members of the issuer's answer.
   *
   * @throws NoUserinfoEndpoint if the issuer names no endpoint; HttpFailure; Error if the answer is
   *   not an object, or too many logins wait for one; the signal's reason
   */
  readonly lookup = async (
    issuer: string,
    token: string,
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<JsonObject> => {
    const permit = this.#waiting.acquire(issuer);
    if (!permit) {
      const { waitingLimit, waitingShare } = this.#limits;
      throw new Error(
        `too many logins wait: at most ${waitingShare} of one issuer, ${waitingLimit} in all`,
      );
    }
    try {
      return await this.#ask(issuer, token, values, signal);
    } finally {
      permit.release();
    }
  };

  async #ask(
    issuer: string,
    token: string,
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<JsonObject> {
    const access = providerAccess(values);
    const { userinfoEndpoint } = await orAborted(this.#discovery.find(issuer, access), signal);
    if (userinfoEndpoint === undefined)
      throw new NoUserinfoEndpoint('the discovery document names no userinfo_endpoint');
    const { body } = await this.#fetchJson(userinfoEndpoint, {
      ...access,
      signal,
      authorization: `Bearer ${token}`,
    });
    if (!isJsonObject(body)) throw new Error('the answer of userinfo is not a JSON object');
    return new Map(Object.entries(body));
  }
}
