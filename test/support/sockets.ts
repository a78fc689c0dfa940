/** Connected sockets, without and with TLS. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { TLS_OPTIONS } from '../../src/session/client-tls.ts';
import { acceptTls, startTls } from '../../src/wire/tls.ts';
import { makeAuthority } from './certificates.ts';

/** Both ends of a connection. */
export interface SocketPair {
  readonly near: Socket;
  readonly far: Socket;
  /** The far end below TLS; without TLS the far end. */
  readonly raw: Socket;
}

/**
 * Both ends of a connection that may be half open, as connections of pgsso may be.
 *
 * @param path of a Unix socket; default: the loopback address
 */
export async function socketPair(path?: string): Promise<SocketPair> {
  const server = createServer({ allowHalfOpen: true });
  server.listen(path === undefined ? { port: 0, host: '127.0.0.1' } : { path });
  await once(server, 'listening');
  const address = server.address();
  if (address === null) throw new Error('not listening');
  const far =
    typeof address === 'string'
      ? connect({ path: address, allowHalfOpen: true })
      : connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true });
  const [near] = (await once(server, 'connection')) as [Socket];
  if (far.connecting) await once(far, 'connect');
  server.close();
  return { near, far, raw: far };
}

/**
 * Both ends of a connection with TLS, by the code that pgsso uses for it.
 *
 * @param server which end is the server
 */
export async function tlsPair(
  server: 'near' | 'far',
  options: SecureContextOptions = {},
): Promise<SocketPair> {
  const { near, far } = await socketPair();
  const [serverEnd, clientEnd] = server === 'near' ? [near, far] : [far, near];
  const { signal } = new AbortController();
  const certificate = makeAuthority().issue({ cn: 'server' });
  const client = { host: '127.0.0.1', verification: 'none', requireAlpn: true } as const;
  const [accepted, started] = await Promise.all([
    acceptTls(
      serverEnd,
      createSecureContext({ ...certificate, ...TLS_OPTIONS, ...options }),
      signal,
    ),
    startTls(clientEnd, { ...client, secureContext: createSecureContext(options) }, signal),
  ]);
  return server === 'near'
    ? { near: accepted, far: started, raw: far }
    : { near: started, far: accepted, raw: far };
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
