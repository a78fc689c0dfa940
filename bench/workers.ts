/**
 * Logins a second with one process and with two workers, and what a login costs: `npm run
 * bench:workers`. Clients and a stub of a backend run in the process of the benchmark, so that the
 * gain needs more than two free processors to show in full. Each round measures both, in random
 * order, and its ratio is what counts: what the machine does meanwhile meets both alike. CPU time
 * is that of all processes of the node.
 */
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
const LOGINS = 1000;

/** Rounds that do not count: each worker compiles its code for itself. */
const WARM_UP = 14;

const backend = await startStubBackend();
const url = `postgres://127.0.0.1:${backend.port}/?sslmode=disable`;
const nodes = [await start(1), await start(2)];

const START = tokenStartup({ user: 'alice' });

try {
  for (let round = 0; round < WARM_UP; round++)
    for (const { program } of nodes) await logIns(program.port, passwords());
  for (let round = 0; round < ROUNDS; round++)
    for (const node of shuffle(nodes)) await measure(node);
  report();
} finally {
  for (const { program } of nodes) await program.stop();
  backend.server.close();
}

/** A node, with the figures of each round. */
interface BenchNode {
  readonly program: Program;
  /** Logins a second, and milliseconds of CPU time a login, of all processes together. */
  readonly rates: number[];
  readonly costs: number[];
}

async function start(workers: number): Promise<BenchNode> {
  const program = await startBenchFrontEnd(url, ['--workers', String(workers)]);
  return { program, rates: [], costs: [] };
}

async function measure({ program, rates, costs }: BenchNode): Promise<void> {
  const tokens = passwords();
  const [since, cpu] = [performance.now(), program.cpuSeconds()];
  await logIns(program.port, tokens);
  rates.push((LOGINS * 1000) / (performance.now() - since));
  costs.push(((program.cpuSeconds() - cpu) * 1000) / LOGINS);
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
