/**
 * Logins a second with one process and with two workers, and what a login costs: `npm run
 * bench:workers`. Clients and a stub of a backend run in the process of the benchmark, so that the
 * gain needs more than two free processors to show in full. Each round measures both, in random
 * order, and its ratio is what counts: what the machine does meanwhile meets both alike. CPU time
 * is that of all processes of the node (Linux: /proc).
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { availableParallelism, loadavg } from 'node:os';
import { BACKEND } from '../src/wire/constants.ts';
import { token } from '../test/support/front-end.ts';
import { password, tokenStartup } from '../test/support/raw-client.ts';
import { startBenchFrontEnd } from './front-end.ts';
import type { Program } from './programs.ts';
import { shuffle, spread } from './statistics.ts';
import { startStubBackend } from './stub-backend.ts';

const ROUNDS = Number(process.env['PGSSO_BENCH_ROUNDS'] ?? 10);
const CLIENTS = 16;
const LOGINS = 800;

const backend = await startStubBackend();
const url = `postgres://127.0.0.1:${backend.port}/?sslmode=disable`;
const nodes = [await start(1), await start(2)];

const START = tokenStartup({ user: 'alice' });

try {
  for (const { port } of nodes) await logIns(port, passwords());
  for (let round = 0; round < ROUNDS; round++)
    for (const node of shuffle(nodes)) await measure(node);
  report();
} finally {
  for (const { stop } of nodes) await stop();
  backend.server.close();
}

/** A node, with the figures of each round. */
interface BenchNode extends Pick<Program, 'port' | 'stop'> {
  /** Of all its processes. */
  cpuMs(): number;
  /** Logins a second, and milliseconds of CPU time a login. */
  readonly rates: number[];
  readonly costs: number[];
}

async function start(workers: number): Promise<BenchNode> {
  const before = childrenOf(process.pid);
  const { port, stop } = await startBenchFrontEnd(url, ['--workers', String(workers)]);
  const pid = childrenOf(process.pid).find((child) => !before.includes(child)) ?? 0;
  const cpuMs = (): number => [pid, ...childrenOf(pid)].reduce((sum, one) => sum + cpuMsOf(one), 0);
  return { port, stop, cpuMs, rates: [], costs: [] };
}

async function measure({ port, cpuMs, rates, costs }: BenchNode): Promise<void> {
  const tokens = passwords();
  const [since, cpu] = [performance.now(), cpuMs()];
  await logIns(port, tokens);
  rates.push((LOGINS * 1000) / (performance.now() - since));
  costs.push((cpuMs() - cpu) / LOGINS);
}

/** Processes that a process has started (proc_pid_task_children(5)). */
function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}

/** User and system time of a process so far, from ticks of 10 ms (proc_pid_stat(5)). */
function cpuMsOf(pid: number): number {
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
  const [user = 0, system = 0] = fields.split(' ').slice(11, 13).map(Number);
  return (user + system) * 10;
}

/** New tokens, made before the clock runs: each is verified by the front-end. */
function passwords(): Buffer[] {
  return Array.from({ length: LOGINS }, (_, n) => password(token('alice', { jti: `${n}` })));
}

async function logIns(port: number, tokens: Buffer[]): Promise<void> {
  const client = async (): Promise<void> => {
    for (let next = tokens.pop(); next; next = tokens.pop()) await logIn(port, next);
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
}

/** A client that reads no more than it must, so that its own time hardly counts. */
function logIn(port: number, answer: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    let isAsked = false;
    socket.on('error', reject);
    socket.write(START);
    socket.on('data', (bytes: Buffer) => {
      if (!isAsked) {
        isAsked = true;
        socket.write(answer);
      } else if (bytes.at(-6) === BACKEND.readyForQuery) {
        socket.destroy();
        resolve();
      } else {
        reject(new Error(`refused: ${bytes}`));
      }
    });
  });
}

function report(): void {
  const [load = 0] = loadavg();
  const machine = `${availableParallelism()} processors, load ${load.toFixed(1)}`;
  console.log(`Node.js ${process.version}, ${machine}, ${ROUNDS} rounds of ${LOGINS} logins`);
  const [one, two] = nodes;
  if (!one || !two) return;
  for (const { name, rates, costs } of [
    { name: '1 process', ...one },
    { name: '2 workers', ...two },
  ])
    console.log(`  ${name}: ${spread(rates, 0)} logins/s, ${spread(costs, 2)} ms of CPU a login`);
  const ratios = (mine: readonly number[], others: readonly number[]): number[] =>
    mine.map((figure, round) => figure / (others[round] ?? figure));
  console.log(`  logins/s: ${spread(ratios(two.rates, one.rates), 2)} times as many`);
  console.log(`  CPU a login: ${spread(ratios(two.costs, one.costs), 2)} times as much`);
}
