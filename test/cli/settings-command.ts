/** Runs `pgsso settings` as a process, for the tests of that command. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { nodeCommand } from '../support/node-command.ts';

const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

/** A setting that the tests change; its default is 5s. */
export const NAME = 'pgsso.clock_tolerance';

/** A backend that is never connected to, for the tests that only use the console's socket. */
export const NO_BACKEND = 'postgres:///?host=/tmp';

/** What the process wrote and its exit status. */
export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

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
  const { PATH } = process.env;
  const child = spawn(...nodeCommand(cli, 'settings', ...args), { env: { PATH, ...env } });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk) => {
      output[name] += chunk;
    });
  }
  child.stdin.on('error', () => undefined).end(input);
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { status, ...output };
}
