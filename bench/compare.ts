/**
 * Two builds against each other: `npm run bench:compare -- DIR`, where DIR is another checkout that
 * was built. Each round measures both, in random order, and the ratio of a round is what counts:
 * what the machine does meanwhile meets both alike. The figures are CPU seconds of the front-end's
 * process, for logins with new tokens, for small messages and for bulk.
 */
import type { Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { BACKEND } from '../src/wire/constants.ts';
import { token } from '../test/support/front-end.ts';
import { password, RawClient, tokenStartup } from '../test/support/raw-client.ts';
import { type BenchFrontEnd, startBenchFrontEnd } from './front-end.ts';
import { shuffle, spread } from './statistics.ts';
import { startStubBackend } from './stub-backend.ts';

const ROUNDS = Number(process.env['PGSSO_BENCH_ROUNDS'] ?? 12);
const CLIENTS = 8;
const LOGINS = 800;
const MESSAGES = 40_000;
const BULK_BYTES = 1 << 29;

const [other] = process.argv.slice(2);
if (other === undefined) throw new Error('name the folder of the other build');

/** A small answer to each message, or as much as a client asks for. */
const ANSWER = Buffer.alloc(60, 'x');
const CHUNK = Buffer.alloc(64 * 1024, 'x');
const backend = await startStubBackend((socket) => {
  socket.on('data', (bytes) => {
    if (bytes.includes('BULK')) void sendBulk(socket, BULK_BYTES);
    else socket.write(ANSWER);
  });
});
const url = `postgres://127.0.0.1:${backend.port}/?sslmode=disable`;
const builds: readonly (readonly [string, BenchFrontEnd])[] = [
  ['this', await startBenchFrontEnd(url)],
  ['other', await startBenchFrontEnd(url, [], join(resolve(other), 'build/src/cli.js'))],
];
const workloads: readonly (readonly [string, (port: number) => Promise<void>])[] = [
  [`${LOGINS} logins, ${CLIENTS} clients`, logins],
  [`${MESSAGES} small messages, ${CLIENTS} clients`, smallMessages],
  [`${BULK_BYTES >> 20} MB down, 1 client`, bulk],
];

/** CPU seconds by workload and build, one for each round. */
const results = new Map<string, number[]>();
try {
  for (const [, work] of workloads) for (const [, build] of builds) await work(build.port);
  for (let round = 0; round < ROUNDS; round++) await measureRound();
  report();
} finally {
  for (const [, build] of builds) await build.stop();
  backend.server.close();
}

async function measureRound(): Promise<void> {
  for (const [name, work] of workloads) {
    for (const [build, frontEnd] of shuffle(builds)) {
      const before = frontEnd.cpuSeconds();
      await work(frontEnd.port);
      const key = `${name}: ${build}`;
      results.set(key, [...(results.get(key) ?? []), frontEnd.cpuSeconds() - before]);
    }
  }
}

async function logins(port: number): Promise<void> {
  let left = LOGINS;
  const client = async (): Promise<void> => {
    while (left-- > 0) (await logIn(port)).close();
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
}

async function smallMessages(port: number): Promise<void> {
  const message = Buffer.alloc(40, 'q');
  const client = async (): Promise<void> => {
    const { channel } = await logIn(port);
    const { socket } = channel;
    channel.release();
    let left = MESSAGES / CLIENTS;
    await new Promise<void>((done) => {
      socket.on('data', () => (left-- > 0 ? socket.write(message) : done()));
      socket.write(message);
    });
    socket.destroy();
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
}

async function bulk(port: number): Promise<void> {
  const { channel } = await logIn(port);
  const { socket } = channel;
  channel.release();
  let received = 0;
  await new Promise<void>((done) => {
    socket.on('data', (bytes) => {
      received += bytes.length;
      if (received >= BULK_BYTES) done();
    });
    socket.write('BULK');
  });
  socket.destroy();
}

async function sendBulk(socket: Socket, bytes: number): Promise<void> {
  for (let left = bytes; left > 0 && !socket.destroyed; left -= CHUNK.length) {
    if (!socket.write(CHUNK)) await new Promise((drained) => socket.once('drain', drained));
  }
}

async function logIn(port: number): Promise<RawClient> {
  const client = await RawClient.connect(port);
  client.send(tokenStartup({ user: 'alice' }));
  await client.message();
  client.send(password(token('alice', { jti: `${Math.random()}` })));
  const { types, last } = await client.until(BACKEND.readyForQuery);
  if (!last) throw new Error(`a login failed: ${types}`);
  return client;
}

function report(): void {
  console.log(`${ROUNDS} rounds in random order; CPU seconds of the front-end, median (range)\n`);
  for (const [name] of workloads) {
    const own = results.get(`${name}: this`) ?? [];
    const others = results.get(`${name}: other`) ?? [];
    const ratios = own.map((value, round) => value / (others[round] ?? Number.NaN));
    console.log(name);
    console.log(`  this build    ${spread(own, 2)}`);
    console.log(`  other build   ${spread(others, 2)}`);
    console.log(`  ratio         ${spread(ratios, 2)}`);
  }
}
