/**
 * The syntax of a backend's URL (manual 32.1.1): its parts, parameters, hosts and ports. It is
 * stricter than libpq, which ignores some mistakes. No error repeats a password.
 */

import { isIP } from 'node:net';
import { errorText, PgError } from '../lib/errors.ts';
import { isSocketDirectory } from './url.ts';

/** The parts of a URL, which are still encoded. */
interface UrlParts {
  readonly userInfo: string | undefined;
  readonly authority: string;
  readonly path: string;
  readonly query: string;
}

const DEFAULT_PORT = 5432;

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
  // Not known to libpq.
  'backend_auth',
  'issue_ca_cert',
  'issue_ca_key',
] as const;
/** A parameter that is known. */
export type ParameterName = (typeof parameterNames)[number];

/** The parameters of a URL, decoded. */
export type Parameters = ReadonlyMap<ParameterName, string>;

/** Splits a URL into its parts, which are still encoded. */
export function splitUrl(text: string): UrlParts {
  const match = /^postgres(?:ql)?:\/\/([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(text);
  if (!match)
    throw invalid(
      'not a URL of the form postgres://host:port/database or postgres:///?host=/socket/directory',
    );
  const [, authority = '', path = '', query = ''] = match;
  // A bare / or ? in a password ends the authority too early. An error that quotes the host or a
  // parameter would then show a part of the password.
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

/** The parameters of the query. Each may be given once. */
export function parseQuery(query: string): Parameters {
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

/** The hosts, each with its port, from the authority or the parameters `host` and `port`. */
export function parseHosts(
  authority: string,
  parameters: Parameters,
): { host: string; port: number }[] {
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

/** Percent-decodes a part of the URL. */
export function decode(text: string): string {
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

/** The text, if it is an allowed value of the parameter. */
export function oneOf<T extends string>(name: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === text);
  if (found === undefined) throw invalid(`${name} "${text}" is not one of ${allowed.join(', ')}`);
  return found;
}

/** The error for a URL with a user. */
export function userRefused(): PgError {
  return invalid(
    'a user makes no sense here: each login goes to the backend as the user that it is for',
  );
}

/** An error with one line for the operator, who knows the option. */
export function invalid(message: string): PgError {
  return new PgError({ code: 'invalid_backend_url', message });
}

function knownParameter(name: string): ParameterName {
  if (name === 'user') throw userRefused();
  const known = parameterNames.find((candidate) => candidate === name);
  if (known === undefined)
    throw invalid(`parameter "${name}" is not known; there are ${parameterNames.join(', ')}`);
  return known;
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
