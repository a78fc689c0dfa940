/**
 * Reads frames from a socket, plain or TLS, during a login. A read happens only when the caller
 * asks for a frame, so a client can make the front-end hold one frame and one read buffer at most.
 * Bytes behind the last frame belong to the session; {@link MessageChannel.release} returns them.
 */

import type { Socket } from 'node:net';
import { PgError } from '../lib/errors.ts';
import { FRONTEND } from './constants.ts';
import { Framer, type Message } from './framer.ts';

/**
 * A socket that is read frame by frame. It owns the socket until {@link MessageChannel.release}.
 */
export class MessageChannel {
  readonly socket: Socket;
  readonly #framer = new Framer();
  #failure: Error | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    // A reset between two reads would otherwise be an uncaught error and end the process.
    socket.on('error', this.#onError);
  }

  readonly #onError = (error: Error): void => {
    this.#failure = error;
  };

  /**
   * The next message; undefined when the peer has ended the connection.
   *
   * @param limit the longest body, in bytes
   * @param dropLimit a body above `limit` and up to this length is dropped as it arrives
   * @throws PgError 08P01 for a length outside the limit; the socket's error; the signal's reason
   */
  async message(
    limit: number,
    signal: AbortSignal,
    dropLimit = limit,
  ): Promise<Message | undefined> {
    return this.#pull(() => this.#framer.message(limit, dropLimit), signal);
  }

  /**
   * The body of the next packet without a type byte; undefined when the peer has ended the
   * connection. Throws as {@link MessageChannel.message} does.
   */
  async startupBody(signal: AbortSignal): Promise<Buffer | undefined> {
    return this.#pull(() => this.#framer.startupBody(), signal);
  }

  /**
   * One byte, such as the answer to SSLRequest; undefined when the peer has ended the connection.
   * Throws as {@link MessageChannel.message} does.
   */
  async byte(signal: AbortSignal): Promise<number | undefined> {
    return this.#pull(() => this.#framer.byte(), signal);
  }

  /**
   * The next byte, which stays unread; undefined when the peer has ended the connection. Throws as
   * {@link MessageChannel.message} does.
   */
  async peek(signal: AbortSignal): Promise<number | undefined> {
    return this.#pull(() => this.#framer.peek(), signal);
  }

  /** How many bytes were read from the socket and are not consumed. */
  get buffered(): number {
    return this.#framer.length + this.socket.readableLength;
  }

  /**
   * Sends bytes. Waits while the peer does not read, so that a slow reader costs no memory. Throws
   * the socket's error and the signal's reason.
   */
  async write(bytes: Buffer, signal: AbortSignal): Promise<void> {
    this.#check(signal);
    if (this.socket.write(bytes)) return;
    await this.#event('drain', signal);
  }

  /**
   * Gives the socket to the caller, paused and without listeners of the channel.
   *
   * @returns what was read and not consumed
   */
  release(): Buffer {
    const left = [this.#framer.rest()];
    for (let chunk = this.#read(); chunk; chunk = this.#read()) left.push(chunk);
    this.socket.off('error', this.#onError);
    return Buffer.concat(left);
  }

  /** Closes both directions at once. */
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

/**
 * Reads the client's answer to an authentication request: the only message, besides Terminate, that
 * a client may send before it is logged in. The type is looked at first. The length of another
 * message, such as a second startup packet, may be read as one that never comes.
 *
 * @param limit the longest body, in bytes
 * @param kind what is expected, for the error
 * @returns the body of the answer; undefined when the client has left, as psql does to ask its user
 *   for the password
 * @throws PgError 08P01 for another message, with PostgreSQL's own text; as
 *   {@link MessageChannel.message}
 */
export async function readAnswer(
  channel: MessageChannel,
  limit: number,
  signal: AbortSignal,
  kind: 'password' | 'SASL' = 'password',
): Promise<Buffer | undefined> {
  const type = await channel.peek(signal);
  if (type === undefined || type === FRONTEND.terminate) return undefined;
  if (type !== FRONTEND.password) {
    throw new PgError({
      code: 'unexpected_message',
      message: `expected ${kind} response, got message type ${type}`,
    });
  }
  return (await channel.message(limit, signal))?.body;
}
