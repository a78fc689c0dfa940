/**
 * `pgsso serve`: runs the front-end until a signal. SIGTERM and SIGINT drain it, and a second one
 * ends it at once. SIGHUP reads certificates and credential files again.
 */
import type { Command } from 'commander';
import type { ServeOptions } from '../server/options.ts';
import type { RunningServer } from '../server/server.ts';
import { addServeOptions, type ParsedOptions, readServeOptions } from './serve-options.ts';

const EXIT_AT_ONCE = 1;

/** How long the last lines of the log may take to be written, in ms. */
const EXIT_MS = 500;

const STOP_SIGNALS = ['SIGTERM', 'SIGINT'] as const;

const CONNINFO =
  'host=127.0.0.1 port=26257 user=alice dbname=app options=--crdb:jwt_auth_enabled=true';

const EXAMPLE = `
Example: let tokens of one issuer in as themselves, in front of a PostgreSQL on this host
  pgsso serve --backend postgres:///?host=/var/run/postgresql --backend-auth trust \\
    --set server.jwt_authentication.enabled=true \\
    --set server.jwt_authentication.issuers.configuration=https://id.example.com \\
    --set server.jwt_authentication.audience=my-databases \\
    --set server.jwt_authentication.jwks_auto_fetch.enabled=true

  PGPASSWORD=$TOKEN psql "${CONNINFO}"
`;

/** Adds the command to the program. */
export function addServeCommand(program: Command): void {
  const command = program
    .command('serve')
    .description('Take logins with JSON web tokens and hand the sessions to the database.');
  addServeOptions(command).addHelpText('after', EXAMPLE);
  command.action((parsed: ParsedOptions) => run(readServeOptions(command, parsed)));
}

async function run(options: ServeOptions): Promise<void> {
  const { createLog } = await import('../observe/log.ts');
  const { logWritten } = await import('../server/closing.ts');
  const serve = await serverFor(options);
  const logFormat = options.logFormat ?? (process.stderr.isTTY ? 'pretty' : 'json');
  const log = createLog(logFormat, options.logLevel);
  // The signals are handled before the log says "ready": a supervisor may send one right after.
  let server: RunningServer | undefined;
  process.on('SIGHUP', () => void server?.reload());
  const stopped = stopSignal();
  try {
    server = await serve({ ...options, logFormat }, log);
    // A supervisor waits for the line that says "ready".
    log.flush();
    log.info({ event: 'shutdown', signal: await stopped }, 'draining');
    await server.drain();
  } catch (error) {
    // The error is one more line on stderr, behind those of the log.
    log.flush();
    // A connection to something frozen would keep the process alive.
    setTimeout(() => process.exit(), EXIT_MS).unref();
    throw error;
  }
  await logWritten(log);
  // The signals are handled to the very end: while Node.js ends by itself, a SIGHUP would kill it.
  process.exit(0);
}

/** What starts the server: in this process alone, or with workers. */
async function serverFor({ workers }: ServeOptions) {
  if (workers === 1) return (await import('../server/server.ts')).serve;
  return (await import('../server/workers/primary.ts')).serveWithWorkers;
}

/** Resolves at the first signal. A second one ends the process at once. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let isStopping = false;
    const stop = (signal: NodeJS.Signals): void => {
      if (isStopping) process.exit(EXIT_AT_ONCE);
      isStopping = true;
      resolve(signal);
    };
    for (const signal of STOP_SIGNALS) process.on(signal, stop);
  });
}
