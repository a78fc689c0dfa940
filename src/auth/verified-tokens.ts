/**
 * Remembers tokens whose signature was verified, so that a service that reconnects with the same
 * token pays for that once. Every other check of a login is made each time. An entry holds for one
 * token, to the byte, under one snapshot of the settings and one key set, both compared by
 * identity. Hence it cannot outlive a key that was withdrawn or a setting that was changed.
 */

import { createHash } from 'node:crypto';
import { ExpiringCache } from '../lib/expiring-cache.ts';
import type { KeySet } from '../settings/jwks.ts';
import type { LoginSettings } from '../settings/snapshot.ts';

/** More services than one front-end has. An entry takes about 300 bytes. */
const TOKEN_LIMIT = 10_000;

/** What a token was verified with. */
interface Verified {
  readonly keys: KeySet;
  readonly values: LoginSettings;
  /** The token's `exp`, in milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** The verified tokens of a process. While there are as many as may be, others are not added. */
export class VerifiedTokens {
  readonly #now: () => number;
  readonly #tokens = new ExpiringCache<Verified>(TOKEN_LIMIT);
  #values: LoginSettings | undefined;

  /** @param now milliseconds since the epoch */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** How many there are. */
  get size(): number {
    return this.#tokens.size;
  }

  /** Whether the token's signature was verified with this key set under these settings. */
  has(compact: string, keys: KeySet, settings: LoginSettings): boolean {
    const values = snapshotOf(settings);
    const digest = digestOf(compact);
    const entry = this.#tokens.get(digest);
    if (entry?.keys === keys && entry.values === values && this.#now() < entry.expiresAt)
      return true;
    this.#tokens.delete(digest);
    return false;
  }

  /** Remembers a token whose signature has just been verified, until it expires. */
  add(compact: string, { keys, values: settings, expiresAt }: Verified): void {
    const values = snapshotOf(settings);
    // Entries of another snapshot can no longer be found, and would keep it in memory.
    if (this.#values !== values) this.#tokens.clear();
    this.#values = values;
    this.#tokens.set(digestOf(compact), { keys, values, expiresAt }, expiresAt - this.#now());
  }
}

/** Which keys there are is compared apart. So a token may be known from any way to log in. */
function snapshotOf(values: LoginSettings): LoginSettings {
  return values.derived?.from ?? values;
}

/**
 * The key of an entry. The token itself is a credential and is not stored. The digest is SHA-256,
 * because two tokens with one digest would be taken for each other.
 */
function digestOf(compact: string): string {
  return createHash('sha256').update(compact).digest('base64');
}
