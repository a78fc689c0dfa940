/**
 * Starts `pgsso serve` as a process of its own, as an operator does: the built command line, with
 * options and without variables.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startGuard } from '../test/support/guard.ts';

/** A running pgsso. */
export interface FrontEnd {
  readonly port: number;
  /** Resolves with the log when the process ends. */
  readonly ended: Promise<string>;
  /** Copies the log to standard output from now on. */
  showLog(): void;
  stop(): Promise<void>;
}

const host = '127.0.0.1';
/** The default port of `--listen`. A free one is taken if it is in use. */
const preferredPort = 26257;
const startTimeoutMs = 15_000;

/**
 * Starts pgsso with more options of `serve`.
 *
 * @throws Error with its log if it does not start
 */
export async function startFrontEnd(options: readonly string[]): Promise<FrontEnd> {
  const directory = mkdtempSync(join(tmpdir(), 'pgsso-demo-'));
  const pidFile = join(directory, 'pid');
  const guard = startGuard({ directory, pidFile, signal: 'TERM' });
  const port = (await isFree(preferredPort)) ? preferredPort : await freePort();
  const common = [
    '--listen',
    `${host}:${port}`,
    '--data-dir',
    join(directory, 'data'),
    '--log-format',
    'pretty',
    '--drain-timeout',
    '1s',
  ];
  const cli = fileURLToPath(new URL('../src/cli.js', import.meta.url));
  const { PATH } = process.env;
  // In a session of its own: Ctrl-C reaches the demo alone, which ends its processes in order.
  const child = spawn(process.execPath, [cli, 'serve', ...common, ...options], {
    env: { PATH },
    stdio: ['ignore', 'inherit', 'pipe'],
    detached: true,
  });
  if (child.pid !== undefined) writeFileSync(pidFile, `${child.pid}\n`);
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  const ended = once(child, 'close').then(() => log);
  const frontEnd: FrontEnd = {
    port,
    ended,
    showLog: () => child.stderr.pipe(process.stdout),
    async stop() {
      child.kill('SIGTERM');
      await ended;
      await guard.end();
    },
  };
  try {
    await accepting(port, child);
    return frontEnd;
  } catch (error) {
    await frontEnd.stop();
    throw new Error(`pgsso did not start: ${log.trim()}`, { cause: error });
  }
}

async function accepting(port: number, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + startTimeoutMs;
  while (child.exitCode === null && child.signalCode === null && Date.now() < deadline) {
    if (await canConnect(port)) return;
    await sleep(20);
  }
  throw new Error(`nobody listens on ${host}:${port}`);
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host, () => resolve(true));
    socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
  });
}

async function isFree(port: number): Promise<boolean> {
  return (await listenBriefly(port)) === port;
}

async function freePort(): Promise<number> {
  const port = await listenBriefly(0);
  if (port === undefined) throw new Error(`no free port on ${host}`);
  return port;
}

function listenBriefly(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.on('error', () => resolve(undefined));
    server.listen(port, host, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' ? address?.port : undefined));
    });
  });
}
