/**
 * A proxy in front of a database that can stop to carry bytes, as a network that drops all packets
 * or a server that is stopped with SIGSTOP: connections stay open, and no answer comes.
 */

import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** A running proxy. */
export interface StallingProxy {
  readonly port: number;
  /** How many connections of clients are open. */
  readonly connections: number;
  /** Carries no byte any more, of present and new connections. */
  stall(): void;
  /** Carries the bytes that have come meanwhile, and all later ones. */
  resume(): void;
  /** Ends all connections. */
  close(): void;
}

/** Listens on a port of the loopback address, for the server at a Unix socket. */
export async function startStallingProxy(path: string): Promise<StallingProxy> {
  const sockets = new Set<Socket>();
  const clients = new Set<Socket>();
  let isStalled = false;
  const server = createServer((client) => {
    const upstream = connect(path);
    clients.add(client);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on('data', (bytes) => void to.write(bytes));
      from.on('error', () => undefined);
      from.on('close', () => {
        sockets.delete(from);
        clients.delete(from);
        to.destroy();
      });
      if (isStalled) from.pause();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  return {
    port: address.port,
    get connections() {
      return clients.size;
    },
    stall() {
      isStalled = true;
      for (const socket of sockets) socket.pause();
    },
    resume() {
      isStalled = false;
      for (const socket of sockets) socket.resume();
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
