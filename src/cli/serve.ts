/**
 * `pgsso serve`: its options and their environment variables, turned into ServeOptions. A flag wins
 * over its variable. What a single value may be is checked here; what needs a look at a file or at
 * other options is checked where it is used.
 */

import { type Command, Option } from 'commander';
import { backendAuths } from '../backend/url.ts';
import { LOG_LEVELS } from '../observe/log.ts';
import type { ServeOptions } from '../server/server.ts';
import type { ListenAddress } from '../session/listener.ts';
import {
  collect,
  parseCount,
  parseListenAddress,
  parseSize,
  parseTimeout,
  parseUserName,
  repeatable,
} from './values.ts';

/** The options as commander leaves them, by their names in camel case. */
export interface ParsedOptions
  extends Omit<
    ServeOptions,
    | 'listen'
    | 'backendFromFlag'
    | 'directoryFromFlag'
    | 'routes'
    | 'routesFromFlag'
    | 'settings'
    | 'settingsUrl'
    | 'settingsUrlFromFlag'
    | 'reservedUsers'
    | 'admins'
    | 'viewers'
    | 'environment'
  > {
  readonly listen?: readonly ListenAddress[];
  readonly route?: readonly string[];
  readonly settings?: string;
  readonly set?: readonly string[];
  readonly reservedUser?: readonly string[];
  readonly admin?: readonly string[];
  readonly viewer?: readonly string[];
}

/** What is listened to without `--listen`; the port is CockroachDB's. */
const DEFAULT_LISTEN: ListenAddress = { host: '127.0.0.1', port: 26257 };

const EXAMPLE = `
Example: let tokens of one issuer in as themselves, in front of a PostgreSQL on this host
  pgsso serve --backend postgres:///?host=/var/run/postgresql --backend-auth trust \\
    --set server.jwt_authentication.enabled=true \\
    --set server.jwt_authentication.issuers.configuration=https://id.example.com \\
    --set server.jwt_authentication.audience=my-databases \\
    --set server.jwt_authentication.jwks_auto_fetch.enabled=true

  PGPASSWORD=$TOKEN psql "host=127.0.0.1 port=26257 user=alice dbname=app options=--crdb:jwt_auth_enabled=true"
`;

/** Adds the command to the program; `run` gets the options once they are read. */
export function addServeCommand(
  program: Command,
  run: (options: ServeOptions) => Promise<void>,
): void {
  const command = addServeOptions(
    program
      .command('serve')
      .description('Take logins with JSON web tokens and hand the sessions to the database.'),
  ).addHelpText('after', EXAMPLE);
  command.action((parsed: ParsedOptions) => run(readServeOptions(command, parsed)));
}

/** The options of `serve`, also for a command that looks at them before they go live. */
export function addServeOptions(command: Command): Command {
  return command
    .optionsGroup('Where:')
    .addOption(
      new Option(
        '--listen <HOST:PORT>',
        'where clients connect; may be repeated, in the variable with commas (default: 127.0.0.1:26257)',
      )
        .env('PGSSO_LISTEN')
        .argParser(repeatable(parseListenAddress)),
    )
    .addOption(
      new Option(
        '--backend <URL>',
        'the database: postgres://host:port[/db]?sslmode=… or postgres:///?host=/socket/dir',
      ).env('PGSSO_BACKEND'),
    )
    .addOption(
      new Option(
        '--route <PATTERN=URL>',
        'another backend for the databases that fit, * for anything; may be repeated, the first that fits (variable: one a line)',
      )
        .env('PGSSO_ROUTE')
        .argParser(collectLines),
    )
    .addOption(
      new Option(
        '--data-dir <DIR>',
        'settings and the socket of the console; made with mode 0700 if missing',
      )
        .env('PGSSO_DATA_DIR')
        .default('./pgsso-data'),
    )
    .addOption(
      new Option(
        '--settings <URL>',
        'keep settings in a database that several nodes share: postgres://user@host/db?passfile=… (default: in the data directory)',
      ).env('PGSSO_SETTINGS'),
    )
    .optionsGroup('How to log in at the database:')
    .addOption(
      new Option(
        '--backend-auth <METHOD>',
        'trust: it lets this address in; password: a password file; cert: sslcert and sslkey in the URL; issue-cert: a certificate for each user',
      )
        .env('PGSSO_BACKEND_AUTH')
        .choices(backendAuths)
        .default('password'),
    )
    .addOption(
      new Option(
        '--backend-passfile <FILE>',
        "passwords for --backend-auth password, in the form of libpq's .pgpass",
      ).env('PGSSO_BACKEND_PASSFILE'),
    )
    .addOption(
      new Option(
        '--issue-ca-cert <FILE>',
        'the authority that issues for issue-cert; `pgsso ca init` makes one',
      ).env('PGSSO_ISSUE_CA_CERT'),
    )
    .addOption(
      new Option('--issue-ca-key <FILE>', 'its private key, mode 0600').env('PGSSO_ISSUE_CA_KEY'),
    )
    .addOption(
      new Option('--backend-ahead <N>', 'connections opened ahead of logins, for each backend')
        .env('PGSSO_BACKEND_AHEAD')
        .argParser(parseSize)
        .default(0),
    )
    .optionsGroup('Users and roles:')
    .addOption(
      new Option(
        '--directory <URL>',
        'a role that creates users and grants roles: postgres://ROLE@host/database?passfile=… (docs/directory.md)',
      ).env('PGSSO_DIRECTORY'),
    )
    .optionsGroup('Who may log in:')
    .addOption(
      new Option(
        '--set <NAME=VALUE>',
        "a setting's default for this process; may be repeated; also PGSSO_SET_<NAME>, dots as _",
      ).argParser(collect),
    )
    .addOption(
      new Option('--superusers <MODE>', 'token logins of database superusers')
        .env('PGSSO_SUPERUSERS')
        .choices(['refuse', 'allow'])
        .default('refuse'),
    )
    .addOption(
      new Option(
        '--reserved-user <NAME>',
        'one more user that no token may log in as; may be repeated, in the variable with commas',
      )
        .env('PGSSO_RESERVED_USER')
        .argParser(repeatable(parseUserName)),
    )
    .addOption(
      new Option(
        '--native-logins <MODE>',
        "logins without a token, judged by the database's own rules",
      )
        .env('PGSSO_NATIVE_LOGINS')
        .choices(['allow', 'deny'])
        .default('allow'),
    )
    .optionsGroup('Who may use the console, the database pgsso:')
    .addOption(
      new Option('--admin <ROLE>', 'a SQL user who may look and change settings; may be repeated')
        .env('PGSSO_ADMIN')
        .argParser(repeatable(parseUserName)),
    )
    .addOption(
      new Option('--viewer <ROLE>', 'a SQL user who may only look; may be repeated')
        .env('PGSSO_VIEWER')
        .argParser(repeatable(parseUserName)),
    )
    .optionsGroup('TLS towards clients:')
    .addOption(
      new Option(
        '--client-tls <MODE>',
        'whether clients must use TLS (default: require; prefer on a loopback address)',
      )
        .env('PGSSO_CLIENT_TLS')
        .choices(['require', 'prefer', 'disable']),
    )
    .addOption(
      new Option('--tls-cert <FILE>', 'certificate chain, PEM; read again on SIGHUP').env(
        'PGSSO_TLS_CERT',
      ),
    )
    .addOption(
      new Option('--tls-key <FILE>', 'its private key, PEM; read again on SIGHUP').env(
        'PGSSO_TLS_KEY',
      ),
    )
    .optionsGroup('Limits:')
    .addOption(
      timeout('--login-timeout <DURATION>', 'from the connection to the first prompt')
        .env('PGSSO_LOGIN_TIMEOUT')
        .default(30_000, '30s'),
    )
    .addOption(
      count('--max-logins <N>', 'unfinished logins; the oldest without a password makes room')
        .env('PGSSO_MAX_LOGINS')
        .default(1000),
    )
    .addOption(
      count('--max-sessions <N>', 'sessions at once; more are refused with 53300')
        .env('PGSSO_MAX_SESSIONS')
        .default(10_000),
    )
    .addOption(
      timeout('--drain-timeout <DURATION>', 'how long sessions may go on after SIGTERM')
        .env('PGSSO_DRAIN_TIMEOUT')
        .default(30_000, '30s'),
    )
    .optionsGroup('Metrics and log:')
    .addOption(
      new Option(
        '--metrics-listen <HOST:PORT>',
        '/metrics, /healthz and /readyz over http, for operators only',
      )
        .env('PGSSO_METRICS_LISTEN')
        .argParser(parseListenAddress),
    )
    .addOption(
      new Option(
        '--log-format <FORMAT>',
        'json or pretty, on stderr (default: json, and pretty on a terminal)',
      )
        .env('PGSSO_LOG_FORMAT')
        .choices(['json', 'pretty']),
    )
    .addOption(
      new Option('--log-level <LEVEL>', 'lowest level that is written')
        .env('PGSSO_LOG_LEVEL')
        .choices(LOG_LEVELS)
        .default('info'),
    );
}

/** What the options come to. */
export function readServeOptions(
  command: Command,
  { listen, route, set, reservedUser, admin, viewer, settings, ...rest }: ParsedOptions,
): ServeOptions {
  return {
    ...rest,
    listen: listen ?? [DEFAULT_LISTEN],
    backendFromFlag: command.getOptionValueSource('backend') === 'cli',
    directoryFromFlag: command.getOptionValueSource('directory') === 'cli',
    routes: route ?? [],
    routesFromFlag: command.getOptionValueSource('route') === 'cli',
    settings: set ?? [],
    settingsUrl: settings,
    settingsUrlFromFlag: command.getOptionValueSource('settings') === 'cli',
    reservedUsers: reservedUser ?? [],
    admins: admin ?? [],
    viewers: viewer ?? [],
    environment: process.env,
  };
}

function timeout(flags: string, description: string): Option {
  return new Option(flags, description).argParser(parseTimeout);
}

function count(flags: string, description: string): Option {
  return new Option(flags, description).argParser(parseCount);
}

/** A URL may hold commas, so that a variable has one a line. */
function collectLines(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), ...text.split('\n').filter((line) => line.trim() !== '')];
}
