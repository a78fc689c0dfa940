/**
 * API keys: secrets in a claim of a valid token that decide the SQL user. The settings store holds
 * them as digests, and a snapshot carries them, so that a login reads settings and keys of one
 * moment and a dropped key is refused at once.
 */

import { createHash, randomBytes } from 'node:crypto';
import { PgError } from '../lib/errors.ts';
import { quote } from './values.ts';

/** A key as it is stored. */
export interface ApiKey {
  readonly name: string;
  /** The SQL user that the key stands for, folded. */
  readonly user: string;
  /** SHA-256 of the secret, in hex. */
  readonly digest: string;
  /** The SQL user who created it. */
  readonly createdBy: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  /** Milliseconds since the epoch, from which the key is refused; undefined: never. */
  readonly expiresAt: number | undefined;
}

/** All keys by name. */
export type ApiKeys = ReadonlyMap<string, ApiKey>;

/** A change that an operator asks for. The store gets only the digest of a new key. */
export type ApiKeyChange =
  | ({ readonly kind: 'create' } & Pick<ApiKey, 'name' | 'user' | 'digest' | 'expiresAt'>)
  | { readonly kind: 'drop'; readonly name: string };

/** No keys. */
export const noApiKeys: ApiKeys = new Map();

/** The number of keys. Each token with a key is compared with all of them. */
export const API_KEY_LIMIT = 1000;

/** 256 bits. 128 would be enough against guessing. */
const SECRET_BYTES = 32;

/** Begins each secret, so that scanners of repositories recognise it. */
const PREFIX = 'pgsso_';
const SECRET = new RegExp(`^${PREFIX}[A-Za-z0-9_-]{${Math.ceil((SECRET_BYTES * 4) / 3)}}$`);

const DIGEST = /^[0-9a-f]{64}$/;

/** A new random secret. */
export function newSecret(): string {
  return PREFIX + randomBytes(SECRET_BYTES).toString('base64url');
}

/** Whether a text has the form of a secret. */
export function isSecret(text: string): boolean {
  return SECRET.test(text);
}

/** The digest of a secret. A fast hash is enough, since nobody can try 2²⁵⁶ secrets. */
export function digestOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/**
 * The keys after a change.
 *
 * @throws PgError 42710 for the name of an existing key, 42704 for an unknown name, 54000 if there
 *   are too many keys
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
 * Checks a key that was read from the store.
 *
 * @throws Error that names the key
 */
export function checkApiKey(key: ApiKey): ApiKey {
  const { name, user, digest, createdAt, expiresAt } = key;
  if (name === '' || user === '')
    throw new Error(`API key ${quote(name)} is without a name or a user`);
  if (!DIGEST.test(digest))
    throw new Error(`API key ${quote(name)}: its digest is no SHA-256 in hex`);
  // An invalid expiry must not mean "never expires".
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
