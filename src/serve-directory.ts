/**
 * The directory out of the option that names it: `--directory` takes the URLs that `--backend` takes, with a user and its password besides, since
 * here pgsso logs in as itself.
 */
import type { ConnectionOptions } from 'node:tls';
import { type BackendHost, formatHost, isSocketDirectory, parseBackendUrl } from './backend/backend-url.ts';
import { PasswordFile } from './backend/passfile.ts';
import { BackendTarget } from './backend/target.ts';
import { Directory } from './directory/directory.ts';
import { errorText, UsageError } from './errors.ts';
import { isLoopback } from './loopback.ts';

/** The part of the options of `pgsso serve` that is about the directory. */
export interface DirectoryOptions {
  readonly directory?: string | undefined;
  /** Whether the URL stands in the command line, where everybody can read it. */
  readonly directoryFromFlag?: boolean;
}

/** A directory that can be asked, with what has to be read again on SIGHUP. */
export interface OpenDirectory {
  readonly directory: Directory;
  /** Its SQL user. */
  readonly user: string;
  /** Reads the files that the URL names again. */
  reload(): Promise<void>;
}

/**
 * Opens the directory, without asking it for anything yet; undefined without the option.
 *
 * @throws UsageError for a URL that cannot be right; Error for a file that cannot be read
 */
export async function openDirectory(options: DirectoryOptions): Promise<OpenDirectory | undefined> {
  if (options.directory === undefined) return undefined;
  const { user, passfile, url, host } = parseDirectoryUrl(options.directory, options.directoryFromFlag ?? false);
  let target: BackendTarget;
  let passwords: PasswordFile | undefined;
  try {
    target = await BackendTarget.open(url);
    if (passfile !== undefined) passwords = await PasswordFile.open(passfile);
  } catch (error) {
    throw new Error(`--directory: ${errorText(error)}`, { cause: error });
  }
  const { host: name, port } = host;
  const database = url.database ?? user;
  const directory = new Directory({
    label: formatHost(host),
    host: name,
    port,
    database,
    user,
    password: () => url.password ?? passwords?.find({ host: name, port, database, user })?.toString(),
    tls: () => tlsOptions(host, target),
  });
  return {
    directory,
    user,
    async reload() {
      await target.reload();
      await passwords?.reload();
      directory.reopen();
    },
  };
}

function parseDirectoryUrl(text: string, fromFlag: boolean) {
  try {
    const { user, rest } = takeUser(text);
    const url = parseBackendUrl(rest, fromFlag ? 'flag' : 'environment');
    const { passwordFile: passfile, ...credentials } = url.credentials;
    if (Object.values(credentials).some((value) => value !== undefined))
      throw new Error(
        'the directory is logged in at with a password: of backend_auth, sslcert, sslkey and issue_ca_… none is taken here',
      );
    const [host, ...others] = url.hosts;
    if (!host || others.length > 0) throw new Error('give one host: users and roles can be changed on the primary alone');
    if (host.sslMode === 'prefer' && !isSocketDirectory(host.host) && !isLoopback(host.host))
      throw new Error('sslmode=prefer is not taken here: give require or stricter');
    return { user, passfile, url, host };
  } catch (error) {
    throw new UsageError(`--directory: ${errorText(error)}`);
  }
}

/** Takes the user, which the URL of a backend does not have, out of a URL; its form is checked afterwards. */
function takeUser(text: string): { user: string; rest: string } {
  const [, scheme = '', authority = '', path = '', query = ''] = /^([a-z]+:\/\/)([^/?]*)([^?]*)(?:\?(.*))?$/s.exec(text) ?? [];
  const [, inAuthority = '', password = '', hosts = authority] = /^([^:@]*)(:[^@]*)?@(.*)$/s.exec(authority) ?? [];
  let user = decodeURIComponent(inAuthority);
  const others = query.split('&').filter((pair) => {
    const [, value] = /^user=(.*)$/s.exec(pair) ?? [];
    if (value !== undefined) user = decodeURIComponent(value);
    return value === undefined && pair !== '';
  });
  if (user === '') throw new Error('name the user that creates users and grants roles: postgres://USER@host/database');
  const rest = `${scheme}${password === '' ? '' : `${password}@`}${hosts}${path}${others.length > 0 ? `?${others.join('&')}` : ''}`;
  return { user, rest };
}

/** On the loopback address `prefer` is the default: nobody can listen there who could not read our memory, and pg does not fall back. */
function tlsOptions({ sslMode }: BackendHost, { secureContext }: BackendTarget): ConnectionOptions | undefined {
  if (sslMode === 'disable' || sslMode === 'prefer') return undefined;
  return {
    secureContext,
    rejectUnauthorized: sslMode !== 'require',
    ...(sslMode !== 'verify-full' && { checkServerIdentity: () => undefined }),
  };
}
