/** A client that speaks the protocol byte by byte and sends what no driver sends. */

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { serialize } from 'pg-protocol';
import { MessageChannel } from '../../src/wire/channel.ts';
import { BACKEND } from '../../src/wire/constants.ts';
import type { Message } from '../../src/wire/framer.ts';
import { formatMessage, parseErrorFields } from '../../src/wire/messages.ts';
import { formatStartup } from '../../src/wire/startup.ts';
import { JWT_OPTION } from './front-end.ts';

/** One connection. */
export class RawClient {
  readonly channel: MessageChannel;
  readonly #never = new AbortController().signal;

  constructor(socket: Socket) {
    this.channel = new MessageChannel(socket);
  }

  /** @param localAddress where it seems to come from: any address of 127.0.0.0/8 */
  static async connect(port: number, localAddress = '127.0.0.1'): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true });
    await once(socket, 'connect');
    return new RawClient(socket);
  }

  /** Asks for TLS with SSLRequest and upgrades. */
  static async connectTls(port: number, options: ConnectionOptions): Promise<RawClient> {
    const plain = await RawClient.connect(port);
    plain.send(serialize.requestSsl());
    const answer = await plain.byte();
    if (answer !== 0x53) throw new Error(`SSLRequest was answered with ${answer}`);
    plain.channel.release();
    return new RawClient(await upgrade(connectTls({ socket: plain.channel.socket, ...options })));
  }

  /** Begins with the TLS hello. */
  static async connectDirectTls(port: number, options: ConnectionOptions): Promise<RawClient> {
    return new RawClient(await upgrade(connectTls({ port, host: '127.0.0.1', ...options })));
  }

  send(...parts: readonly Buffer[]): void {
    this.channel.socket.write(Buffer.concat(parts));
  }

  /** Sends the bytes one by one, each in a packet of its own if the network allows it. */
  async drip(bytes: Buffer): Promise<void> {
    this.channel.socket.setNoDelay(true);
    for (const byte of bytes) {
      this.channel.socket.write(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
  }

  /** The next message. Undefined: the connection has ended. */
  async message(): Promise<Message | undefined> {
    return this.channel.message(1 << 24, this.#never);
  }

  /** One byte: the answer to a request for encryption. */
  async byte(): Promise<number | undefined> {
    return this.channel.byte(this.#never);
  }

  /** Reads up to a message of a type. Returns the types so far, as letters, and that message. */
  async until(type: number): Promise<{ types: string; last: Message | undefined }> {
    let types = '';
    for (;;) {
      const last = await this.message();
      if (last) types += String.fromCharCode(last.type);
      if (!last || last.type === type) return { types, last };
    }
  }

  /** Skips messages up to the next ErrorResponse and returns its fields. */
  async error(): Promise<{
    severity: string;
    sqlstate: string;
    message: string;
    detail?: string;
    hint?: string;
  }> {
    const { types, last } = await this.until(BACKEND.errorResponse);
    if (!last) throw new Error(`the connection ended without an error; messages: ${types}`);
    const { severity = '', code = '', message, detail, hint } = parseErrorFields(last.body);
    return {
      severity,
      sqlstate: code,
      message,
      ...(detail !== undefined && { detail }),
      ...(hint !== undefined && { hint }),
    };
  }

  /** Resolves when the peer has ended the connection. Rejects if a message comes first. */
  async ended(): Promise<void> {
    const message = await this.message().catch(() => undefined);
    if (message) throw new Error(`message ${String.fromCharCode(message.type)} instead of the end`);
  }

  /** Resolves when the peer has ended or reset the connection. Messages are skipped. */
  async closed(): Promise<void> {
    const { socket } = this.channel;
    if (socket.readableEnded) socket.destroy();
    socket.once('end', () => socket.destroy()).resume();
    if (!socket.closed) await once(socket, 'close').catch(() => undefined);
  }

  close(): void {
    this.channel.destroy();
  }
}

/** Waits for the end of the TLS handshake. */
export async function upgrade(socket: TLSSocket): Promise<TLSSocket> {
  await once(socket, 'secureConnect');
  return socket;
}

/** A startup packet. */
export function startup(parameters: Readonly<Record<string, string>>, version = 0x30000): Buffer {
  return formatStartup(
    version,
    Object.entries(parameters).map(([name, value]) => ({ name, value: Buffer.from(value) })),
  );
}

/** The startup packet of a token login. */
export function tokenStartup(
  parameters: Readonly<Record<string, string>>,
  version?: number,
): Buffer {
  return startup({ database: 'postgres', options: JWT_OPTION, ...parameters }, version);
}

/** A PasswordMessage. */
export function password(text: string): Buffer {
  return formatMessage('p', Buffer.from(`${text}\0`));
}

/** A simple query. */
export function query(sql: string): Buffer {
  return formatMessage('Q', Buffer.from(`${sql}\0`));
}
