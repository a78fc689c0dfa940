/** A user of the client's side with folders of their own, who runs the command line. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { nodeCommand } from '../support/node-command.ts';

const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

/** A command that runs. */
export interface Command {
  readonly child: ChildProcess;
  /** What it has printed so far. */
  readonly output: { stdout: string; stderr: string };
  /** Waits for a text on standard error, and returns its first group. */
  says(expected: RegExp): Promise<string>;
  /** Waits for the end. */
  end(): Promise<Outcome>;
}

/** How a command ended. */
export interface Outcome {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A home directory. It is removed at the end of the test file. */
export function newUser(): {
  readonly home: string;
  start(args: readonly string[], env?: NodeJS.ProcessEnv, input?: string): Command;
  run(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Outcome>;
} {
  const home = mkdtempSync(join(tmpdir(), 'pgsso-user-'));
  t.teardown(() => rmSync(home, { recursive: true, force: true }));
  const start = (args: readonly string[], env: NodeJS.ProcessEnv = {}, input?: string): Command => {
    const [node, nodeArgs] = nodeCommand('--no-warnings', cli, ...args);
    const { PATH } = process.env;
    const child = spawn(node, nodeArgs, { cwd: home, env: { PATH, HOME: home, ...env } });
    child.stdin.end(input);
    return follow(child);
  };
  return { home, start, run: (args, env) => start(args, env).end() };
}

function follow(child: ChildProcess): Command {
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.on('data', (text) => {
      output[name] += text;
      child.emit('printed');
    });
  const ended = once(child, 'close');
  return {
    child,
    output,
    async says(expected) {
      for (;;) {
        const found = expected.exec(output.stderr);
        if (found) return found[1] ?? found[0];
        if (child.exitCode !== null) throw new Error(`it ended: ${output.stderr}`);
        await Promise.race([once(child, 'printed'), ended]);
      }
    },
    async end() {
      const [status, signal] = await ended;
      return { status, signal, ...output };
    },
  };
}
