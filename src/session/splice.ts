/**
 * The two-way copy between a client and its backend. Nothing is read as a message, and nothing of
 * our own is written, because it could land inside a message.
 */
import type { Socket } from 'node:net';

/** How a session ended. */
export interface SpliceEnd {
  /** The side that ended its connection first. */
  readonly endedBy: 'client' | 'backend';
  /** The socket error that ended the session, if there was one. */
  readonly error: Error | undefined;
}

/** Bytes copied so far. SHOW SESSIONS and the metrics read them while the session runs. */
export interface Traffic {
  toBackend: number;
  toClient: number;
}

/** How long, in ms, a client may take to close after the backend's last byte. Clients do at once. */
const CLIENT_CLOSE_MS = 1000;

/** How long, in ms, a client may leave a dead backend's last bytes unread. */
const CLIENT_STALL_MS = 30_000;

/**
 * Copies both ways until both sockets are closed. A client's FIN is passed on behind its last byte,
 * and the other direction goes on: PostgreSQL answers a query whose sender has sent FIN. A backend's
 * FIN is the end of its process, and so of the session. A reset of either side ends both at once.
 *
 * @param traffic is counted up while bytes pass
 */
export async function splice(
  client: Socket,
  backend: Socket,
  traffic: Traffic,
): Promise<SpliceEnd> {
  let end: SpliceEnd | undefined;
  const ended = (endedBy: SpliceEnd['endedBy'], error?: Error): void => {
    end ??= { endedBy, error };
  };
  const stopSending = copy(client, backend, (bytes) => {
    traffic.toBackend += bytes;
  });
  copy(backend, client, (bytes) => {
    traffic.toClient += bytes;
  });

  atEnd(client, () => ended('client'));
  atEnd(backend, () => {
    ended('backend');
    stopSending();
    client.setTimeout(CLIENT_STALL_MS, () => client.destroy());
    client.once('finish', () => {
      backend.destroy();
      const overdue = setTimeout(() => client.destroy(), CLIENT_CLOSE_MS);
      client.once('close', () => clearTimeout(overdue));
    });
  });
  await Promise.all([
    closed(client, backend, (error) => ended('client', error)),
    closed(backend, client, (error) => ended('backend', error)),
  ]);
  return end ?? { endedBy: 'client', error: undefined };
}

/**
 * Copies one direction. Returns a function that stops it: the source is then read to its end, and
 * what it still sends is dropped.
 */
function copy(from: Socket, to: Socket, count: (bytes: number) => void): () => void {
  const resume = (): void => {
    from.resume();
  };
  const pass = (chunk: Buffer): void => {
    count(chunk.length);
    if (to.write(chunk)) return;
    from.pause();
    to.once('drain', resume);
  };
  from.on('data', pass);
  atEnd(from, () => to.end());
  from.resume();
  return () => {
    from.off('data', pass);
    from.resume();
  };
}

/** Calls back when the peer has sent FIN, also if that was read during the login already. */
function atEnd(socket: Socket, call: () => void): void {
  if (socket.readableEnded) call();
  else socket.once('end', call);
}

/**
 * Resolves when the socket is closed. If an error or a reset closed it, the other one is destroyed
 * too.
 */
async function closed(
  socket: Socket,
  other: Socket,
  failed: (error: Error) => void,
): Promise<void> {
  await new Promise<void>((resolve) => {
    socket.on('error', (error) => {
      failed(error);
      other.destroy();
    });
    const close = (): void => {
      if (!socket.readableEnded) other.destroy();
      resolve();
    };
    if (socket.closed) close();
    else socket.once('close', close);
  });
}
