/**
 * Accepts connections on one address, and keeps track of all connections until they are gone: a
 * shutdown waits for the sessions, and ends those that take too long.
 */

import { createServer, type Server, type Socket } from 'node:net';
import { errorText } from '../lib/errors.ts';
import { listen } from '../lib/listen.ts';

/** Where to listen. Port 0 takes a free one. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** Silence, in ms, after which the system probes. libuv asks for ten probes in ten seconds. */
const KEEPALIVE_MS = 60_000;

/**
 * Connections that wait to be accepted. Node.js asks for 511, which a burst of 5,000 a second fills
 * in a tenth of a second; the system then drops SYNs, and such a client tries again only after a
 * second. Linux allows net.core.somaxconn of them, 4096 by default.
 */
const BACKLOG = 4096;

/** The connections of all listeners, each with the promise of its end. */
export class Connections {
  readonly #open = new Map<Socket, Promise<void>>();

  /**
   * Follows a connection until its work is over. The socket is then closed, whatever happened.
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
   * @param failed called for a connection that could not be accepted
   * @throws Error that names the address and says why it cannot be used
   */
  static async open(
    { host, port }: ListenAddress,
    connected: (socket: Socket) => void,
    failed: (error: Error) => void,
  ): Promise<Listener> {
    // Half-open: a client may send its query and FIN, and then wait for the answer.
    const server = createServer(
      { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS },
      connected,
    );
    await listen(server, { host, port, backlog: BACKLOG }, failed).catch((error: unknown) => {
      throw new Error(`cannot listen on ${host}:${port}: ${errorText(error)}`);
    });
    return new Listener(server);
  }

  /** The address in use, with the port that was chosen for 0. */
  get address(): ListenAddress {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the listener is closed');
    return { host: address.address, port: address.port };
  }

  /** Accepts no more connections. Open ones are not affected. */
  close(): void {
    this.#server.close();
  }
}
