/**
 * The last good keys of each issuer, stored in the data directory, so that logins work after a
 * restart during an outage of the issuer. Public keys are not secret, but a user that can write
 * them can log in as anybody. So only we may write the directory, and the files are read as
 * strictly as answers from the network.
 */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno, replaceFile } from '../lib/files.ts';
import { isJsonObject } from '../lib/json.ts';

/** Increased when the format changes. A file of another format is not read. */
const FORMAT = 1;

/** What is stored of an issuer's key set. */
export interface StoredKeys {
  readonly issuer: string;
  /**
   * Where the keys come from: a KeyOrigin as text. Keys of another origin are not for these
   * settings.
   */
  readonly origin: string;
  /** When the fetch began, in milliseconds since the epoch. */
  readonly fetchedAt: number;
  /** The JWK set. */
  readonly jwks: unknown;
}

/** Stores the last good keys. */
export interface KeyStore {
  /**
   * Resolves to undefined if nothing is stored for this issuer and origin.
   *
   * @throws Error if what is stored cannot be read
   */
  read(issuer: string, origin: string): Promise<StoredKeys | undefined>;
  /** Replaces what is stored for the issuer. */
  write(keys: StoredKeys): Promise<void>;
}

/** Stores nothing. For commands that must leave no traces. */
export const noKeyStore: KeyStore = {
  read: async () => undefined,
  write: async () => undefined,
};

/** The store in a directory: one file for each issuer. */
export class KeyFiles implements KeyStore {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async read(issuer: string, origin: string): Promise<StoredKeys | undefined> {
    let text: string;
    try {
      text = await readFile(join(this.#directory, nameOf(issuer)), 'utf8');
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
    const file: unknown = JSON.parse(text);
    if (!isJsonObject(file) || file['format'] !== FORMAT)
      throw new Error('it is of another format');
    const { fetchedAt, jwks } = file;
    const time = typeof fetchedAt === 'string' ? Date.parse(fetchedAt) : Number.NaN;
    if (Number.isNaN(time)) throw new Error('its fetchedAt is no time');
    return file['issuer'] === issuer && file['origin'] === digest(origin)
      ? { issuer, origin, fetchedAt: time, jwks }
      : undefined;
  }

  /** Replaces the issuer's file, durably. */
  async write({ issuer, origin, fetchedAt, jwks }: StoredKeys): Promise<void> {
    const content = {
      format: FORMAT,
      issuer,
      origin: digest(origin),
      fetchedAt: new Date(fetchedAt).toISOString(),
      jwks,
    };
    await replaceFile(this.#directory, nameOf(issuer), `${JSON.stringify(content)}\n`);
  }
}

/** The name has the issuer's digest, because an issuer may hold any character. */
function nameOf(issuer: string): string {
  return `keys.${digest(issuer).slice(0, 32)}.json`;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
