/**
 * Remembers whose signature was verified, so that a service which reconnects with the same token
 * pays for that once. Nothing else is remembered: every other check of a login is made each time.
 * An entry holds for one token, to the byte, under one snapshot of the settings and one key set,
 * both compared by identity: the same call with the same arguments could only give the same answer.
 * Hence it cannot outlive a key that was withdrawn or a setting that was changed.
 */

import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { KeySet } from '../settings/jwks.ts';
import type { LoginSettings } from '../settings/snapshot.ts';

/** As many services as one front-end has; an entry is about 200 bytes. */
const TOKEN_LIMIT = 10_000;

interface Verified {
  readonly keys: KeySet;
  readonly values: LoginSettings;
  readonly expiresAt: number;
}

/** The verified tokens of a process. */
export class VerifiedTokens {
  readonly #now: () => number;
  readonly #tokens = new LRUCache<string, Verified>({ max: TOKEN_LIMIT });

  /** @param now milliseconds since the epoch */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** How many there are. */
  get size(): number {
    return this.#tokens.size;
  }

  /** Whether the token's signature was verified with this key set under these settings. */
  has(compact: string, keys: KeySet, values: LoginSettings): boolean {
    const digest = digestOf(compact);
    const entry = this.#tokens.get(digest);
    if (entry?.keys === keys && entry.values === values && this.#now() < entry.expiresAt)
      return true;
    this.#tokens.delete(digest);
    return false;
  }

  /** Remembers a token whose signature has just been verified. */
  add(compact: string, verified: Verified): void {
    // Entries of another snapshot are of no more use, and would keep it in memory.
    const [other] = this.#tokens.values();
    if (other !== undefined && other.values !== verified.values) this.#tokens.clear();
    this.#tokens.set(digestOf(compact), verified);
  }
}

/**
 * Not the token itself, which is a credential: SHA-256, since two tokens with one digest would be
 * taken for each other.
 */
function digestOf(compact: string): string {
  return createHash('sha256').update(compact).digest('base64');
}
