/**
 * The URL of a backend, in libpq's form and with libpq's parameter names (manual 32.1.1 and
 * 32.1.2), so that an operator can paste what psql takes. It is stricter than libpq: what would be
 * ignored there, or would weaken TLS in silence, is refused with a text that says what to write
 * instead. No error repeats a password.
 */

import { isIP } from 'node:net';
import { errorText, PgError } from '../lib/errors.ts';
import { isLoopback } from '../lib/network.ts';

/** libpq's `sslmode`, without `allow`: it begins in plain text and so protects nothing. */
export type SslMode = (typeof sslModes)[number];
const sslModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;

/**
 * libpq's `sslnegotiation`: ask with SSLRequest first, or begin with the TLS hello (PostgreSQL 17
 * and later).
 */
type SslNegotiation = (typeof sslNegotiations)[number];
const sslNegotiations = ['postgres', 'direct'] as const;

/** The credentials that a backend may ask the front-end for: libpq's `require_auth`. */
export type PasswordMethod = (typeof passwordMethods)[number];
const passwordMethods = ['scram-sha-256', 'md5', 'password'] as const;

/** libpq's `target_session_attrs`: which of several hosts a session may go to. */
export type TargetSessionAttrs = (typeof targetSessionAttrs)[number];
const targetSessionAttrs = [
  'any',
  'read-write',
  'read-only',
  'primary',
  'standby',
  'prefer-standby',
] as const;

/** libpq's `load_balance_hosts`. */
type LoadBalanceHosts = (typeof loadBalanceHosts)[number];
const loadBalanceHosts = ['disable', 'random'] as const;

/**
 * The ways to log in at a backend: `--backend-auth`, or the parameter `backend_auth` for one
 * backend of several.
 */
export type BackendAuth = (typeof backendAuths)[number];
export const backendAuths = ['trust', 'password', 'cert', 'issue-cert'] as const;

/** One place to dial. */
export interface BackendHost {
  /**
   * A host name, an address (IPv6 without brackets), or the directory of a Unix socket, which
   * begins with `/`.
   */
  readonly host: string;
  readonly port: number;
  /** Never anything but `disable` on a Unix socket. */
  readonly sslMode: SslMode;
}

/** A backend, as the operator named it. */
export interface BackendUrl {
  /** At least one; tried in this order. */
  readonly hosts: readonly BackendHost[];
  /** For the front-end's own logins; a client's database is its own choice. */
  readonly database: string | undefined;
  /**
   * Path of a PEM file; undefined: the certificate authorities that Node.js trusts
   * (`sslrootcert=system`).
   */
  readonly rootCertificate: string | undefined;
  readonly sslNegotiation: SslNegotiation;
  readonly requireAuth: ReadonlySet<PasswordMethod>;
  readonly targetSessionAttrs: TargetSessionAttrs;
  readonly loadBalanceHosts: LoadBalanceHosts;
  /**
   * For one host, up to its greeting where no person has to type meanwhile, in milliseconds; 0: no
   * limit but the login's own.
   */
  readonly connectTimeout: number;
  readonly credentials: CredentialParameters;
  /** One for every user, as libpq's: it comes before a password file. */
  readonly password: string | undefined;
}

/**
 * How to log in, as far as the URL says so; what it leaves open the options of the command line
 * decide. All but the method are paths.
 */
export interface CredentialParameters {
  readonly method: BackendAuth | undefined;
  readonly passwordFile: string | undefined;
  readonly clientCertificate: string | undefined;
  readonly clientKey: string | undefined;
  readonly issueCaCertificate: string | undefined;
  readonly issueCaKey: string | undefined;
}

const DEFAULT_PORT = 5432;

/** A host that is down has to leave a login, 30 s in all by default, the time to try the others. */
const DEFAULT_CONNECT_TIMEOUT_S = 10;
const MAX_CONNECT_TIMEOUT_S = 3600;

const parameterNames = [
  'host',
  'port',
  'dbname',
  'password',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'sslnegotiation',
  'require_auth',
  'passfile',
  'target_session_attrs',
  'load_balance_hosts',
  'connect_timeout',
  // pgsso's own, for what libpq has no name for
  'backend_auth',
  'issue_ca_cert',
  'issue_ca_key',
] as const;
type ParameterName = (typeof parameterNames)[number];
type Parameters = ReadonlyMap<ParameterName, string>;

/** Where the text of an option was. Everybody on the machine can read a flag. */
export type OptionSource = 'flag' | 'environment';

/** Says for each option that takes a URL where its text was. */
export interface UrlSources {
  readonly sourceOf: (option: 'backend' | 'route' | 'directory' | 'settings') => OptionSource;
}

/**
 * Parses `postgres://host:port,host:port/database?name=value&…`, or
 * `postgres:///?host=/socket/directory`.
 *
 * @param source where the text came from: everybody on the machine can read a flag, so that a
 *   password is refused there
 * @throws PgError 22023 with one line for the operator, without the name of the option
 */
export function parseBackendUrl(text: string, source: OptionSource): BackendUrl {
  const { userInfo, authority, path, query } = splitUrl(text);
  const parameters = parseQuery(query);
  const password = parsePassword(userInfo, parameters.get('password'), source);
  const rootCertificate = parameters.get('sslrootcert');
  const sslNegotiation = oneOf(
    'sslnegotiation',
    parameters.get('sslnegotiation') ?? 'postgres',
    sslNegotiations,
  );
  const hosts = parseHosts(authority, parameters).map(({ host, port }) => {
    const sslMode = sslModeFor(host, parameters.get('sslmode'), rootCertificate);
    if (
      sslNegotiation === 'direct' &&
      !isSocketDirectory(host) &&
      (sslMode === 'disable' || sslMode === 'prefer')
    ) {
      throw invalid('sslnegotiation=direct needs sslmode=require, verify-ca or verify-full');
    }
    return { host, port, sslMode };
  });
  const requireAuth = parseRequireAuth(parameters.get('require_auth'));
  if (requireAuth.has('password') && !hosts.every(isConfidential)) {
    throw invalid(
      'require_auth=password needs sslmode=verify-ca or verify-full, or a Unix socket: the password goes over in clear',
    );
  }
  return {
    hosts,
    database: parseDatabase(path, parameters.get('dbname')),
    rootCertificate: rootCertificate === 'system' ? undefined : rootCertificate,
    sslNegotiation,
    requireAuth,
    targetSessionAttrs: oneOf(
      'target_session_attrs',
      parameters.get('target_session_attrs') ?? 'any',
      targetSessionAttrs,
    ),
    loadBalanceHosts: oneOf(
      'load_balance_hosts',
      parameters.get('load_balance_hosts') ?? 'disable',
      loadBalanceHosts,
    ),
    credentials: parseCredentials(parameters),
    connectTimeout: parseConnectTimeout(parameters.get('connect_timeout')),
    password,
  };
}

/** Whether a host is the directory of a Unix socket, as libpq tells it. */
export function isSocketDirectory(host: string): boolean {
  return host.startsWith('/');
}

/**
 * Whether nobody on the way can read along: a Unix socket, or TLS to a server whose certificate was
 * verified.
 */
export function isConfidential({ host, sslMode }: BackendHost): boolean {
  return isSocketDirectory(host) || sslMode === 'verify-ca' || sslMode === 'verify-full';
}

/**
 * Where the socket of PostgreSQL lies in its directory (manual 19.3.1, unix_socket_directories).
 */
export function socketPath({ host, port }: BackendHost): string {
  return `${host}/.s.PGSQL.${port}`;
}

/** A host for the log: `db.example.com:5432`, `[::1]:5432`, `/run/postgresql/.s.PGSQL.5432`. */
export function formatHost(target: BackendHost): string {
  if (isSocketDirectory(target.host)) return socketPath(target);
  return `${isIP(target.host) === 6 ? `[${target.host}]` : target.host}:${target.port}`;
}

function splitUrl(text: string): {
  userInfo: string | undefined;
  authority: string;
  path: string;
  query: string;
} {
  const match = /^postgres(?:ql)?:\/\/([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(text);
  if (!match)
    throw invalid(
      'not a URL of the form postgres://host:port/database or postgres:///?host=/socket/directory',
    );
  const [, authority = '', path = '', query = ''] = match;
  // A password with a bare / or ? ends the authority too early; quoting what then looks like a host
  // or a name would show it.
  if (path.includes('@') || query.includes('@')) {
    throw invalid(
      'a / or ? before an @ is written %2F or %3F, and an @ in the database or in a parameter %40',
    );
  }
  const at = authority.lastIndexOf('@');
  return {
    userInfo: at < 0 ? undefined : authority.slice(0, at),
    authority: authority.slice(at + 1),
    path,
    query,
  };
}

function parseQuery(query: string): Parameters {
  const parameters = new Map<ParameterName, string>();
  for (const pair of query === '' ? [] : query.split('&')) {
    const [rawName = '', rawValue, ...more] = pair.split('=');
    const name = knownParameter(decode(rawName));
    if (rawValue === undefined || more.length > 0)
      throw invalid(`parameter ${name} is not of the form ${name}=value (= is written %3D)`);
    if (parameters.has(name)) throw invalid(`parameter ${name} is given twice`);
    parameters.set(name, decode(rawValue));
  }
  return parameters;
}

function knownParameter(name: string): ParameterName {
  if (name === 'user') throw userRefused();
  const known = parameterNames.find((candidate) => candidate === name);
  if (known === undefined)
    throw invalid(`parameter "${name}" is not known; there are ${parameterNames.join(', ')}`);
  return known;
}

function parsePassword(
  userInfo: string | undefined,
  parameter: string | undefined,
  source: OptionSource,
): string | undefined {
  const colon = userInfo?.indexOf(':') ?? -1;
  const user = userInfo === undefined || colon < 0 ? userInfo : userInfo.slice(0, colon);
  if (user) throw userRefused();
  const password =
    parameter ?? (userInfo === undefined || colon < 0 ? '' : decode(userInfo.slice(colon + 1)));
  if (password === '') return undefined;
  if (source === 'flag')
    throw invalid(
      'a password in a flag can be read by everybody on the machine: use a password file or the environment',
    );
  return password;
}

function parseCredentials(parameters: Parameters): CredentialParameters {
  const method = parameters.get('backend_auth');
  const clientCertificate = parameters.get('sslcert');
  const clientKey = parameters.get('sslkey');
  if ((clientCertificate === undefined) !== (clientKey === undefined))
    throw invalid('sslcert and sslkey are given together');
  return {
    method: method === undefined ? undefined : oneOf('backend_auth', method, backendAuths),
    passwordFile: parameters.get('passfile'),
    clientCertificate,
    clientKey,
    issueCaCertificate: parameters.get('issue_ca_cert'),
    issueCaKey: parameters.get('issue_ca_key'),
  };
}

function parseHosts(authority: string, parameters: Parameters): { host: string; port: number }[] {
  const listed = authority === '' ? [] : authority.split(',').map(splitAuthority);
  const hostParameter = parameters.get('host');
  const portParameter = parameters.get('port');
  if (hostParameter !== undefined && listed.length > 0)
    throw invalid('the host is given twice, before the database and as a parameter');
  if (portParameter !== undefined && listed.some(({ port }) => port !== ''))
    throw invalid('the port is given twice');

  const hosts = hostParameter?.split(',') ?? listed.map(({ host }) => host);
  const ports = portParameter?.split(',') ?? listed.map(({ port }) => port);
  if (hosts.length === 0)
    throw invalid(
      'no host is named: postgres://host:port/database or postgres:///?host=/socket/directory',
    );
  if (ports.length > 1 && ports.length !== hosts.length)
    throw invalid(`${ports.length} ports are given for ${hosts.length} hosts`);
  return hosts.map((host, index) => ({
    host: checkHost(host),
    port: parsePort(ports.length > 1 ? ports[index] : ports[0]),
  }));
}

function splitAuthority(part: string): { host: string; port: string } {
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::([^:]*))?$/.exec(part);
  if (!match)
    throw invalid('a host is not of the form name:port, address:port or [IPv6 address]:port');
  const [, bracketed, name = '', port = ''] = match;
  if (bracketed !== undefined && isIP(decode(bracketed)) !== 6)
    throw invalid('brackets hold something else than an IPv6 address');
  return { host: decode(bracketed ?? name), port };
}

function checkHost(host: string): string {
  if (host === '') throw invalid('an empty host in the list of hosts');
  if (!isSocketDirectory(host) && !isIP(host) && !/^[\w-]+(?:\.[\w-]+)*\.?$/.test(host))
    throw invalid(`"${host}" is not a host name`);
  return host;
}

function parsePort(text: string | undefined): number {
  if (!text) return DEFAULT_PORT;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw invalid(`port "${text}" is not a number from 1 to 65535`);
  return port;
}

/**
 * libpq's rules where it has them; its default, `prefer`, is kept for the loopback address only.
 */
function sslModeFor(
  host: string,
  asked: string | undefined,
  rootCertificate: string | undefined,
): SslMode {
  const mode = asked === undefined ? undefined : oneOf('sslmode', asked, sslModes);
  if (isSocketDirectory(host)) return 'disable';
  if (mode === undefined)
    return isLoopback(host) && rootCertificate === undefined ? 'prefer' : 'verify-full';
  if (rootCertificate === undefined) {
    // The public authorities certify anybody for a name of his own, and verify-ca does not look at
    // the name.
    if (mode === 'verify-ca') throw invalid('sslmode=verify-ca needs sslrootcert=FILE');
    return mode;
  }
  if (mode === 'disable' || mode === 'prefer')
    throw invalid(`sslrootcert has no effect with sslmode=${mode}`);
  if (rootCertificate === 'system' && mode !== 'verify-full')
    throw invalid('sslrootcert=system needs sslmode=verify-full');
  // Manual 32.19.1: "If a root CA file exists, the behavior of sslmode=require will be the same as
  // that of verify-ca."
  return mode === 'require' ? 'verify-ca' : mode;
}

function parseRequireAuth(text: string | undefined): ReadonlySet<PasswordMethod> {
  if (text === undefined) return new Set(['scram-sha-256']);
  const names = text.split(',').map((name) => name.trim());
  if (names.includes('none')) throw invalid('require_auth=none is what --backend-auth trust means');
  if (names.some((name) => name.startsWith('!')))
    throw invalid(`require_auth lists what is allowed: ${passwordMethods.join(', ')}`);
  return new Set(names.map((name) => oneOf('require_auth', name, passwordMethods)));
}

function parseDatabase(path: string, parameter: string | undefined): string | undefined {
  if (path !== '' && parameter !== undefined) throw invalid('the database is given twice');
  return parameter || decode(path) || undefined;
}

function parseConnectTimeout(text: string | undefined): number {
  if (text === undefined) return DEFAULT_CONNECT_TIMEOUT_S * 1000;
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : Number.POSITIVE_INFINITY;
  if (seconds > MAX_CONNECT_TIMEOUT_S)
    throw invalid(
      `connect_timeout "${text}" is not a number of seconds from 0 to ${MAX_CONNECT_TIMEOUT_S}`,
    );
  return seconds * 1000;
}

function oneOf<T extends string>(name: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === text);
  if (found === undefined) throw invalid(`${name} "${text}" is not one of ${allowed.join(', ')}`);
  return found;
}

function decode(text: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(text);
  } catch (error) {
    throw invalid(
      `a % is not followed by two hexadecimal digits, or they are not UTF-8 (${errorText(error)})`,
    );
  }
  if (decoded.includes('\0')) throw invalid('a NUL (%00) in the URL');
  return decoded;
}

function userRefused(): PgError {
  return invalid(
    'a user makes no sense here: each login goes to the backend as the user that it is for',
  );
}

function invalid(message: string): PgError {
  return new PgError({ code: 'invalid_backend_url', message });
}
