/**
 * The URL of a database that pgsso itself logs in to (`--settings`, `--directory`). Its form is
 * that of `--backend`, with a user. The password comes from the environment or from a password
 * file. TLS is as strict as towards the backend.
 */

import type { ConnectionOptions } from 'node:tls';
import type pg from 'pg';
import { PasswordFile } from '../backend/passfile.ts';
import { BackendTarget } from '../backend/target.ts';
import {
  type BackendHost,
  formatHost,
  isSocketDirectory,
  type OptionSource,
} from '../backend/url.ts';
import { parseBackendUrl } from '../backend/url-parser.ts';
import { errorText, UsageError } from '../lib/errors.ts';
import { isLoopback } from '../lib/network.ts';

/** A database, with what is needed to log in to it. */
export interface DatabaseLogin {
  /** Host and port, for the log. */
  readonly label: string;
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  /** For a new connection. It is as the password file was when last read. */
  password(): string | undefined;
  /** The options of TLS. Undefined: plain text. */
  tls(): ConnectionOptions | undefined;
  /** Reads the files that the URL names again. */
  reload(): Promise<void>;
}

/**
 * Reads the URL and the files that it names.
 *
 * @param option the name for errors, such as `--settings`
 * @param source a password in a flag is refused
 * @throws UsageError for a URL that cannot be right; Error for a file that cannot be read
 */
export async function openDatabaseLogin(
  option: string,
  text: string,
  source: OptionSource,
): Promise<DatabaseLogin> {
  const { user, passfile, url, host } = parse(option, text, source);
  try {
    const target = await BackendTarget.open(url);
    const passwords = passfile === undefined ? undefined : await PasswordFile.open(passfile);
    const key = { host: host.host, port: host.port, database: url.database ?? user, user };
    return {
      ...key,
      label: formatHost(host),
      password: () => url.password ?? passwords?.find(key)?.toString(),
      tls: () => tlsOptions(host, target),
      async reload() {
        await target.reload();
        await passwords?.reload();
      },
    };
  } catch (error) {
    throw new Error(`${option}: ${errorText(error)}`, { cause: error });
  }
}

/** The options of a `pg` client for a new connection. */
export function clientConfig(login: DatabaseLogin): pg.ClientConfig {
  const { host, port, database, user } = login;
  const password = login.password();
  return {
    host,
    port,
    database,
    user,
    ssl: login.tls() ?? false,
    ...(password !== undefined && { password }),
  };
}

function parse(option: string, text: string, source: OptionSource) {
  try {
    const { user, rest } = takeUser(text);
    const url = parseBackendUrl(rest, source);
    const { passwordFile: passfile, ...credentials } = url.credentials;
    if (Object.values(credentials).some((value) => value !== undefined))
      throw new Error(
        'the login is by password here: ' +
          'of backend_auth, sslcert, sslkey and issue_ca_… none is taken',
      );
    const [host, ...others] = url.hosts;
    if (!host || others.length > 0)
      throw new Error('give one host: the primary, where changes can be made');
    if (host.sslMode === 'prefer' && !isSocketDirectory(host.host) && !isLoopback(host.host))
      throw new Error('sslmode=prefer is not taken here: give require or stricter');
    return { user, passfile, url, host };
  } catch (error) {
    throw new UsageError(`${option}: ${errorText(error)}`);
  }
}

/**
 * Takes the user out of a URL, since the URL of a backend has none. The form of the rest is checked
 * by the backend's parser. The parameter `user` wins over the user before the host.
 */
function takeUser(text: string): { user: string; rest: string } {
  const [, scheme = '', authority = '', path = '', query = ''] =
    /^([a-z]+:\/\/)([^/?]*)([^?]*)(?:\?(.*))?$/s.exec(text) ?? [];
  const at = authority.lastIndexOf('@');
  const [, inAuthority = '', password = ''] =
    /^([^:]*)(:.*)?$/s.exec(authority.slice(0, Math.max(at, 0))) ?? [];
  let user = decodeURIComponent(inAuthority);
  const others = query.split('&').filter((pair) => {
    const [, value] = /^user=(.*)$/s.exec(pair) ?? [];
    if (value !== undefined) user = decodeURIComponent(value);
    return value === undefined && pair !== '';
  });
  if (user === '') throw new Error('name the user to log in as: postgres://USER@host/database');
  const login = password === '' ? '' : `${password}@`;
  const rest = `${scheme}${login}${authority.slice(at + 1)}${path}`;
  return { user, rest: others.length > 0 ? `${rest}?${others.join('&')}` : rest };
}

/**
 * `prefer` is only taken on a loopback address and means plain text there: pg cannot fall back, and
 * other hosts do not see the traffic.
 */
function tlsOptions(
  { sslMode }: BackendHost,
  { secureContext }: BackendTarget,
): ConnectionOptions | undefined {
  if (sslMode === 'disable' || sslMode === 'prefer') return undefined;
  return {
    secureContext,
    rejectUnauthorized: sslMode !== 'require',
    ...(sslMode !== 'verify-full' && { checkServerIdentity: () => undefined }),
  };
}
