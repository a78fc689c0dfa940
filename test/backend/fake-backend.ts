/**
 * A backend that follows a script, for what a real server never does or cannot be made to do. Also
 * both ends of a connection to a client.
 */

import { once, setMaxListeners } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { BackendTarget } from '../../src/backend/target.ts';
import { parseBackendUrl } from '../../src/backend/url-parser.ts';
import { MessageChannel } from '../../src/wire/channel.ts';
import type { Message } from '../../src/wire/framer.ts';
import { formatMessage } from '../../src/wire/messages.ts';

const never = new AbortController().signal;
// Each connection that waits listens to it.
setMaxListeners(0, never);

/** One side of a connection, for tests. */
export class Peer {
  channel: MessageChannel;

  constructor(socket: Socket) {
    this.channel = new MessageChannel(socket);
  }

  async send(...messages: readonly Buffer[]): Promise<void> {
    await this.channel.write(Buffer.concat(messages), never);
  }

  /** The next message; fails at the end of the connection. */
  async receive(): Promise<Message> {
    const message = await this.channel.message(100_000, never);
    if (!message) throw new Error('the connection ended');
    return message;
  }

  /** The body of the next packet without a type. */
  async packet(): Promise<Buffer> {
    const body = await this.channel.startupBody(never);
    if (!body) throw new Error('the connection ended');
    return body;
  }

  /** Waits until the other side has closed. */
  async closed(): Promise<void> {
    while ((await this.channel.byte(never).catch(() => undefined)) !== undefined);
  }

  /** Starts TLS, as the server. */
  startTls(options: {
    readonly cert: string;
    readonly key: string;
    readonly ALPNProtocols?: string[];
  }): void {
    const { socket } = this.channel;
    this.channel.release();
    this.channel = new MessageChannel(new TLSSocket(socket, { isServer: true, ...options }));
  }
}

/** A fake that listens. */
export interface FakeBackend {
  readonly port: number;
  /** The number of open connections. */
  connections(): Promise<number>;
  target(query?: string): Promise<BackendTarget>;
  close(): Promise<void>;
}

/** Starts a fake. The script runs for each connection, which is closed at its end. */
export async function startFake(script: (peer: Peer) => Promise<void>): Promise<FakeBackend> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket.once('close', () => sockets.delete(socket)));
    socket.on('error', () => {});
    const peer = new Peer(socket);
    // In many tests the script fails because the other side has closed.
    script(peer).then(
      () => peer.channel.socket.end(),
      () => socket.destroy(),
    );
  });
  const port = await listen(server);
  return {
    port,
    connections: () =>
      new Promise((resolve, reject) =>
        server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      ),
    target: (query = '') => openTarget(`postgres://127.0.0.1:${port}/?sslmode=disable${query}`),
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A target from a URL that comes from the environment. */
export async function openTarget(url: string): Promise<BackendTarget> {
  return BackendTarget.open(parseBackendUrl(url, 'environment'));
}

/** The two ends of a connection: the client, and the front-end's end. */
export async function connectClient(): Promise<{ client: Peer; frontEnd: MessageChannel }> {
  const server = createServer({ allowHalfOpen: true });
  const accepted = once(server, 'connection');
  const socket = connect({ port: await listen(server), host: '127.0.0.1' });
  socket.on('error', () => {});
  const [end] = await accepted;
  server.close();
  return { client: new Peer(socket), frontEnd: new MessageChannel(end) };
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** AuthenticationRequest. */
export function authentication(code: number, data: string | Buffer = ''): Buffer {
  const word = Buffer.alloc(4);
  word.writeUInt32BE(code);
  return formatMessage('R', word, Buffer.from(data));
}

/** ParameterStatus. */
export function parameterStatus(name: string, value: string): Buffer {
  return formatMessage('S', Buffer.from(`${name}\0${value}\0`));
}

/** Fields of an ErrorResponse. */
export interface ErrorFields {
  readonly C: string;
  readonly M: string;
  readonly F?: string;
  readonly R?: string;
}

/** ErrorResponse from its fields. */
export function backendError(fields: ErrorFields): Buffer {
  const text = Object.entries({ S: 'FATAL', ...fields }).map(
    ([field, value]) => `${field}${value}\0`,
  );
  return formatMessage('E', Buffer.from(`${text.join('')}\0`));
}

export const readyForQuery: Buffer = formatMessage('Z', Buffer.from('I'));

/** A greeting like that of PostgreSQL, without AuthenticationOk. */
export const greeting: Buffer = Buffer.concat([
  parameterStatus('is_superuser', 'off'),
  formatMessage('K', Buffer.from([0, 0, 0, 1, 0, 0, 0, 2])),
  readyForQuery,
]);
