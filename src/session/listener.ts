/**
 * Accepts connections on one address and keeps track of them until they are gone, so that a
 * shutdown can wait for the sessions that run and end the ones that outstay it.
 */

import { createServer, type Server, type Socket } from 'node:net';
import { errorText } from '../lib/errors.ts';

/** Where to listen; port 0 takes a free one. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/**
 * Finds hosts that have vanished without a word; the next probes follow the system's own interval.
 */
const KEEPALIVE_MS = 60_000;

/** The connections of all listeners, each with the promise of its end. */
export class Connections {
  readonly #open = new Map<Socket, Promise<void>>();

  /**
   * Follows a connection until what is done with it is over; the socket is then closed, whatever
   * happened.
   */
  follow(socket: Socket, running: Promise<void>): void {
    const over = running.finally(() => {
      socket.destroy();
      this.#open.delete(socket);
    });
    this.#open.set(socket, over);
  }

  /** How many there are. */
  get size(): number {
    return this.#open.size;
  }

  /** Resolves when none is left. */
  async ended(): Promise<void> {
    while (this.#open.size > 0) await Promise.allSettled(this.#open.values());
  }

  /** Ends them all at once. */
  destroy(): void {
    for (const socket of this.#open.keys()) socket.destroy();
  }
}

/** One open listening socket. */
export class Listener {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * Listens and hands each connection to `connected`.
   *
   * @throws Error with a text that names the address and says why it cannot be had
   */
  static async open(
    { host, port }: ListenAddress,
    connected: (socket: Socket) => void,
  ): Promise<Listener> {
    // Half-open: a client may say all it has to say, send FIN, and wait for the answer.
    const server = createServer(
      { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS },
      connected,
    );
    await new Promise<void>((resolve, reject) => {
      // It stays when the promise is settled: running out of descriptors at an accept must not end
      // the process.
      server.on('error', (error) =>
        reject(new Error(`cannot listen on ${host}:${port}: ${errorText(error)}`)),
      );
      server.listen({ host, port }, resolve);
    });
    return new Listener(server);
  }

  /** The address it got, which tells the port when 0 was asked for. */
  get address(): ListenAddress {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the listener is closed');
    return { host: address.address, port: address.port };
  }

  /** Accepts nothing more; connections that are open stay so. */
  close(): void {
    this.#server.close();
  }
}
