/**
 * What the URL of a backend says: its hosts, how to reach them and how to log in. Names and rules
 * are those of libpq (manual 32.1.2). url-parser.ts makes it of a text.
 */

import { isIP } from 'node:net';

/** libpq's `sslmode` without `allow`, which begins in plain text and so protects nothing. */
export type SslMode = (typeof sslModes)[number];
export const sslModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;

/**
 * libpq's `sslnegotiation`: SSLRequest first, or TLS from the first byte (PostgreSQL 17 or later).
 */
type SslNegotiation = (typeof sslNegotiations)[number];
export const sslNegotiations = ['postgres', 'direct'] as const;

/** libpq's `require_auth`: the credentials that a backend may ask for. */
export type PasswordMethod = (typeof passwordMethods)[number];
export const passwordMethods = ['scram-sha-256', 'md5', 'password'] as const;

/** libpq's `target_session_attrs`: which of several hosts a session may use. */
export type TargetSessionAttrs = (typeof targetSessionAttrs)[number];
export const targetSessionAttrs = [
  'any',
  'read-write',
  'read-only',
  'primary',
  'standby',
  'prefer-standby',
] as const;

/** libpq's `load_balance_hosts`: whether hosts are tried in order or at random. */
type LoadBalanceHosts = (typeof loadBalanceHosts)[number];
export const loadBalanceHosts = ['disable', 'random'] as const;

/**
 * How the front-end logs in at a backend: `--backend-auth`, or the parameter `backend_auth` for one
 * of several backends.
 */
export type BackendAuth = (typeof backendAuths)[number];
export const backendAuths = ['trust', 'password', 'cert', 'issue-cert'] as const;

/** One host of a backend. */
export interface BackendHost {
  /**
   * A host name, an address (IPv6 without brackets), or the absolute directory of a Unix socket.
   */
  readonly host: string;
  readonly port: number;
  /** Always `disable` on a Unix socket. */
  readonly sslMode: SslMode;
}

/** A parsed URL. */
export interface BackendUrl {
  /** At least one. */
  readonly hosts: readonly BackendHost[];
  /** For logins of the front-end itself. Clients name their own database. */
  readonly database: string | undefined;
  /** Path of a PEM file. Undefined: the authorities that Node.js trusts (`sslrootcert=system`). */
  readonly rootCertificate: string | undefined;
  readonly sslNegotiation: SslNegotiation;
  readonly requireAuth: ReadonlySet<PasswordMethod>;
  readonly targetSessionAttrs: TargetSessionAttrs;
  readonly loadBalanceHosts: LoadBalanceHosts;
  /**
   * For the login at one host, in milliseconds; 0: only the limit of the whole login. A native
   * login, in which a person may have to type, has it for the connection alone.
   */
  readonly connectTimeout: number;
  readonly credentials: CredentialParameters;
  /** For every user. As in libpq, it comes before a password file. */
  readonly password: string | undefined;
}

/**
 * How to log in, as far as the URL says. Options of the command line decide the rest. All but the
 * method are paths.
 */
export interface CredentialParameters {
  readonly method: BackendAuth | undefined;
  readonly passwordFile: string | undefined;
  readonly clientCertificate: string | undefined;
  readonly clientKey: string | undefined;
  readonly issueCaCertificate: string | undefined;
  readonly issueCaKey: string | undefined;
}

/** Where the text of an option was. Every user of the machine can read a flag. */
export type OptionSource = 'flag' | 'environment';

/** Says for each option that takes a URL where its text was. */
export interface UrlSources {
  readonly sourceOf: (option: 'backend' | 'route' | 'directory' | 'settings') => OptionSource;
}

/** Whether a host is the directory of a Unix socket, by libpq's rule. */
export function isSocketDirectory(host: string): boolean {
  return host.startsWith('/');
}

/**
 * Whether nobody between the front-end and the host can read the bytes: a Unix socket, or TLS with
 * a verified certificate.
 */
export function isConfidential({ host, sslMode }: BackendHost): boolean {
  return isSocketDirectory(host) || sslMode === 'verify-ca' || sslMode === 'verify-full';
}

/** The path of PostgreSQL's socket in its directory (manual 19.3.1, unix_socket_directories). */
export function socketPath({ host, port }: BackendHost): string {
  return `${host}/.s.PGSQL.${port}`;
}

/** A host for the log: `db.example.com:5432`, `[::1]:5432`, `/run/postgresql/.s.PGSQL.5432`. */
export function formatHost(target: BackendHost): string {
  if (isSocketDirectory(target.host)) return socketPath(target);
  return `${isIP(target.host) === 6 ? `[${target.host}]` : target.host}:${target.port}`;
}
