/**
 * The tokens of earlier logins, one file for each client of an issuer, in the user's state folder.
 * The name of a file comes from issuer, client, scope and audience, so that a token is never used
 * for something else than it was asked for.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { withFileLock } from '../lib/file-lock.ts';
import { isErrno, readPrivateFile, removeIfThere, replaceFile } from '../lib/files.ts';
import { isJsonObject, readJson } from '../lib/json.ts';
import type { GrantedTokens, OAuthClient } from '../oauth/issuer.ts';
import { privateFolder } from './folders.ts';
import { readClaims } from './given-token.ts';

/** One token, with its times in milliseconds since the epoch. */
export interface StoredToken {
  readonly token: string;
  readonly obtainedAt: number;
  readonly expiresAt: number;
}

/** The tokens of one login. */
export interface StoredTokens {
  readonly access: StoredToken | undefined;
  readonly id: StoredToken | undefined;
  readonly refresh: string | undefined;
}

/** For a token of which neither the issuer nor the token itself says when it expires, in ms. */
const UNKNOWN_LIFETIME = 5 * 60_000;

/** The tokens of one client of an issuer. */
export class TokenStore {
  readonly #folder: string;
  readonly #name: string;

  private constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  /** @throws Error if the folder is not this user's alone */
  static async open(folder: string, client: OAuthClient): Promise<TokenStore> {
    const { issuer, clientId, scope = '', audience = '' } = client;
    const hash = createHash('sha256').update(JSON.stringify([issuer, clientId, scope, audience]));
    return new TokenStore(await privateFolder(folder), hash.digest('hex').slice(0, 32));
  }

  /**
   * The tokens, or undefined without any. A file that cannot be understood counts as none: the next
   * login replaces it.
   *
   * @throws PgError F0000 if others have access to the file
   */
  async read(): Promise<StoredTokens | undefined> {
    const path = join(this.#folder, `${this.#name}.json`);
    try {
      await stat(path);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
    const json = readJson((await readPrivateFile('the tokens in', path)).toString());
    if (!json.valid || !isJsonObject(json.value)) return undefined;
    const { access, id, refresh } = json.value;
    return {
      access: parseToken(access),
      id: parseToken(id),
      refresh: typeof refresh === 'string' ? refresh : undefined,
    };
  }

  /** Replaces the tokens, with mode 0600 from the first moment on. */
  async write(tokens: StoredTokens): Promise<void> {
    await replaceFile(this.#folder, `${this.#name}.json`, JSON.stringify(tokens));
  }

  /** Forgets the tokens. */
  async remove(): Promise<void> {
    await removeIfThere(join(this.#folder, `${this.#name}.json`));
  }

  /** Runs the work while no other process of this user does the same for these tokens. */
  lock<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return withFileLock(join(this.#folder, `${this.#name}.lock`), signal, work);
  }
}

/**
 * Granted tokens with their times. A token ends at the earlier of what the issuer and what the
 * token says, so that a clock that is slow here lets no expired token pass for a good one.
 *
 * @param before keeps its refresh token if no other was granted
 */
export function storedTokens(
  granted: GrantedTokens,
  now: number,
  before?: StoredTokens,
): StoredTokens {
  const withTimes = (token: string, lifetime?: number): StoredToken => ({
    token,
    obtainedAt: now,
    expiresAt: endOf(token, now, lifetime),
  });
  const { accessToken, idToken, refreshToken, lifetime } = granted;
  return {
    access: withTimes(accessToken, lifetime),
    id: idToken === undefined ? before?.id : withTimes(idToken),
    refresh: refreshToken ?? before?.refresh,
  };
}

function endOf(token: string, now: number, lifetime: number | undefined): number {
  const { expiresAt } = readClaims(token);
  const asIssued = lifetime === undefined ? undefined : now + lifetime;
  return Math.min(asIssued ?? expiresAt ?? now + UNKNOWN_LIFETIME, expiresAt ?? Infinity);
}

function parseToken(value: unknown): StoredToken | undefined {
  if (!isJsonObject(value)) return undefined;
  const { token, obtainedAt, expiresAt } = value;
  if (typeof token !== 'string' || typeof expiresAt !== 'number') return undefined;
  return { token, expiresAt, obtainedAt: typeof obtainedAt === 'number' ? obtainedAt : 0 };
}
