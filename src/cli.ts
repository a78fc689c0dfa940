#!/usr/bin/env node
/**
 * The command line. Each command parses its options and calls one function. An error is one line on
 * stderr that names the option. The exit status is 2 for wrong use and 1 for any other error.
 *
 * What only one command needs is imported when that command runs: importing the server takes far
 * longer than most other commands do.
 */
import { CommanderError } from 'commander';
import { makeProgram, oneLine } from './cli/program.ts';
import { errorText, UsageError } from './lib/errors.ts';

const EXIT_RUN_TIME = 1;
const EXIT_USAGE = 2;

// A reader that stops early, as in `pgsso --help | head`, is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

try {
  const program = await makeProgram(process.argv[2]);
  await program.parseAsync(await argumentsFor(process.argv));
} catch (error) {
  // Commander writes its own errors. Help and the version are errors with exit code 0.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  else {
    process.stderr.write(`pgsso: ${oneLine(errorText(error))}\n`);
    process.exitCode = error instanceof UsageError ? EXIT_USAGE : EXIT_RUN_TIME;
  }
}

/** The arguments for commander: `-v` is short as well, and those of psql are not its own. */
async function argumentsFor(argv: readonly string[]): Promise<readonly string[]> {
  if (argv[2] === '-v') return [...argv.slice(0, 2), '--version'];
  if (argv[2] !== 'psql') return argv;
  const { placeArguments } = await import('./cli/psql.ts');
  return placeArguments(argv);
}
