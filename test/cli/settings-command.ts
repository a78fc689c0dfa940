/** Runs `pgsso settings` as a process, for the tests of that command. */
import { fileURLToPath } from 'node:url';
import { nodeCommand, type Outcome, runCommand } from '../support/node-command.ts';

const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

/** A setting that the tests change; its default is 5s. */
export const NAME = 'pgsso.clock_tolerance';

/** A backend that is never connected to, for the tests that only use the console's socket. */
export const NO_BACKEND = 'postgres:///?host=/tmp';

/**
 * Runs the command.
 *
 * @param input standard input
 * @param env the whole environment but PATH
 */
export async function runSettings(
  args: readonly string[],
  input: string,
  env: NodeJS.ProcessEnv,
): Promise<Outcome> {
  return runCommand(nodeCommand(cli, 'settings', ...args), env, input);
}
