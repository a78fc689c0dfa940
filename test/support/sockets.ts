/** Connected sockets on the loopback address. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** Both ends of a TCP connection that may be half open, as connections of pgsso may be. */
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

/** Reads a socket until its peer ends it. */
export async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  // `for await` would destroy the socket at the end, and with it the other direction.
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.resume();
  await once(socket, 'end');
  return Buffer.concat(chunks);
}
