/** How tests start other processes, mostly of Node. */
import { spawn } from 'node:child_process';

/**
 * A command and its arguments for `spawn` that runs Node as an operator's shell does. Tap adds
 * NODE_OPTIONS to the environment of every process that a test starts, to measure coverage. That
 * doubles the time of a start, and here no coverage is measured. The process id is Node's, so that
 * signals reach it.
 */
export function nodeCommand(...args: readonly string[]): [command: string, args: string[]] {
  return ['/usr/bin/env', ['-u', 'NODE_OPTIONS', process.execPath, ...args]];
}

/** How a process ended, and what it printed. The status is -1 if it could not be started. */
export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a command to its end.
 *
 * @param env the whole environment but PATH
 * @param input standard input
 */
export async function runCommand(
  [command, args]: readonly [command: string, args: readonly string[]],
  env: NodeJS.ProcessEnv = {},
  input = '',
): Promise<Outcome> {
  const { PATH } = process.env;
  const child = spawn(command, args, { env: { PATH, ...env } });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (text) => {
      output[name] += text;
    });
  child.stdin.on('error', () => undefined).end(input);
  const status = await new Promise<number | null>((resolve) =>
    child.once('error', () => resolve(-1)).once('close', resolve),
  );
  return { status, ...output };
}
