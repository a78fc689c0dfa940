/** Starts the command line as a process of its own, in a directory of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { nodeCommand } from '../support/node-command.ts';
import type { Use } from './many-uses.ts';

const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));
const manyUses = fileURLToPath(new URL('./many-uses.js', import.meta.url));

/** The working directory of the processes. It is removed at the end of the test file. */
export const files = await mkdtemp(join(tmpdir(), 'pgsso-cli-'));
t.teardown(() => rm(files, { recursive: true, force: true }));

/** The URL of a backend that is not asked for anything. */
export const backend = 'postgres:///?host=/tmp';

/** Options with which `serve` and `check` can start. */
export const usable = ['--backend', backend, '--backend-auth', 'trust', '--listen', '127.0.0.1:0'];

/** How a process ended, and what it printed. */
export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end. */
export async function run(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Outcome> {
  return await outcomeOf(start(cli, args, env));
}

/** Runs commands that end before anything is started, all in one process: see many-uses.ts. */
export async function runMany(uses: readonly Use[]): Promise<readonly Outcome[]> {
  const child = start(manyUses, [], {}, 'pipe');
  child.stdin?.end(JSON.stringify(uses));
  const { status, stdout, stderr } = await outcomeOf(child);
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

async function outcomeOf(child: ChildProcess): Promise<Outcome> {
  const output = { stdout: '', stderr: '' };
  child.stdout?.on('data', (text) => {
    output.stdout += text;
  });
  child.stderr?.on('data', (text) => {
    output.stderr += text;
  });
  const [status] = await once(child, 'close');
  return { status, ...output };
}

/**
 * Starts a server and waits until its log says that it is ready.
 *
 * @param openFiles its limit of open files; default: that of this process
 */
export async function ready(
  args: readonly string[],
  env?: NodeJS.ProcessEnv,
  openFiles?: number,
): Promise<{ child: ChildProcess; log: () => string }> {
  const child = start(cli, args, env, 'ignore', openFiles);
  let log = '';
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on('data', (text) => {
      log += text;
      if (log.includes('ready for connections')) resolve();
    });
    child.on('exit', () => reject(new Error(log)));
  });
  return { child, log: () => log };
}

/** Does the work for every row, two at a time: most of a short process's life is its start. */
export async function forEachRow<Row>(
  rows: readonly Row[],
  work: (row: Row, index: number) => Promise<void>,
): Promise<void> {
  const remaining = rows.entries();
  const next = async (): Promise<void> => {
    for (const [index, row] of remaining) await work(row, index);
  };
  await Promise.all([next(), next()]);
}

function start(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  stdin: 'ignore' | 'pipe' = 'ignore',
  openFiles?: number,
): ChildProcess {
  const { PATH } = process.env;
  const [node, nodeArgs] = nodeCommand(program, ...args);
  const limited = ['-c', `ulimit -n ${openFiles}; exec "$0" "$@"`, node, ...nodeArgs];
  const isLimited = openFiles !== undefined;
  return spawn(isLimited ? '/bin/sh' : node, isLimited ? limited : nodeArgs, {
    cwd: files,
    env: { PATH, ...env },
    stdio: [stdin, 'pipe', 'pipe'],
  });
}
