/**
 * The two-way copy between a client and its backend. From here on only bytes pass: nothing is read
 * as a message, and nothing of our own is written, since it could land inside one.
 */
import type { Socket } from 'node:net';

/** How a session ended. */
export interface SpliceEnd {
  /** Whose end of the connection came first. */
  readonly endedBy: 'client' | 'backend';
  /** The socket error that ended it, if one did. */
  readonly error: Error | undefined;
}

/** Bytes copied so far; read by whoever shows or logs a running session. */
export interface Traffic {
  toBackend: number;
  toClient: number;
}

/**
 * How long a client may take to close after its backend's last byte was delivered; PostgreSQL's
 * clients do so at once.
 */
const CLIENT_CLOSE_MS = 1000;

/** How long a client may leave a dead backend's last bytes unread before it counts as gone too. */
const CLIENT_STALL_MS = 30_000;

/**
 * Copies both ways until both sockets are closed. A client's FIN is passed on behind its last byte
 * and the answer still comes: PostgreSQL answers a query whose sender has sent FIN. A backend's FIN
 * is the end of its process, hence of the session; a reset of either side ends both at once.
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
 * One direction. Returns what stops it: the source is then read to its end, and what it still sends
 * is dropped.
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

/** Calls back when the peer has sent FIN, also when that was read during the login already. */
function atEnd(socket: Socket, call: () => void): void {
  if (socket.readableEnded) call();
  else socket.once('end', call);
}

/**
 * Resolves when the socket is closed; if an error or a reset closed it, the other one goes down
 * with it.
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
