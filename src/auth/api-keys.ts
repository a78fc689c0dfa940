/**
 * API keys in a login: the claim of a genuine token may hold the secret of a key that an operator
 * made. A valid key decides the user, before the user claim and the identity map. All other checks
 * are made as for any user.
 */

import { timingSafeEqual } from 'node:crypto';
import { foldName, formatText, isUsableName } from '../lib/text.ts';
import {
  API_KEY_LIMIT,
  type ApiKey,
  type ApiKeys,
  digestOf,
  isSecret,
} from '../settings/api-keys.ts';
import { CheckFailure } from './refusals.ts';
import type { Token } from './token.ts';

/**
 * What the claim for API keys holds. Undefined if no claim is configured or the token does not
 * have it.
 */
export type PresentedKey =
  | { readonly key: ApiKey }
  | { readonly key: undefined; readonly why: string }
  | undefined;

/**
 * Finds the key that a token presents.
 *
 * @param claim the claim's name; empty if none is configured
 * @param now milliseconds since the epoch
 */
export function findApiKey(token: Token, claim: string, keys: ApiKeys, now: number): PresentedKey {
  const secret = claim === '' ? undefined : token.claims.get(claim);
  if (secret === undefined) return undefined;
  if (typeof secret !== 'string' || !isSecret(secret)) return { key: undefined, why: 'no API key' };
  const digest = Buffer.from(digestOf(secret));
  let key: ApiKey | undefined;
  // Every key is compared, each in constant time, so that the time tells nothing about the digests.
  for (const candidate of keys.values()) {
    if (timingSafeEqual(Buffer.from(candidate.digest), digest)) key = candidate;
  }
  if (key === undefined) return { key, why: 'an unknown API key' };
  if (key.expiresAt !== undefined && key.expiresAt <= now)
    return { key: undefined, why: `the expired API key ${formatText(key.name)}` };
  // The console makes no such key, but the settings may have been written by hand.
  if (!isUsableName(foldName(key.user)))
    return {
      key: undefined,
      why: `the API key ${formatText(key.name)}, whose user is no SQL name`,
    };
  return { key };
}

/**
 * Adds to the failure of a later check why the presented key did not count. This is for the log.
 *
 * @returns the error itself unless it is a CheckFailure and there was such a key
 */
export function noteKey(error: unknown, claim: string, presented: PresentedKey): unknown {
  if (!(error instanceof CheckFailure) || presented === undefined || presented.key) return error;
  const found = `${error.details.found} (${presented.why} in the claim ${formatText(claim)})`;
  return new CheckFailure(error.check, { ...error.details, found });
}

/**
 * When each key was last used, in this process and since its start. Uses are stored by digest: a
 * new key with the name of an old one has not been used.
 */
export class ApiKeyUses {
  /** In the order of the uses, oldest first. */
  readonly #uses = new Map<string, number>();

  /** Notes a login. */
  note({ digest }: Pick<ApiKey, 'digest'>, at: number): void {
    this.#uses.delete(digest);
    this.#uses.set(digest, at);
    const [oldest] = this.#uses.keys();
    if (this.#uses.size > API_KEY_LIMIT && oldest !== undefined) this.#uses.delete(oldest);
  }

  /** Milliseconds since the epoch. Undefined if the key has not been used since the start. */
  lastUse({ digest }: ApiKey): number | undefined {
    return this.#uses.get(digest);
  }
}
