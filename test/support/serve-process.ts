/**
 * `pgsso serve` in a process of its own, for tests that look at it from outside: its memory, its
 * descriptors, its log, and how it ends. Linux only (/proc).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type LogEvent, testSettings } from './front-end.ts';

/** What {@link startServe} takes. */
export interface ServeProcessOptions {
  /** Added to those of every test process. */
  readonly options?: readonly string[];
  /** Added to the settings that accept the tokens of the tests. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Default: a new one, which is removed at the end. */
  readonly dataDir?: string;
  /** The limit of open files. Default: that of this process. */
  readonly descriptorLimit?: number;
}

/** A running process. */
export interface ServeProcess {
  readonly child: ChildProcess;
  readonly port: number;
  readonly metricsPort: number;
  readonly dataDir: string;
  /** The last events of the log, oldest first. */
  readonly events: readonly LogEvent[];
  /** Whether the process has not ended. */
  readonly isRunning: boolean;
  /** Resident memory in kB. */
  residentKb(): number;
  /** Open descriptors. */
  descriptors(): number;
  /** Sends SIGTERM, and SIGKILL after this time. Returns the exit status and the milliseconds. */
  terminate(patienceMs: number): Promise<{ status: number | null; ms: number }>;
  /** Ends the process, if it is running, and removes its data directory if it made that. */
  close(): Promise<void>;
}

/** Events that are remembered. A soak of an hour logs many. */
const EVENT_LIMIT = 2000;

const common = [
  ...['serve', '--listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0'],
  ...['--backend-auth', 'trust', '--log-format', 'json', '--drain-timeout', '2s'],
];

/**
 * Starts a process and waits until it accepts connections.
 *
 * @throws Error with its log if it ends before
 */
export async function startServe(given: ServeProcessOptions): Promise<ServeProcess> {
  const dataDir = given.dataDir ?? mkdtempSync(join(tmpdir(), 'pgsso-serve-'));
  const flags = Object.entries({ ...testSettings, ...given.settings }).flatMap(([name, value]) => [
    '--set',
    `${name}=${value}`,
  ]);
  const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));
  const command = [process.execPath, cli, ...common, '--data-dir', dataDir, ...flags];
  const limit = given.descriptorLimit;
  // The process ends with this one, even if that is killed (prctl(2), PR_SET_PDEATHSIG).
  const [program = '', ...args] = [
    ...['setpriv', '--pdeathsig', 'KILL', '--'],
    ...(limit === undefined ? [] : ['prlimit', `--nofile=${limit}:${limit}`]),
    ...[...command, ...(given.options ?? [])],
  ];
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const events: LogEvent[] = [];
  const lines: string[] = [];
  createInterface(child.stderr).on('line', (line) => {
    lines.push(line);
    events.push(parseEvent(line));
    if (events.length > EVENT_LIMIT) events.splice(0, EVENT_LIMIT / 2);
    lines.splice(0, lines.length - 20);
  });
  const isRunning = (): boolean => child.exitCode === null && child.signalCode === null;
  while (!events.some(({ msg }) => msg === 'ready for connections')) {
    if (!isRunning()) throw new Error(`pgsso did not start:\n${lines.join('\n')}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const listening = events.find(({ msg }) => msg === 'ready for connections');
  const port = portOf(String(listening?.['listen']));
  return {
    child,
    port,
    metricsPort: metricsPortOf(child.pid ?? 0, port),
    dataDir,
    events,
    get isRunning() {
      return isRunning();
    },
    residentKb: () => residentKb(child.pid ?? 0),
    descriptors: () => readdirSync(`/proc/${child.pid}/fd`).length,
    terminate: (patienceMs) => terminate(child, patienceMs),
    async close() {
      if (isRunning()) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
      if (given.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** A line that is no JSON, such as a stack before the end, is an event with a message. */
function parseEvent(line: string): LogEvent {
  try {
    return JSON.parse(line);
  } catch {
    return { msg: line };
  }
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1));
}

function residentKb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

async function terminate(
  child: ChildProcess,
  patienceMs: number,
): Promise<{ status: number | null; ms: number }> {
  const start = performance.now();
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  await exited;
  clearTimeout(timer);
  return { status: child.exitCode, ms: performance.now() - start };
}

/**
 * The log does not say where metrics are served. It is the other port on which a socket of the
 * process listens (proc_pid_net(5); state 0A is LISTEN).
 */
function metricsPortOf(pid: number, other: number): number {
  const own = new Set(readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`)));
  for (const line of readFileSync(`/proc/${pid}/net/tcp`, 'utf8').split('\n')) {
    const [, local = '', , state, , , , , , inode] = line.trim().split(/\s+/);
    const port = Number.parseInt(local.slice(local.indexOf(':') + 1), 16);
    if (state === '0A' && port !== other && own.has(`socket:[${inode}]`)) return port;
  }
  return 0;
}

/** Empty for a descriptor that has been closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
