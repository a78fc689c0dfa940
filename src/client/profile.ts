/**
 * Profiles: where to log in and where the databases are, one JSON file each in the user's
 * configuration folder. There is no secret in them. `pgsso login` writes a profile, options and
 * environment variables come before it.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { FetchJson } from '../http/json-client.ts';
import { errorText, UsageError } from '../lib/errors.ts';
import { isErrno, replaceFile } from '../lib/files.ts';
import { isJsonObject, readJson } from '../lib/json.ts';
import { formatText } from '../lib/text.ts';
import { issuerAddress } from '../oauth/issuer.ts';
import { privateFolder } from './folders.ts';

/** Which of an issuer's tokens is the password. */
export type UseToken = 'access_token' | 'id_token';
const USE_TOKENS: readonly UseToken[] = ['access_token', 'id_token'];

/** A profile, or what options say in its place. An empty scope or audience means none. */
export interface Profile {
  /** The address of a pgsso whose `/.well-known/pgsso.json` says the rest. */
  readonly url?: string | undefined;
  readonly issuer?: string | undefined;
  readonly client_id?: string | undefined;
  readonly client_secret_file?: string | undefined;
  readonly scope?: string | undefined;
  readonly audience?: string | undefined;
  readonly use_token?: UseToken | undefined;
  /** Where the databases are. */
  readonly sql_host?: string | undefined;
  readonly sql_port?: number | undefined;
}

/** The mode bits with which group and world may write. */
const OTHERS_WRITE = 0o022;

/** The members of a profile that are texts. */
const TEXTS = [
  'url',
  'issuer',
  'client_id',
  'client_secret_file',
  'scope',
  'audience',
  'sql_host',
] as const;

/** The profile that is used when none is named. */
export const DEFAULT_PROFILE = 'default';

/**
 * Checks the name of a profile, which is part of a path.
 *
 * @throws UsageError
 */
export function profileName(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(text)) return text;
  throw new UsageError(
    '--profile: give a name of at most 64 letters, digits, "-" and "_", such as work',
  );
}

/**
 * Reads a profile.
 *
 * @returns undefined if there is none of that name
 * @throws Error that names the file if it cannot be used
 */
export async function readProfile(config: string, name: string): Promise<Profile | undefined> {
  const path = profilePath(config, name);
  let text: string;
  try {
    text = await readOwn(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw new Error(`the profile ${path}: ${errorText(error)}`, { cause: error });
  }
  const json = readJson(text);
  if (!json.valid) throw new Error(`the profile ${path}: ${json.problem}`);
  try {
    return parseProfile(json.value);
  } catch (error) {
    throw new Error(`the profile ${path}: ${errorText(error)}`, { cause: error });
  }
}

/** Whoever can write to a profile decides where tokens come from, and where they go. */
async function readOwn(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    const { mode, uid } = await file.stat();
    const me = process.getuid?.();
    if (me !== undefined && uid !== me && uid !== 0) throw new Error('it belongs to another user');
    if (me !== undefined && (mode & OTHERS_WRITE) !== 0)
      throw new Error(`other users can write to it: chmod go-w ${path}`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

/** Writes a profile, as a whole or not at all. */
export async function writeProfile(config: string, name: string, profile: Profile): Promise<void> {
  await privateFolder(config);
  await replaceFile(config, `${name}.json`, `${JSON.stringify(profile, undefined, 2)}\n`);
}

/** The path of a profile. */
export function profilePath(config: string, name: string): string {
  return join(config, `${name}.json`);
}

/**
 * What options say, and for the rest the profile. If they name another issuer, nothing of the
 * profile is used: its client's secret and its audience are for its own issuer, and its host for
 * tokens of that.
 */
export function mergeProfile(options: Profile, profile: Profile): Profile {
  const isOther = options.issuer !== undefined && options.issuer !== profile.issuer;
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return { ...(isOther ? {} : profile), ...Object.fromEntries(given) };
}

/**
 * What a pgsso says to clients at `/.well-known/pgsso.json`.
 *
 * @param url the address of its pages
 * @throws Error with what to do instead
 */
export async function fetchProfile(
  url: string,
  fetchJson: FetchJson,
  signal: AbortSignal,
): Promise<Profile> {
  let address: URL;
  try {
    address = new URL('/.well-known/pgsso.json', issuerAddress(url));
  } catch (error) {
    const reason = errorText(error).replace(/^the issuer/, 'the address');
    throw new UsageError(`--url: ${reason}; give such as https://sso.example.com`);
  }
  const access = { ca: '', timeout: 30_000, allowInsecure: false };
  const { body } = await fetchJson(address.href, { ...access, signal }).catch((error: unknown) => {
    signal.throwIfAborted();
    throw new Error(`--url: ${errorText(error)}; without it give --issuer and --client-id`, {
      cause: error,
    });
  });
  try {
    const { issuer, client_id, scope, audience, sql_host, sql_port } = parseProfile(body);
    if (issuer === undefined || client_id === undefined)
      throw new Error('it has no issuer or no client_id (setting pgsso.client.client_id)');
    if (sql_host !== undefined && !/^[\w.:-]+$/.test(sql_host))
      throw new Error('sql_host is not the name or address of a host');
    return { url, issuer, client_id, scope, audience, sql_host, sql_port };
  } catch (error) {
    throw new Error(`--url: ${address.href}: ${errorText(error)}`, { cause: error });
  }
}

/** @throws Error that names the member and says what it may be */
function parseProfile(value: unknown): Profile {
  if (!isJsonObject(value)) throw new Error('it is not a JSON object');
  const texts = TEXTS.flatMap((name) => {
    const text = value[name];
    if (text === undefined || text === null || text === '') return [];
    if (typeof text !== 'string' || text.includes('\0')) throw new Error(`${name} is not a text`);
    return [[name, text]];
  });
  return {
    ...Object.fromEntries(texts),
    ...parseUseToken(value['use_token']),
    ...parsePort(value['sql_port']),
  };
}

function parseUseToken(value: unknown): Pick<Profile, 'use_token'> {
  if (value === undefined) return {};
  const found = USE_TOKENS.find((name) => name === value);
  if (found === undefined) throw new Error(`use_token is not one of ${USE_TOKENS.join(', ')}`);
  return { use_token: found };
}

function parsePort(value: unknown): Pick<Profile, 'sql_port'> {
  if (value === undefined || value === null) return {};
  const port = Number(value);
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new Error(`sql_port "${formatText(String(value))}" is not a port`);
  return { sql_port: port };
}
