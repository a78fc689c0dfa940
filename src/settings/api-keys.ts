/**
 * API keys: secrets that, in a claim of a valid token, decide the SQL user. They are kept with the
 * settings, and a snapshot carries them, so that a login reads both at one moment and no key
 * outlives its DROP. Only a digest of the secret is kept.
 */

import { createHash, randomBytes } from 'node:crypto';
import { PgError } from '../lib/errors.ts';
import { quote } from './values.ts';

/** A key as it is kept. */
export interface ApiKey {
  readonly name: string;
  /** The SQL user that it stands for, folded. */
  readonly user: string;
  /** SHA-256 of the secret, in hex. */
  readonly digest: string;
  /** Who created it, and when, in ms since the epoch. */
  readonly createdBy: string;
  readonly createdAt: number;
  /** From when on it is good for nothing, in ms since the epoch; undefined: it does not expire. */
  readonly expiresAt: number | undefined;
}

/** All keys, by name. */
export type ApiKeys = ReadonlyMap<string, ApiKey>;

/** What an operator asks for; of a new key the store knows the digest alone. */
export type ApiKeyChange =
  | ({ readonly kind: 'create' } & Pick<ApiKey, 'name' | 'user' | 'digest' | 'expiresAt'>)
  | { readonly kind: 'drop'; readonly name: string };

/** Where there are none. */
export const noApiKeys: ApiKeys = new Map();

/** Each token with a key is held against all of them. */
export const API_KEY_LIMIT = 1000;

/** Bits are 256, where 128 would do. */
const SECRET_BYTES = 32;

/** So that a scanner of repositories, or a person, can tell what it is. */
const PREFIX = 'pgsso_';
const SECRET = new RegExp(`^${PREFIX}[A-Za-z0-9_-]{${Math.ceil((SECRET_BYTES * 4) / 3)}}$`);

const DIGEST = /^[0-9a-f]{64}$/;

/** A secret that nobody else has. */
export function newSecret(): string {
  return PREFIX + randomBytes(SECRET_BYTES).toString('base64url');
}

/** Whether a text has the form of a secret. */
export function isSecret(text: string): boolean {
  return SECRET.test(text);
}

/** What is kept of a secret. A fast hash does: nobody can go through 2²⁵⁶ secrets. */
export function digestOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/**
 * The keys after a change.
 *
 * @throws PgError 42710 for a name that is taken, 42704 for one that there is not, 54000 when there
 *   are too many
 */
export function applyApiKeyChange(
  keys: ApiKeys,
  change: ApiKeyChange,
  user: string,
  at: number,
): ApiKeys {
  const changed = new Map(keys);
  if (change.kind === 'drop') {
    if (!changed.delete(change.name)) throw unknownKey(change.name);
    return changed;
  }
  if (keys.has(change.name)) throw nameTaken(change.name);
  if (keys.size >= API_KEY_LIMIT) throw tooMany();
  const { kind: _, ...key } = change;
  return changed.set(change.name, Object.freeze({ ...key, createdBy: user, createdAt: at }));
}

/**
 * A key as it was stored, checked again.
 *
 * @throws Error that names it
 */
export function checkApiKey(key: ApiKey): ApiKey {
  const { name, user, digest, createdAt, expiresAt } = key;
  if (name === '' || user === '')
    throw new Error(`API key ${quote(name)} is without a name or a user`);
  if (!DIGEST.test(digest))
    throw new Error(`API key ${quote(name)}: its digest is no SHA-256 in hex`);
  // An expiry that is no time must not become none.
  if (![createdAt, expiresAt ?? 0].every((time) => Number.isFinite(time))) {
    throw new Error(`API key ${quote(name)}: a time that is none`);
  }
  return Object.freeze(key);
}

function unknownKey(name: string): PgError {
  return new PgError({
    code: 'unknown_api_key',
    message: `API key ${quote(name)} does not exist`,
    hint: 'SHOW API KEYS lists the keys.',
  });
}

function nameTaken(name: string): PgError {
  return new PgError({
    code: 'duplicate_api_key',
    message: `API key ${quote(name)} already exists`,
    hint: 'DROP API KEY ends it.',
  });
}

function tooMany(): PgError {
  return new PgError({
    code: 'too_many_api_keys',
    message: `there are ${API_KEY_LIMIT} API keys already`,
  });
}
