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
 * Only one caller at a time may read, and one may write.
 */
export class MessageChannel {
  readonly socket: Socket;
  readonly #framer = new Framer();
  #failure: Error | undefined;
  #isListening = false;
  /** Continues the read that waits for bytes, and the write that waits for the peer to read. */
  #reader: (() => void) | undefined;
  #writer: (() => void) | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    // A reset between two reads would otherwise be an uncaught error and end the process.
    socket.on('error', this.#onError);
  }

  /**
   * The next message; undefined when the peer has ended the connection.
   *
   * @param limit the longest body, in bytes
   * @param dropLimit a body above `limit` and up to this length is dropped as it arrives
   * @throws PgError 08P01 for a length outside the limit; the socket's error; the signal's reason
   */
  message(limit: number, signal: AbortSignal, dropLimit = limit): Promise<Message | undefined> {
    return this.#pull(() => this.#framer.message(limit, dropLimit), signal);
  }

  /**
   * The next message if it was read already. Throws as {@link MessageChannel.message} does for its
   * length.
   */
  bufferedMessage(limit: number): Message | undefined {
    return this.#framer.message(limit);
  }

  /**
   * The body of the next packet without a type byte; undefined when the peer has ended the
   * connection. Throws as {@link MessageChannel.message} does.
   */
  startupBody(signal: AbortSignal): Promise<Buffer | undefined> {
    return this.#pull(() => this.#framer.startupBody(), signal);
  }

  /**
   * One byte, such as the answer to SSLRequest; undefined when the peer has ended the connection.
   * Throws as {@link MessageChannel.message} does.
   */
  byte(signal: AbortSignal): Promise<number | undefined> {
    return this.#pull(() => this.#framer.byte(), signal);
  }

  /**
   * The next byte, which stays unread; undefined when the peer has ended the connection. Throws as
   * {@link MessageChannel.message} does.
   */
  peek(signal: AbortSignal): Promise<number | undefined> {
    return this.#pull(() => this.#framer.peek(), signal);
  }

  /**
   * Waits until the peer has sent more than so many bytes that are not consumed. They stay where
   * they are. False when it has ended the connection before. Throws as {@link
   * MessageChannel.message} does.
   */
  async sendsAhead(limit: number, signal: AbortSignal): Promise<boolean> {
    const isOver = (): true | undefined => (this.#framer.length > limit ? true : undefined);
    return (await this.#pull(isOver, signal)) ?? false;
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
    if (!this.socket.destroyed) {
      this.#listen();
      await this.#wait(signal, (wake) => {
        this.#writer = wake;
      });
      this.#writer = undefined;
    }
    this.#check(signal);
  }

  /**
   * Gives the socket to the caller, paused and without listeners of the channel.
   *
   * @returns what was read and not consumed
   */
  release(): Buffer {
    const { socket } = this;
    if (this.#isListening) socket.pause();
    this.#isListening = false;
    socket
      .off('error', this.#onError)
      .off('data', this.#onData)
      .off('drain', this.#onDrain)
      .off('end', this.#onEnd)
      .off('close', this.#onEnd);
    const left = [this.#framer.rest()];
    for (let chunk = this.#read(); chunk; chunk = this.#read()) left.push(chunk);
    return left.length === 1 && left[0] ? left[0] : Buffer.concat(left);
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
      const { socket } = this;
      if (socket.readableEnded || socket.destroyed) return undefined;
      this.#listen();
      if (socket.isPaused()) socket.resume();
      await this.#wait(signal, (wake) => {
        this.#reader = wake;
      });
      this.#reader = undefined;
    }
  }

  #read(): Buffer | undefined {
    return this.socket.read() ?? undefined;
  }

  #check(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.#failure) throw this.#failure;
  }

  /** The listeners stay until the release: a login waits several times. */
  #listen(): void {
    if (this.#isListening) return;
    this.#isListening = true;
    this.socket
      .on('data', this.#onData)
      .on('drain', this.#onDrain)
      .on('end', this.#onEnd)
      .on('close', this.#onEnd);
  }

  /** Waits until the listeners wake the caller, or the signal aborts. */
  #wait(signal: AbortSignal, sleep: (wake: () => void) => void): Promise<void> {
    return new Promise<void>((resolve) => {
      const wake = (): void => {
        signal.removeEventListener('abort', wake);
        resolve();
      };
      signal.addEventListener('abort', wake, { once: true });
      sleep(wake);
    });
  }

  /** What nobody waits for is the last that is read. */
  readonly #onData = (chunk: Buffer): void => {
    this.#framer.push(chunk);
    if (this.#reader) this.#reader();
    else this.socket.pause();
  };

  readonly #onDrain = (): void => this.#writer?.();

  readonly #onEnd = (): void => {
    this.#reader?.();
    this.#writer?.();
  };

  readonly #onError = (error: Error): void => {
    this.#failure = error;
    this.#onEnd();
  };
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
