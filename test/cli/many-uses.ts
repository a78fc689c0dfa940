/**
 * A process that uses the command line several times, one after the other. It is for uses that end
 * before anything is started: a process for each would spend its time on loading the same modules.
 * It reads a list of {@link Use} as JSON from standard input and prints a list of outcomes.
 */
import { EventEmitter } from 'node:events';
import { text } from 'node:stream/consumers';
import type { Outcome } from './command-line.ts';

/** The arguments and the environment of one use. */
export interface Use {
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv | undefined;
}

const cli = new URL('../../src/cli.js', import.meta.url).href;
const own = { argv: process.argv, env: process.env };
// Each use adds listeners to the process and to its streams.
EventEmitter.defaultMaxListeners = 0;
// A `serve` that fails to start ends its process a little later, whatever that process does then.
const exit = process.exit;
process.exit = (() => undefined) as typeof exit;
const outcomes: Outcome[] = [];
for (const [index, use] of (JSON.parse(await text(process.stdin)) as Use[]).entries())
  outcomes.push(await once(use, index));
Object.assign(process, own);
process.stdout.write(JSON.stringify(outcomes), () => exit(0));

async function once({ args, env }: Use, index: number): Promise<Outcome> {
  const output = { stdout: '', stderr: '' };
  const write = { stdout: process.stdout.write, stderr: process.stderr.write };
  for (const name of ['stdout', 'stderr'] as const) {
    process[name].write = (chunk: string | Uint8Array) => {
      output[name] += String(chunk);
      return true;
    };
  }
  process.argv = [process.execPath, 'pgsso', ...args];
  process.env = { PATH: own.env['PATH'], ...env };
  process.exitCode = undefined;
  try {
    // The query makes it a module of its own, which runs again. What it imports is loaded once.
    await import(`${cli}?use=${index}`);
  } finally {
    process.stdout.write = write.stdout;
    process.stderr.write = write.stderr;
  }
  return { status: Number(process.exitCode ?? 0), ...output };
}
