/** What a process of pgsso is started with: the options of `pgsso serve`, and its own version. */
import { readFileSync } from 'node:fs';
import type { RouteOptions } from '../backend/routes.ts';
import type { LogFormat, LogLevel } from '../observe/log.ts';
import type { ClientTlsOptions } from '../session/client-tls.ts';
import type { CopyOption } from '../session/copy-choice.ts';
import type { ListenAddress } from '../session/listener.ts';
import type { DirectoryOptions } from './directory.ts';
import type { SettingsOptions } from './settings.ts';

/** The levels of the log, the most talkative first. */
export const LOG_LEVELS = [
  'trace',
  'debug',
  'info',
  'warn',
  'error',
  'fatal',
  'silent',
] as const satisfies readonly LogLevel[];

/** The options of `pgsso serve`; `--help` explains each. Times are in milliseconds. */
export interface ServeOptions
  extends ClientTlsOptions,
    RouteOptions,
    DirectoryOptions,
    SettingsOptions {
  readonly listen: readonly ListenAddress[];
  /** Processes that share the listeners. 1: this process alone. */
  readonly workers: number;
  /** Default: metrics are not served. */
  readonly metricsListen?: ListenAddress;
  /** A directory for settings, keys and the console's socket. It is made if it is missing. */
  readonly dataDir: string;
  /** Whether tokens may log in as superusers of the database. */
  readonly superusers: 'refuse' | 'allow';
  /** SQL users that no token may log in as. */
  readonly reservedUsers: readonly string[];
  /** SQL users that may change settings at the console. */
  readonly admins: readonly string[];
  /** SQL users that may only read at the console. */
  readonly viewers: readonly string[];
  /** Whether the database's own users may log in without a token. */
  readonly nativeLogins: 'allow' | 'deny';
  /** From the connection to ReadyForQuery. */
  readonly loginTimeout: number;
  /** Unfinished logins at once. */
  readonly maxLogins: number;
  /** The same for one address. Default: no limit of its own. */
  readonly maxLoginsPerAddress?: number;
  readonly maxSessions: number;
  /** Whether a token login may ask for replication. */
  readonly replication: 'deny' | 'allow';
  /** A peer that takes no byte for so long while bytes wait for it is gone; 0: never. */
  readonly tcpUserTimeout: number;
  /** How the bytes of sessions are copied. */
  readonly copy: CopyOption;
  /** How long connections are still accepted after a drain has begun. */
  readonly drainDelay: number;
  /** How long a drain waits for the sessions. */
  readonly drainTimeout: number;
  /** Default: `pretty` on a terminal, otherwise `json`. */
  readonly logFormat?: LogFormat;
  readonly logLevel: LogLevel;
}

/** The version of this program, from its package.json. */
export const { version }: { readonly version: string } = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
);
