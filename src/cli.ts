#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
/**
 * The command line. A command parses its options and calls one function; what goes wrong is one
 * line on stderr that names the option, with exit status 2 for wrong use and 1 for what only showed
 * when it was tried.
 */
import { addCaCommand } from './cli/ca.ts';
import { addCheckCommand } from './cli/check.ts';
import { addExplainCommand } from './cli/explain.ts';
import { addServeCommand } from './cli/serve.ts';
import { addSettingsCommand } from './cli/settings.ts';
import { errorText, UsageError } from './lib/errors.ts';
import { createLog } from './observe/log.ts';
import { type RunningServer, type ServeOptions, serve, version } from './server/server.ts';

const EXIT_RUN_TIME = 1;
const EXIT_USAGE = 2;

// Nobody reads any more, as with `pgsso --help | head`: that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

const program = new Command('pgsso')
  .description('Single sign-on for PostgreSQL and CockroachDB: a JSON web token is the password.')
  .version(version)
  .showSuggestionAfterError(false)
  .showHelpAfterError(false)
  .exitOverride()
  .configureOutput({
    outputError: (text, write) => write(`${oneLine(text.replace(/^error: /, 'pgsso: '))}\n`),
  });

addServeCommand(program, runServe);
addCheckCommand(program);
addCaCommand(program);
addSettingsCommand(program);
addExplainCommand(program);

try {
  await program.parseAsync();
} catch (error) {
  // Commander has written its own errors; its exit code 0 is help or the version.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  else {
    process.stderr.write(`pgsso: ${oneLine(errorText(error))}\n`);
    process.exitCode = error instanceof UsageError ? EXIT_USAGE : EXIT_RUN_TIME;
  }
}

/**
 * Serves until a signal: SIGTERM and SIGINT drain, a second one ends at once, SIGHUP reads files
 * again.
 */
async function runServe(options: ServeOptions): Promise<void> {
  const log = createLog(
    options.logFormat ?? (process.stderr.isTTY ? 'pretty' : 'json'),
    options.logLevel,
  );
  // Before the log says that we are ready, since whoever waits for that may send one at once.
  let server: RunningServer | undefined;
  process.on('SIGHUP', () => void server?.reload());
  const stopped = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => resolve(signal));
    }
  });
  server = await serve(options, log);
  log.info({ event: 'shutdown', signal: await stopped }, 'draining: no new connections');
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => process.exit(EXIT_RUN_TIME));
  }
  await server.drain();
}

function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, ' ');
}
