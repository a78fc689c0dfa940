/**
 * A TCP proxy in front of a server, which can freeze: it then forwards nothing more in either
 * direction and closes nothing. A host that has stopped looks like this, and so does a network that
 * drops packets.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** A proxy that is up, on the loopback address. */
export interface FreezingProxy {
  readonly port: number;
  /** Forwards nothing from now on. New connections are accepted and left alone. */
  freeze(): void;
  close(): void;
}

/** Starts a proxy for a port of this host. Without a port it is frozen from the start. */
export async function startFreezingProxy(target?: number): Promise<FreezingProxy> {
  const sockets = new Set<Socket>();
  let isFrozen = target === undefined;
  const add = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.on('error', () => undefined).once('close', () => sockets.delete(socket));
    return socket;
  };
  const server = createServer({ allowHalfOpen: true }, (client) => {
    add(client);
    if (isFrozen || target === undefined) return;
    const far = add(connect({ port: target, host: '127.0.0.1', allowHalfOpen: true }));
    client.pipe(far).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  return {
    port: address.port,
    freeze() {
      isFrozen = true;
      for (const socket of sockets) socket.unpipe().pause();
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
