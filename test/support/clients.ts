/** Ordinary clients of a front-end, for suites that log in thousands of times. */
import { once } from 'node:events';
import { connect } from 'node:net';
import pg from 'pg';
import { JWT_OPTION, token } from './front-end.ts';

/** What a client logs in with. */
export interface ClientOptions {
  readonly port: number;
  /** The directory of a Unix socket. Default: the loopback address. */
  readonly host?: string;
  readonly user: string;
  /** Default: a token for the user. */
  readonly password?: string;
  /** Whether this is a login without a token. */
  readonly isNative?: boolean;
  readonly database?: string;
  /** Milliseconds for the login. Default 30 s. */
  readonly timeoutMs?: number;
}

/**
 * Logs in.
 *
 * @throws the error of `pg`
 */
export async function logIn(options: ClientOptions): Promise<pg.Client> {
  const { port, host, user, password, isNative, database, timeoutMs } = options;
  const client = new pg.Client({
    host: host ?? '127.0.0.1',
    port,
    user,
    password: password ?? token(user),
    database: database ?? 'postgres',
    ssl: false,
    ...(isNative !== true && { options: JWT_OPTION }),
    connectionTimeoutMillis: timeoutMs ?? 30_000,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
  return client;
}

/** Logs in, runs one query and leaves. Returns the milliseconds of the login. */
export async function logInOnce(options: ClientOptions): Promise<number> {
  const start = performance.now();
  const client = await logIn(options);
  const ms = performance.now() - start;
  try {
    await client.query('SELECT 1');
  } finally {
    await client.end().catch(() => undefined);
  }
  return ms;
}

/** Sends the cancel request of a client to a port, as libpq does. */
export async function sendCancel(port: number, client: pg.Client): Promise<void> {
  const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
  const packet = Buffer.alloc(16);
  packet.writeInt32BE(16, 0);
  packet.writeInt32BE(80_877_102, 4);
  packet.writeInt32BE(processID, 8);
  packet.writeInt32BE(secretKey, 12);
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => undefined);
  socket.end(packet);
  socket.resume();
  await once(socket, 'close');
}

/** The value below which that part of the values is; 0 if there are none. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
}
