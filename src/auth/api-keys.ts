/**
 * API keys at a login: the secret in the claim of a token whose signature is good, held against
 * those of the snapshot. An operator made the key, so it decides the user before the user claim and
 * the identity map do; what a user may be is looked at as for any other.
 */

import { timingSafeEqual } from 'node:crypto';
import { LRUCache } from 'lru-cache';
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
 * What a claim for API keys was found to hold; undefined: no claim is looked at, or the token has
 * none.
 */
export type PresentedKey =
  | { readonly key: ApiKey }
  | { readonly key: undefined; readonly why: string }
  | undefined;

/**
 * Looks for the key that a token presents.
 *
 * @param claim the claim's name; empty: none is looked at
 * @param now milliseconds since the epoch
 */
export function findApiKey(token: Token, claim: string, keys: ApiKeys, now: number): PresentedKey {
  const secret = claim === '' ? undefined : token.claims.get(claim);
  if (secret === undefined) return undefined;
  if (typeof secret !== 'string' || !isSecret(secret)) return { key: undefined, why: 'no API key' };
  const digest = Buffer.from(digestOf(secret));
  let key: ApiKey | undefined;
  // All of them each time, and each in constant time: how long it takes tells nothing of which
  // digest was how near.
  for (const candidate of keys.values()) {
    if (timingSafeEqual(Buffer.from(candidate.digest), digest)) key = candidate;
  }
  if (key === undefined) return { key, why: 'an unknown API key' };
  if (key.expiresAt !== undefined && key.expiresAt <= now)
    return { key: undefined, why: `the expired API key ${formatText(key.name)}` };
  // The console makes no such key; a hand may.
  if (!isUsableName(foldName(key.user)))
    return {
      key: undefined,
      why: `the API key ${formatText(key.name)}, whose user is no SQL name`,
    };
  return { key };
}

/**
 * The error of a later check; its reason, for the log, also tells of a key that was good for
 * nothing.
 */
export function noteKey(error: unknown, claim: string, presented: PresentedKey): unknown {
  if (!(error instanceof CheckFailure) || presented === undefined || presented.key) return error;
  const found = `${error.finding.found} (${presented.why} in the claim ${formatText(claim)})`;
  return new CheckFailure(error.check, { ...error.finding, found });
}

/**
 * When this process last let a key in; nobody else knows, and a restart forgets it. By digest: a
 * new key of an old name is another.
 */
export class ApiKeyUses {
  readonly #uses = new LRUCache<string, number>({ max: API_KEY_LIMIT });

  /** Notes a login. */
  note({ digest }: ApiKey, at: number): void {
    this.#uses.set(digest, at);
  }

  /** Milliseconds since the epoch; undefined: not used since the start. */
  lastUse({ digest }: ApiKey): number | undefined {
    return this.#uses.peek(digest);
  }
}
