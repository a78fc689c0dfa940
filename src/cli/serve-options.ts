/**
 * The options of `pgsso serve` as one table, which `pgsso check` shares. A flag wins over its
 * variable. The table checks single values. What depends on a file or on another option is checked
 * where it is used.
 */
import { type Command, Option } from 'commander';
import { backendAuths } from '../backend/url.ts';
import { LOG_LEVELS, type ServeOptions } from '../server/options.ts';
import { COPY_OPTIONS } from '../session/copy-choice.ts';
import type { ListenAddress } from '../session/listener.ts';
import { loadEnvFile } from './env-file.ts';
import {
  collect,
  collectLines,
  parseCount,
  parseDelay,
  parseListenAddress,
  parseSize,
  parseTimeout,
  parseUserName,
  parseWorkers,
  repeatable,
  sourceOf,
} from './values.ts';

/** Members of {@link ServeOptions} that are named otherwise here, or are no options. */
type Renamed =
  | 'listen'
  | 'routes'
  | 'settings'
  | 'settingsUrl'
  | 'reservedUsers'
  | 'admins'
  | 'viewers'
  | 'ownUsers'
  | 'environment'
  | 'sourceOf';

/** The options as commander parses them, by their flags in camel case. */
export interface ParsedOptions extends Omit<ServeOptions, Renamed> {
  readonly envFile?: string;
  readonly listen?: readonly ListenAddress[];
  readonly route?: readonly string[];
  readonly settings?: string;
  readonly set?: readonly string[];
  readonly reservedUser?: readonly string[];
  readonly admin?: readonly string[];
  readonly viewer?: readonly string[];
}

/** One option. */
interface Row<T> {
  /** Its heading in --help. */
  readonly group: string;
  readonly flags: string;
  readonly description: string;
  /** The environment variable that is read without the flag. */
  readonly variable?: string;
  /** Default: the text is the value. */
  parse?(text: string, before: T | undefined): T;
  readonly choices?: readonly T[];
  readonly default?: T;
  /** The default in --help, if it is not shown as it is. */
  readonly defaultText?: string;
}

/** An option that {@link ParsedOptions} requires has a default. */
type Table = {
  readonly [Name in keyof ParsedOptions]-?: Row<NonNullable<ParsedOptions[Name]>> &
    (object extends Pick<ParsedOptions, Name>
      ? unknown
      : { readonly default: ParsedOptions[Name] });
};

/** The port is CockroachDB's. */
const DEFAULT_LISTEN: ListenAddress = { host: '127.0.0.1', port: 26257 };

const table: Table = {
  envFile: {
    group: 'Where:',
    flags: '--env-file <FILE>',
    description:
      'reads variables from a file, one NAME=VALUE a line, as EnvironmentFile= of systemd; they ' +
      'win over those of the process, and options win over both',
    // Commander reads the variables of options when it has parsed them all.
    parse: loadEnvFile,
  },
  listen: {
    group: 'Where:',
    flags: '--listen <HOST:PORT>',
    description:
      'where clients connect; may be repeated, in the variable with commas (default: ' +
      '127.0.0.1:26257)',
    variable: 'PGSSO_LISTEN',
    parse: repeatable(parseListenAddress),
  },
  backend: {
    group: 'Where:',
    flags: '--backend <URL>',
    description:
      'the database: postgres://host:port[/db]?sslmode=… or postgres:///?host=/socket/dir',
    variable: 'PGSSO_BACKEND',
  },
  route: {
    group: 'Where:',
    flags: '--route <PATTERN=URL>',
    description:
      'another backend for the databases that fit, * for anything; may be repeated, the ' +
      'first that fits (variable: one a line)',
    variable: 'PGSSO_ROUTE',
    parse: collectLines,
  },
  dataDir: {
    group: 'Where:',
    flags: '--data-dir <DIR>',
    description: 'settings and the socket of the console; made with mode 0700 if missing',
    variable: 'PGSSO_DATA_DIR',
    default: './pgsso-data',
  },
  settings: {
    group: 'Where:',
    flags: '--settings <URL>',
    description:
      'keep settings in a database that several nodes share: ' +
      'postgres://user@host/db?passfile=… (default: in the data directory)',
    variable: 'PGSSO_SETTINGS',
  },
  backendAuth: {
    group: 'How to log in at the database:',
    flags: '--backend-auth <METHOD>',
    description:
      'trust: it lets this address in; password: a password file; cert: sslcert and ' +
      'sslkey in the URL; issue-cert: a certificate for each user',
    variable: 'PGSSO_BACKEND_AUTH',
    choices: backendAuths,
    default: 'password',
  },
  backendPassfile: {
    group: 'How to log in at the database:',
    flags: '--backend-passfile <FILE>',
    description: "passwords for --backend-auth password, in the form of libpq's .pgpass",
    variable: 'PGSSO_BACKEND_PASSFILE',
  },
  issueCaCert: {
    group: 'How to log in at the database:',
    flags: '--issue-ca-cert <FILE>',
    description: 'the authority that issues for issue-cert; `pgsso ca init` makes one',
    variable: 'PGSSO_ISSUE_CA_CERT',
  },
  issueCaKey: {
    group: 'How to log in at the database:',
    flags: '--issue-ca-key <FILE>',
    description: 'its private key, mode 0600',
    variable: 'PGSSO_ISSUE_CA_KEY',
  },
  backendAhead: {
    group: 'How to log in at the database:',
    flags: '--backend-ahead <N>',
    description: 'connections opened ahead of logins, for each backend',
    variable: 'PGSSO_BACKEND_AHEAD',
    parse: parseSize,
    default: 0,
  },
  directory: {
    group: 'Users and roles:',
    flags: '--directory <URL>',
    description:
      'a role that creates users and grants roles: ' +
      'postgres://ROLE@host/database?passfile=… (docs/directory.md)',
    variable: 'PGSSO_DIRECTORY',
  },
  set: {
    group: 'Who may log in:',
    flags: '--set <NAME=VALUE>',
    description:
      "a setting's default for this process; may be repeated; also PGSSO_SET_<NAME>, " +
      'dots as _',
    parse: collect,
  },
  superusers: {
    group: 'Who may log in:',
    flags: '--superusers <MODE>',
    description: 'token logins of database superusers',
    variable: 'PGSSO_SUPERUSERS',
    choices: ['refuse', 'allow'],
    default: 'refuse',
  },
  reservedUser: {
    group: 'Who may log in:',
    flags: '--reserved-user <NAME>',
    description:
      'one more user that no token may log in as; may be repeated, in the variable with ' +
      'commas',
    variable: 'PGSSO_RESERVED_USER',
    parse: repeatable(parseUserName),
  },
  nativeLogins: {
    group: 'Who may log in:',
    flags: '--native-logins <MODE>',
    description: "logins without a token, judged by the database's own rules",
    variable: 'PGSSO_NATIVE_LOGINS',
    choices: ['allow', 'deny'],
    default: 'allow',
  },
  replication: {
    group: 'Who may log in:',
    flags: '--replication <MODE>',
    description: 'token logins that ask for replication, with which a whole cluster can be copied',
    variable: 'PGSSO_REPLICATION',
    choices: ['deny', 'allow'],
    default: 'deny',
  },
  admin: {
    group: 'Who may use the console, the database pgsso:',
    flags: '--admin <ROLE>',
    description: 'a SQL user who may look and change settings; may be repeated',
    variable: 'PGSSO_ADMIN',
    parse: repeatable(parseUserName),
  },
  viewer: {
    group: 'Who may use the console, the database pgsso:',
    flags: '--viewer <ROLE>',
    description: 'a SQL user who may only look; may be repeated',
    variable: 'PGSSO_VIEWER',
    parse: repeatable(parseUserName),
  },
  clientTls: {
    group: 'TLS towards clients:',
    flags: '--client-tls <MODE>',
    description: 'whether clients must use TLS (default: require; prefer on a loopback address)',
    variable: 'PGSSO_CLIENT_TLS',
    choices: ['require', 'prefer', 'disable'],
  },
  tlsCert: {
    group: 'TLS towards clients:',
    flags: '--tls-cert <FILE>',
    description: 'certificate chain, PEM; read again on SIGHUP',
    variable: 'PGSSO_TLS_CERT',
  },
  tlsKey: {
    group: 'TLS towards clients:',
    flags: '--tls-key <FILE>',
    description: 'its private key, PEM; read again on SIGHUP',
    variable: 'PGSSO_TLS_KEY',
  },
  loginTimeout: {
    group: 'Limits:',
    flags: '--login-timeout <DURATION>',
    description: 'from the connection to the first prompt',
    variable: 'PGSSO_LOGIN_TIMEOUT',
    parse: parseTimeout,
    default: 30_000,
    defaultText: '30s',
  },
  maxLogins: {
    group: 'Limits:',
    flags: '--max-logins <N>',
    description: 'unfinished logins; the oldest without a password makes room',
    variable: 'PGSSO_MAX_LOGINS',
    parse: parseCount,
    default: 1000,
  },
  maxLoginsPerAddress: {
    group: 'Limits:',
    flags: '--max-logins-per-address <N>',
    description:
      'unfinished logins of one address, of IPv6 one /64 network (default: no limit of its own)',
    variable: 'PGSSO_MAX_LOGINS_PER_ADDRESS',
    parse: parseCount,
  },
  maxSessions: {
    group: 'Limits:',
    flags: '--max-sessions <N>',
    description: 'sessions at once; more are refused with 53300',
    variable: 'PGSSO_MAX_SESSIONS',
    parse: parseCount,
    default: 10_000,
  },
  tcpUserTimeout: {
    group: 'Limits:',
    flags: '--tcp-user-timeout <DURATION>',
    description: 'a peer that takes nothing for so long while bytes wait for it is gone; 0: never',
    variable: 'PGSSO_TCP_USER_TIMEOUT',
    parse: parseDelay,
    default: 300_000,
    defaultText: '5m',
  },
  copy: {
    group: 'Limits:',
    flags: '--copy <HOW>',
    description:
      'how bytes pass after the login: auto, by handles of sockets where this Node.js allows ' +
      'it; streams, by documented calls only',
    variable: 'PGSSO_COPY',
    choices: COPY_OPTIONS,
    default: 'auto',
  },
  drainDelay: {
    group: 'Limits:',
    flags: '--drain-delay <DURATION>',
    description: 'how long connections are still accepted after SIGTERM, while /readyz says no',
    variable: 'PGSSO_DRAIN_DELAY',
    parse: parseDelay,
    default: 0,
    defaultText: '0s',
  },
  drainTimeout: {
    group: 'Limits:',
    flags: '--drain-timeout <DURATION>',
    description: 'how long sessions may go on after SIGTERM',
    variable: 'PGSSO_DRAIN_TIMEOUT',
    parse: parseTimeout,
    default: 30_000,
    defaultText: '30s',
  },
  workers: {
    group: 'Limits:',
    flags: '--workers <N>',
    description: 'processes that share the listeners and all limits; auto: one a processor',
    variable: 'PGSSO_WORKERS',
    parse: parseWorkers,
    default: 1,
  },
  metricsListen: {
    group: 'Metrics and log:',
    flags: '--metrics-listen <HOST:PORT>',
    description: '/metrics, /healthz and /readyz over http, for operators only',
    variable: 'PGSSO_METRICS_LISTEN',
    parse: parseListenAddress,
  },
  logFormat: {
    group: 'Metrics and log:',
    flags: '--log-format <FORMAT>',
    description: 'json or pretty, on stderr (default: json, and pretty on a terminal)',
    variable: 'PGSSO_LOG_FORMAT',
    choices: ['json', 'pretty'],
  },
  logLevel: {
    group: 'Metrics and log:',
    flags: '--log-level <LEVEL>',
    description: 'lowest level that is written',
    variable: 'PGSSO_LOG_LEVEL',
    choices: LOG_LEVELS,
    default: 'info',
  },
};

/** The environment variables of all options. */
export function serveVariables(): string[] {
  return Object.values<Row<unknown>>(table).flatMap(({ variable }) => variable ?? []);
}

/** Adds the options to a command. */
export function addServeOptions(command: Command): Command {
  for (const row of Object.values<Row<unknown>>(table)) {
    command.optionsGroup(row.group).addOption(toOption(row));
  }
  return command;
}

/** Turns parsed options into those of the server. */
export function readServeOptions(command: Command, parsed: ParsedOptions): ServeOptions {
  const { listen, route, set, reservedUser, admin, viewer, settings, envFile: _, ...rest } = parsed;
  return {
    ...rest,
    listen: listen ?? [DEFAULT_LISTEN],
    routes: route ?? [],
    settings: set ?? [],
    settingsUrl: settings,
    reservedUsers: reservedUser ?? [],
    admins: admin ?? [],
    viewers: viewer ?? [],
    environment: process.env,
    sourceOf: (option) => sourceOf(command, option),
  };
}

function toOption(row: Row<unknown>): Option {
  const option = new Option(row.flags, row.description);
  if (row.variable !== undefined) option.env(row.variable);
  if (row.parse) option.argParser(row.parse);
  if (row.choices) option.choices(row.choices.map(String));
  if (row.default !== undefined) option.default(row.default, row.defaultText);
  return option;
}
