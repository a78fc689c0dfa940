/** What `npm run bench` has a front-end do. Each returns how fast it was and how much it was. */
import { execFile, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { BACKEND } from '../src/wire/constants.ts';
import { JWT_OPTION, token } from '../test/support/front-end.ts';
import { password, query, RawClient, startup, tokenStartup } from '../test/support/raw-client.ts';
import { MESSAGE_BYTES } from './stub-backend.ts';

const run = promisify(execFile);

/** Where a client connects, and how it logs in. */
export interface Target {
  readonly port: number;
  readonly tls: boolean;
  readonly login: 'trust' | 'token' | 'password';
}

/** One measurement: a rate, and the work that CPU time is divided by. */
export interface Measured {
  readonly rate: number;
  readonly work: number;
}

/** The password of user carol, whom the backend asks for one. */
export const CAROLS_PASSWORD = 'secret';

/** The environment of psql and pgbench. */
function environment({ port, tls, login }: Target): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'],
    PGHOST: '127.0.0.1',
    PGPORT: String(port),
    PGUSER: login === 'password' ? 'carol' : 'alice',
    PGDATABASE: 'postgres',
    PGSSLMODE: tls ? 'require' : 'disable',
    PGGSSENCMODE: 'disable',
    ...(login === 'token' && { PGPASSWORD: token('alice'), PGOPTIONS: JWT_OPTION }),
    ...(login === 'password' && { PGPASSWORD: CAROLS_PASSWORD }),
  };
}

/**
 * pgbench's built-in SELECT by key. Transactions a second.
 *
 * @param transactions in all
 */
export async function pgbench(
  target: Target,
  clients: number,
  transactions: number,
  options: readonly string[] = [],
): Promise<Measured> {
  const each = Math.ceil(transactions / clients);
  const args = ['-n', '-S', '-c', String(clients), '-t', String(each), ...options];
  const { stdout } = await run('pgbench', args, { env: environment(target) });
  const [, count] = /actually processed: (\d+)/.exec(stdout) ?? [];
  const [, rate] = /tps = ([\d.]+)/.exec(stdout) ?? [];
  if (!Number(count)) throw new Error(`pgbench did nothing: ${stdout}`);
  return { rate: Number(rate), work: Number(count) };
}

/** COPY by psql, bytes a second. @param bytes how many it is */
export async function psqlCopy(
  target: Target,
  sql: string,
  bytes: number,
  input?: string,
): Promise<Measured> {
  const started = performance.now();
  const from = input === undefined ? 'ignore' : openSync(input, 'r');
  const child = spawn('psql', ['-X', '-q', '-c', sql], {
    env: environment(target),
    stdio: [from, 'ignore', 'inherit'],
  });
  const [status] = await once(child, 'exit');
  if (typeof from === 'number') closeSync(from);
  if (status !== 0) throw new Error(`psql ended with status ${status}`);
  return { rate: (bytes * 1000) / (performance.now() - started), work: bytes };
}

/** A backend that only sends. */
export interface BulkBackend {
  readonly port: number;
  stop(): void;
}

/** Starts it as a process of its own. */
export async function startBulkBackend(): Promise<BulkBackend> {
  const child = fork(fileURLToPath(new URL('bulk-backend.js', import.meta.url)), {
    execArgv: ['--no-warnings'],
  });
  const [port] = await once(child, 'message');
  return { port: Number(port), stop: () => void child.disconnect() };
}

/** Bytes from a {@link BulkBackend} to a client that discards them, bytes a second. */
export async function bulk(target: Target, bytes: number): Promise<Measured> {
  const client = await logIn(target);
  const { socket } = client.channel;
  client.channel.release();
  const messages = Math.ceil(bytes / MESSAGE_BYTES);
  let left = messages * MESSAGE_BYTES;
  const started = performance.now();
  await new Promise<void>((done, failed) => {
    socket.on('data', (read: Buffer) => {
      left -= read.length;
      if (left <= 0) done();
    });
    socket.once('close', () => failed(new Error(`${left} bytes did not arrive`)));
    socket.resume();
    socket.write(query(`BULK ${messages}`));
  });
  const rate = (bytes * 1000) / (performance.now() - started);
  client.close();
  return { rate, work: bytes };
}

/** Logins one after the other. Returns the time of each, in ms. */
export async function loginTimes(target: Target, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const started = performance.now();
    const client = await logIn(target);
    times.push(performance.now() - started);
    client.close();
  }
  return times;
}

/** A client that has seen ReadyForQuery. */
export async function logIn({ port, tls, login }: Target): Promise<RawClient> {
  const client = tls
    ? await RawClient.connectTls(port, { rejectUnauthorized: false })
    : await RawClient.connect(port);
  if (login === 'token') {
    client.send(tokenStartup({ user: 'alice' }));
    await client.message();
    client.send(password(token('alice', { jti: `${Math.random()}` })));
  } else {
    client.send(startup({ user: 'alice', database: 'postgres' }));
  }
  const { types, last } = await client.until(BACKEND.readyForQuery);
  if (!last) throw new Error(`a login failed: ${types}`);
  return client;
}
