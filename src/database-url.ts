/**
 * The URL of a database that pgsso logs in at as itself: what `--backend` takes, with a user besides and its password in the environment
 * or in a password file. TLS is as strict as towards the backend.
 */
import type pg from 'pg';
import { type BackendHost, isSocketDirectory, parseBackendUrl } from './backend/backend-url.ts';
import { PasswordFile } from './backend/passfile.ts';
import { BackendTarget } from './backend/target.ts';
import { errorText, UsageError } from './errors.ts';

/** A database with the way to log in at it. */
export interface DatabaseLogin {
  /** For a new connection: files are read as they are then. */
  connection(): pg.ClientConfig;
  /** Reads the files that the URL names again. */
  reload(): Promise<void>;
}

/**
 * Reads the URL and the files that it names.
 *
 * @param option for errors: `--settings`
 * @throws UsageError for a URL that cannot be right; Error for a file that cannot be read
 */
export async function openDatabaseLogin(option: string, text: string, source: 'flag' | 'environment'): Promise<DatabaseLogin> {
  const { user, passfile, url, host } = parse(option, text, source);
  try {
    const target = await BackendTarget.open(url);
    const passwords = passfile === undefined ? undefined : await PasswordFile.open(passfile);
    const database = url.database ?? user;
    return {
      connection: () => {
        const key = { host: host.host, port: host.port, database, user };
        const password = url.password ?? passwords?.find(key)?.toString();
        return { ...key, ssl: tlsOptions(host, target) ?? false, ...(password !== undefined && { password }) };
      },
      async reload() {
        await target.reload();
        await passwords?.reload();
      },
    };
  } catch (error) {
    throw new Error(`${option}: ${errorText(error)}`, { cause: error });
  }
}

function parse(option: string, text: string, source: 'flag' | 'environment') {
  try {
    const { user, passfile, rest } = takeLogin(text);
    const url = parseBackendUrl(rest, source);
    const [host, ...others] = url.hosts;
    if (!host || others.length > 0) throw new Error('give one host');
    return { user, passfile, url, host };
  } catch (error) {
    throw new UsageError(`${option}: ${errorText(error)}`);
  }
}

/** Takes the user and the parameter `passfile`, which a backend's URL does not have, out of a URL; its form is checked afterwards. */
function takeLogin(text: string): { user: string; passfile: string | undefined; rest: string } {
  const [, scheme = '', authority = '', path = '', query = ''] = /^([a-z]+:\/\/)([^/?]*)([^?]*)(?:\?(.*))?$/s.exec(text) ?? [];
  const at = authority.lastIndexOf('@');
  const [, inAuthority = '', password = ''] = /^([^:]*)(:.*)?$/s.exec(authority.slice(0, Math.max(at, 0))) ?? [];
  const own = new Map<string, string>();
  const others = query.split('&').filter((pair) => {
    const [, name, value = ''] = /^(user|passfile)=(.*)$/s.exec(pair) ?? [];
    if (name !== undefined) own.set(name, decodeURIComponent(value));
    return name === undefined && pair !== '';
  });
  const user = own.get('user') ?? decodeURIComponent(inAuthority);
  if (user === '') throw new Error('name the user to log in as: postgres://USER@host/database');
  const login = password === '' ? '' : `${password}@`;
  const rest = `${scheme}${login}${authority.slice(at + 1)}${path}${others.length > 0 ? `?${others.join('&')}` : ''}`;
  return { user, passfile: own.get('passfile'), rest };
}

/** `prefer` is what parseBackendUrl makes of the loopback address, where nobody listens who could not read our memory. */
function tlsOptions({ host, sslMode }: BackendHost, { secureContext }: BackendTarget): pg.ClientConfig['ssl'] {
  if (isSocketDirectory(host) || sslMode === 'disable' || sslMode === 'prefer') return undefined;
  return {
    secureContext,
    rejectUnauthorized: sslMode !== 'require',
    ...(sslMode !== 'verify-full' && { checkServerIdentity: () => undefined }),
  };
}
