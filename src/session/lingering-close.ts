/**
 * Closes a client's connection so that the client can read why it was refused, or that it is over.
 * Closing a socket with unread bytes resets it, and the reset may overtake the last message. So the
 * rest of what the client sends is read and dropped for a moment first.
 */
import type { Socket } from 'node:net';
import { Limiter } from '../lib/limiter.ts';
import { addressKey } from '../lib/network.ts';

/** How long, in ms, and how much, in bytes, is read from a refused client. */
const LINGER_MS = 1000;
const LINGER_BYTES = 256 * 1024;

/**
 * At once, in a process. In a flood the oldest of the busiest address are cut short: they had their
 * chance to read.
 */
export const LINGERING_LIMIT = 200;

const lingering = new Limiter({ limit: LINGERING_LIMIT });

/**
 * Sends the bytes and ends our direction. Resolves when the client has closed or its time is up.
 * The caller destroys the socket.
 */
export async function closeWithError(socket: Socket, bytes: Buffer): Promise<void> {
  await close(socket, bytes);
}

/**
 * Ends a connection on which nothing is left to say. TLS ends with close_notify (RFC 8446, section
 * 6.1): libpq takes an end without it for an error. Resolves as {@link closeWithError} does.
 */
export async function endQuietly(socket: Socket): Promise<void> {
  await close(socket, Buffer.alloc(0));
}

async function close(socket: Socket, bytes: Buffer): Promise<void> {
  if (socket.destroyed || !socket.writable) return;
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      permit?.release();
      resolve();
    };
    const timer = setTimeout(end, LINGER_MS);
    const permit = lingering.acquireByEviction(addressKey(socket.remoteAddress), end);
    let dropped = 0;
    socket.on('error', () => undefined);
    // A client that has sent FIN already has nothing more to send.
    socket.once(socket.readableEnded ? 'finish' : 'end', end).once('close', end);
    socket.on('data', (chunk: Buffer) => {
      dropped += chunk.length;
      if (dropped > LINGER_BYTES) end();
    });
    socket.end(bytes);
    socket.resume();
  });
}
