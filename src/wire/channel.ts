/**
 * Framed, pulled reads over a socket, plain or TLS, during a login. Nothing is read that nobody
 * asked for, so that what a stranger can make us hold is one frame and one read buffer, and what is
 * left over at the end belongs to the session and is handed on.
 */

import type { Socket } from 'node:net';
import { PgError } from '../lib/errors.ts';
import { FRONTEND } from './constants.ts';
import { Framer, type Message } from './framer.ts';

/** A socket that is being read frame by frame. Owns it until {@link MessageChannel.release}. */
export class MessageChannel {
  readonly socket: Socket;
  readonly #framer = new Framer();
  #failure: Error | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    // A socket without an error listener ends the process when its peer resets it between two
    // reads.
    socket.on('error', this.#onError);
  }

  readonly #onError = (error: Error): void => {
    this.#failure = error;
  };

  /**
   * The next message; undefined when the peer has ended the connection.
   *
   * @param limit the longest body, in bytes
   * @throws PgError 08P01 for a length outside the limit; the socket's error; the signal's reason
   */
  async message(limit: number, signal: AbortSignal): Promise<Message | undefined> {
    return this.#pull(() => this.#framer.message(limit), signal);
  }

  /**
   * The body of the next packet without a type byte; undefined when the peer has ended the
   * connection. Throws as message does.
   */
  async startupBody(signal: AbortSignal): Promise<Buffer | undefined> {
    return this.#pull(() => this.#framer.startupBody(), signal);
  }

  /**
   * One byte, the answer to SSLRequest; undefined when the peer has ended the connection. Throws as
   * message does.
   */
  async byte(signal: AbortSignal): Promise<number | undefined> {
    return this.#pull(() => this.#framer.byte(), signal);
  }

  /**
   * The first byte to come, left where it is; undefined when the peer has ended the connection.
   * Throws as message does.
   */
  async peek(signal: AbortSignal): Promise<number | undefined> {
    return this.#pull(() => this.#framer.peek(), signal);
  }

  /** How many bytes were read from the socket and are not consumed. */
  get buffered(): number {
    return this.#framer.length + this.socket.readableLength;
  }

  /** Sends bytes; waits while the peer does not read, so that a slow reader costs no memory. */
  async write(bytes: Buffer, signal: AbortSignal): Promise<void> {
    this.#check(signal);
    if (this.socket.write(bytes)) return;
    await this.#event('drain', signal);
  }

  /**
   * Gives the socket up, paused and without listeners of ours but with no byte lost: returns what
   * was read and not consumed.
   */
  release(): Buffer {
    const left = [this.#framer.rest()];
    for (let chunk = this.#read(); chunk; chunk = this.#read()) left.push(chunk);
    this.socket.off('error', this.#onError);
    return Buffer.concat(left);
  }

  /** Ends both directions at once. */
  destroy(): void {
    this.socket.destroy();
  }

  async #pull<T>(next: () => T | undefined, signal: AbortSignal): Promise<T | undefined> {
    for (;;) {
      const found = next();
      if (found !== undefined) return found;
      this.#check(signal);
      const chunk = this.#read();
      if (chunk) this.#framer.push(chunk);
      else if (this.socket.readableEnded || this.socket.destroyed) return undefined;
      else await this.#event('readable', signal);
    }
  }

  #read(): Buffer | undefined {
    return this.socket.read() ?? undefined;
  }

  #check(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.#failure) throw this.#failure;
  }

  /** Waits for the event, the end of the connection or the signal, whichever comes first. */
  async #event(name: 'readable' | 'drain', signal: AbortSignal): Promise<void> {
    const { socket } = this;
    if (socket.destroyed) return this.#check(signal);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        for (const event of [name, 'end', 'close', 'error']) socket.off(event, done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      for (const event of [name, 'end', 'close', 'error']) socket.on(event, done);
      signal.addEventListener('abort', done, { once: true });
    });
    this.#check(signal);
  }
}

/*
 * The answer to a request for a password, of whatever kind: the one message that a client may send
 * before it is logged in.
 */

/**
 * Its body; undefined when the client left instead, which psql does at every prompt.
 *
 * @param limit the longest body, in bytes
 * @throws PgError 08P01 for another message, in the server's own words; as MessageChannel.message
 */
export async function readAnswer(
  channel: MessageChannel,
  limit: number,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const message = await channel.message(limit, signal);
  if (!message || message.type === FRONTEND.terminate) return undefined;
  if (message.type === FRONTEND.password) return message.body;
  throw new PgError({
    code: 'unexpected_message',
    message: `expected password response, got message type ${message.type}`,
  });
}
