/**
 * Parses the URL of a backend, with libpq's form and parameter names (manual 32.1.1 and 32.1.2), so
 * that an operator can paste what psql accepts. What libpq would ignore, or what would weaken TLS
 * without notice, is an error here that says what to write instead. No error repeats a password.
 */

import { isLoopback } from '../lib/network.ts';
import {
  type BackendUrl,
  backendAuths,
  type CredentialParameters,
  isConfidential,
  isSocketDirectory,
  loadBalanceHosts,
  type OptionSource,
  type PasswordMethod,
  passwordMethods,
  type SslMode,
  sslModes,
  sslNegotiations,
  targetSessionAttrs,
} from './url.ts';
import {
  decode,
  invalid,
  oneOf,
  type ParameterName,
  type Parameters,
  parseHosts,
  parseQuery,
  splitUrl,
  userRefused,
} from './url-syntax.ts';

/** A login has 30 s by default. A host that is down must leave time for the others. */
const DEFAULT_CONNECT_TIMEOUT_S = 10;
const MAX_CONNECT_TIMEOUT_S = 3600;

/**
 * Parses `postgres://host:port,host:port/database?name=value&…`, or
 * `postgres:///?host=/socket/directory`.
 *
 * @param source where the text comes from. Every user of the machine can read a flag, so a password
 *   is refused there
 * @throws PgError 22023 with one line for the operator, without the name of the option
 */
export function parseBackendUrl(text: string, source: OptionSource): BackendUrl {
  const { userInfo, authority, path, query } = splitUrl(text);
  const parameters = parseQuery(query);
  const password = parsePassword(userInfo, parameters.get('password'), source);
  const rootCertificate = parameters.get('sslrootcert');
  const sslNegotiation = choice(parameters, 'sslnegotiation', sslNegotiations);
  const hosts = parseHosts(authority, parameters).map(({ host, port }) => {
    const sslMode = sslModeFor(host, parameters.get('sslmode'), rootCertificate);
    if (sslNegotiation === 'direct') checkDirect(host, sslMode);
    return { host, port, sslMode };
  });
  const requireAuth = parseRequireAuth(parameters.get('require_auth'));
  if (requireAuth.has('password') && !hosts.every(isConfidential)) {
    throw invalid(
      'require_auth=password needs sslmode=verify-ca or verify-full, or a Unix socket: ' +
        'the password goes over in clear',
    );
  }
  return {
    hosts,
    database: parseDatabase(path, parameters.get('dbname')),
    rootCertificate: rootCertificate === 'system' ? undefined : rootCertificate,
    sslNegotiation,
    requireAuth,
    targetSessionAttrs: choice(parameters, 'target_session_attrs', targetSessionAttrs),
    loadBalanceHosts: choice(parameters, 'load_balance_hosts', loadBalanceHosts),
    credentials: parseCredentials(parameters),
    connectTimeout: parseConnectTimeout(parameters.get('connect_timeout')),
    password,
  };
}

/** The value of a parameter; without it the first of the allowed values, which is the default. */
function choice<T extends string>(
  parameters: Parameters,
  name: ParameterName,
  allowed: readonly [T, ...T[]],
): T {
  return oneOf(name, parameters.get(name) ?? allowed[0], allowed);
}

/** By libpq's rules, but libpq's default `prefer` is the default for loopback addresses only. */
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
    // Public authorities certify everyone for their own names, and verify-ca ignores the name.
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

function checkDirect(host: string, sslMode: SslMode): void {
  if (isSocketDirectory(host) || (sslMode !== 'disable' && sslMode !== 'prefer')) return;
  throw invalid('sslnegotiation=direct needs sslmode=require, verify-ca or verify-full');
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
      'a password in a flag can be read by everybody on the machine: ' +
        'use a password file or the environment',
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
