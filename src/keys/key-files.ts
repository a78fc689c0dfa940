/**
 * The last good keys of each issuer in the data directory, so that a restart while the issuer is
 * away locks nobody out. Public keys are no secret, but whoever could write them could let himself
 * in: the directory is ours alone, and the files are read as strictly as the network.
 */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno, replaceFile } from '../lib/files.ts';
import { isJsonObject } from '../lib/json.ts';

/** Raised when the form changes; a file of another form is not read. */
const FORMAT = 1;

/** What is kept of an issuer's key set. */
export interface KeptKeys {
  readonly issuer: string;
  /**
   * What the keys were fetched with, {@link KeyOrigin} as text: keys that came another way are not
   * for these settings.
   */
  readonly origin: string;
  /** When the fetch began, in milliseconds since the epoch. */
  readonly fetchedAt: number;
  /** The JWK set. */
  readonly jwks: unknown;
}

/** Where last good keys are kept. */
export interface KeyStore {
  /**
   * Resolves to undefined when there is nothing for this issuer and origin. Throws when there is
   * something that cannot be read.
   */
  read(issuer: string, origin: string): Promise<KeptKeys | undefined>;
  write(kept: KeptKeys): Promise<void>;
}

/** A shelf on which nothing is kept: for a look at a login that leaves nothing behind. */
export const noKeyStore: KeyStore = {
  read: async () => undefined,
  write: async () => undefined,
};

/** The shelf in a directory: one file an issuer. */
export class KeyFiles implements KeyStore {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async read(issuer: string, origin: string): Promise<KeptKeys | undefined> {
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
  async write({ issuer, origin, fetchedAt, jwks }: KeptKeys): Promise<void> {
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

/** An issuer may hold any character; its digest is a file name of one length. */
function nameOf(issuer: string): string {
  return `keys.${digest(issuer).slice(0, 32)}.json`;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
