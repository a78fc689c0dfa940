/**
 * Pairs of connected sockets on the loopback address, for tests of what happens between two ends.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** Both ends of one TCP connection; half-open, as the listener and the dialler have them. */
export async function socketPair(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  const far = connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true });
  const [near] = (await once(server, 'connection')) as [Socket];
  if (far.connecting) await once(far, 'connect');
  server.close();
  return { near, far };
}

/** Everything that comes out of a socket until its peer ends it. */
export async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  // Not `for await`: it would destroy the socket in the end, and our own direction with it.
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.resume();
  await once(socket, 'end');
  return Buffer.concat(chunks);
}
