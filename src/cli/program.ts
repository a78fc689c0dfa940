/** The commands of `pgsso`. Only the module of the command that is asked for is loaded. */
import { Command } from 'commander';
import { version } from '../server/options.ts';

/** Adds commands to the program. */
type Add = (program: Command) => void;

/** In the order of --help: the names of commands, and the module that has them. */
const modules: readonly (readonly [readonly string[], () => Promise<Add>])[] = [
  [['serve'], async () => (await import('./serve.ts')).addServeCommand],
  [['check'], async () => (await import('./check.ts')).addCheckCommand],
  [['ca'], async () => (await import('./ca.ts')).addCaCommand],
  [['settings'], async () => (await import('./settings.ts')).addSettingsCommand],
  [['explain'], async () => (await import('./explain.ts')).addExplainCommand],
  [['login', 'logout'], async () => (await import('./login.ts')).addLoginCommands],
  [['token'], async () => (await import('./token.ts')).addTokenCommand],
  [['psql'], async () => (await import('./psql.ts')).addPsqlCommand],
  [['connect'], async () => (await import('./connect.ts')).addConnectCommand],
  // It completes all the others.
  [[], async () => (await import('./completion.ts')).addCompletionCommand],
];

/**
 * The program with one command, or with all of them.
 *
 * @param command the first argument; all commands are there if it is none of them
 */
export async function makeProgram(command?: string): Promise<Command> {
  const program = new Command('pgsso')
    .description('Single sign-on for PostgreSQL and CockroachDB: a JSON web token is the password.')
    .version(version, '-V, --version', 'print the version; -v, too')
    // The commands take these over from the program when they are added.
    .showSuggestionAfterError(false)
    .showHelpAfterError(false)
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => write(`${oneLine(text.replace(/^error: /, 'pgsso: '))}\n`),
    });
  const asked = modules.filter(([names]) => command !== undefined && names.includes(command));
  for (const [, load] of asked.length > 0 ? asked : modules) (await load())(program);
  return program;
}

/** Without line breaks. */
export function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, ' ');
}
