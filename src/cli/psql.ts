/**
 * `pgsso psql`: psql with a token. All that follows is psql's, options too, except the long options
 * of this command. Another program of libpq is named after `--`.
 */
import type { Command } from 'commander';
import { UsageError } from '../lib/errors.ts';
import {
  addClientOptions,
  CLIENT_FLAGS,
  isInteractive,
  type ParsedClientOptions,
  setupOptions,
} from './client-options.ts';

const EXAMPLE = `
Example: psql by the profile, and pg_dump by another one
  pgsso psql -d app -c 'SELECT current_user'
  pgsso psql --profile work -- pg_dump -d app

The program finds PGPASSWORD and PGOPTIONS in its environment, and PGHOST, PGPORT, PGSSLMODE and
PGSSLROOTCERT if they are not set. Host and port are those of the profile. TLS is verified in full
unless the host is this one.
`;

/** Adds the command to the program. */
export function addPsqlCommand(program: Command): void {
  const command = program
    .command('psql')
    .description('Run psql, or another program after --, with a token as the password.')
    .usage('[options of pgsso] [arguments of psql] | [options of pgsso] -- PROGRAM [arguments]')
    .argument('[arguments...]');
  addClientOptions(command).addHelpText('after', EXAMPLE);
  command.action(async (words: readonly string[], parsed: ParsedClientOptions) => {
    process.exitCode = await run(words, parsed);
  });
}

/**
 * The arguments of this command for commander, which would take `-h` and the like for its own.
 * After the word `psql` and the options of this command there is `--`, the program, and its
 * arguments.
 *
 * @throws UsageError if no program follows `--`, or arguments come before it
 */
export function placeArguments(argv: readonly string[]): readonly string[] {
  const [node = '', script = '', command = '', ...args] = argv;
  const { own, words } = splitArguments(args);
  return [node, script, command, ...own, '--', ...words];
}

function splitArguments(args: readonly string[]): { own: string[]; words: string[] } {
  const own: string[] = [];
  const words: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? '';
    if (arg === '--') {
      const program = args.slice(index + 1);
      if (program[0] === undefined) throw new UsageError('--: name the program to run');
      if (words.length > 0)
        throw new UsageError(`${words[0]}: give the arguments of ${program[0]} behind its name`);
      return { own, words: program };
    }
    const [flag = ''] = arg.split('=', 1);
    if (!CLIENT_FLAGS.includes(flag)) words.push(arg);
    else if (arg !== flag) own.push(arg);
    else own.push(arg, ...args.slice(++index, index + 1));
  }
  return { own, words: ['psql', ...words] };
}

/** Runs the program. Returns its exit status. */
async function run(
  [program = 'psql', ...args]: readonly string[],
  parsed: ParsedClientOptions,
): Promise<number> {
  const { openSetup, openTokenSource } = await import('../client/setup.ts');
  const { childEnvironment, runChild } = await import('../client/child.ts');
  const options = setupOptions(parsed);
  const setup = await openSetup(options);
  const login = { method: undefined, isInteractive: isInteractive() };
  const source = await openTokenSource(setup, options, login);
  const { token } = await source.get(new AbortController().signal);
  await setup.http.close();
  const environment = await childEnvironment(process.env, setup.profile, token, args);
  return runChild(program, args, environment);
}
