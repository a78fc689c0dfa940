/**
 * `pgsso serve`: its options and their environment variables, turned into ServeOptions. A flag wins over its variable. What a single
 * value may be is checked here; what needs a look at a file or at other options is checked where it is used.
 */
import { type Command, Option } from 'commander';
import { UsageError } from '../errors.ts';
import { LOG_LEVELS } from '../observe/log.ts';
import type { ServeOptions } from '../serve.ts';
import type { ListenAddress } from '../session/listener.ts';
import { collect, parseCount, parseListenAddress, parseTimeout, parseUserName, repeatable } from './values.ts';

/** The options as commander leaves them, by their names in camel case. */
interface ParsedOptions
  extends Omit<
    ServeOptions,
    | 'listen'
    | 'backend'
    | 'backendFromFlag'
    | 'settings'
    | 'reservedUsers'
    | 'admins'
    | 'viewers'
    | 'environment'
    | 'settingsUrl'
    | 'settingsUrlFromFlag'
  > {
  readonly listen?: readonly ListenAddress[];
  readonly backend?: string;
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
    --set "server.jwt_authentication.jwks=$(cat jwks.json)"

  PGPASSWORD=$TOKEN psql "host=127.0.0.1 port=26257 user=alice options=--crdb:jwt_auth_enabled=true"
`;

/** Adds the command to the program; `run` gets the options once they are read. */
export function addServeCommand(program: Command, run: (options: ServeOptions) => Promise<void>): void {
  const command = program
    .command('serve')
    .description('Take logins with JSON web tokens and hand the sessions to the database.')
    .optionsGroup('Where:')
    .addOption(
      new Option('--listen <HOST:PORT>', 'where clients connect; may be repeated (default: 127.0.0.1:26257)')
        .env('PGSSO_LISTEN')
        .argParser(repeatable(parseListenAddress)),
    )
    .addOption(
      new Option('--backend <URL>', 'the database: postgres://host:port[/db]?sslmode=… or postgres:///?host=/socket/dir').env(
        'PGSSO_BACKEND',
      ),
    )
    .addOption(
      new Option('--data-dir <DIR>', 'settings and the socket of the console; made with mode 0700 if missing')
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
      new Option('--backend-auth <METHOD>', 'trust: it lets this address in; password: with a password file')
        .env('PGSSO_BACKEND_AUTH')
        .choices(['trust', 'password'])
        .default('password'),
    )
    .addOption(
      new Option('--backend-passfile <FILE>', "passwords for --backend-auth password, in the form of libpq's .pgpass").env(
        'PGSSO_BACKEND_PASSFILE',
      ),
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
      new Option('--reserved-user <NAME>', 'one more user that no token may log in as; may be repeated')
        .env('PGSSO_RESERVED_USER')
        .argParser(repeatable(parseUserName)),
    )
    .addOption(
      new Option('--native-logins <MODE>', "logins without a token, judged by the database's own rules")
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
      new Option('--client-tls <MODE>', 'whether clients must use TLS (default: require; prefer on a loopback address)')
        .env('PGSSO_CLIENT_TLS')
        .choices(['require', 'prefer', 'disable']),
    )
    .addOption(new Option('--tls-cert <FILE>', 'certificate chain, PEM; read again on SIGHUP').env('PGSSO_TLS_CERT'))
    .addOption(new Option('--tls-key <FILE>', 'its private key, PEM; read again on SIGHUP').env('PGSSO_TLS_KEY'))
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
      count('--max-sessions <N>', 'sessions at once; more are refused with 53300').env('PGSSO_MAX_SESSIONS').default(10_000),
    )
    .addOption(
      timeout('--drain-timeout <DURATION>', 'how long sessions may go on after SIGTERM')
        .env('PGSSO_DRAIN_TIMEOUT')
        .default(30_000, '30s'),
    )
    .optionsGroup('Log, on stderr:')
    .addOption(
      new Option('--log-format <FORMAT>', 'json or pretty (default: json, and pretty on a terminal)')
        .env('PGSSO_LOG_FORMAT')
        .choices(['json', 'pretty']),
    )
    .addOption(
      new Option('--log-level <LEVEL>', 'lowest level that is written')
        .env('PGSSO_LOG_LEVEL')
        .choices(LOG_LEVELS)
        .default('info'),
    )
    .addHelpText('after', EXAMPLE);

  command.action(async ({ listen, backend, set, reservedUser, admin, viewer, settings, ...rest }: ParsedOptions) => {
    if (backend === undefined)
      throw new UsageError('option --backend <URL> (or PGSSO_BACKEND) is missing: it names the database');
    await run({
      ...rest,
      listen: listen ?? [DEFAULT_LISTEN],
      backend,
      backendFromFlag: command.getOptionValueSource('backend') === 'cli',
      settings: set ?? [],
      settingsUrl: settings,
      settingsUrlFromFlag: command.getOptionValueSource('settings') === 'cli',
      reservedUsers: reservedUser ?? [],
      admins: admin ?? [],
      viewers: viewer ?? [],
      environment: process.env,
    });
  });
}

function timeout(flags: string, description: string): Option {
  return new Option(flags, description).argParser(parseTimeout);
}

function count(flags: string, description: string): Option {
  return new Option(flags, description).argParser(parseCount);
}
