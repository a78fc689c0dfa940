#!/usr/bin/env node
/**
 * The command line. Each command parses its options and calls one function. An error is one line on
 * stderr that names the option. The exit status is 2 for wrong use and 1 for any other error.
 *
 * What only one command needs is imported when that command runs: importing the server takes far
 * longer than most other commands do.
 */
import { Command, CommanderError } from 'commander';
import { addCaCommand } from './cli/ca.ts';
import { addCheckCommand } from './cli/check.ts';
import { addCompletionCommand } from './cli/completion.ts';
import { addConnectCommand } from './cli/connect.ts';
import { addExplainCommand } from './cli/explain.ts';
import { addLoginCommands } from './cli/login.ts';
import { addPsqlCommand, placeArguments } from './cli/psql.ts';
import { addServeCommand } from './cli/serve.ts';
import { addSettingsCommand } from './cli/settings.ts';
import { addTokenCommand } from './cli/token.ts';
import { errorText, UsageError } from './lib/errors.ts';
import { version } from './server/options.ts';

const EXIT_RUN_TIME = 1;
const EXIT_USAGE = 2;

// A reader that stops early, as in `pgsso --help | head`, is no failure.
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

addServeCommand(program);
addCheckCommand(program);
addCaCommand(program);
addSettingsCommand(program);
addExplainCommand(program);
addLoginCommands(program);
addTokenCommand(program);
addPsqlCommand(program);
addConnectCommand(program);
addCompletionCommand(program);

try {
  await program.parseAsync(placeArguments(process.argv));
} catch (error) {
  // Commander writes its own errors. Help and the version are errors with exit code 0.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  else {
    process.stderr.write(`pgsso: ${oneLine(errorText(error))}\n`);
    process.exitCode = error instanceof UsageError ? EXIT_USAGE : EXIT_RUN_TIME;
  }
}

function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, ' ');
}
