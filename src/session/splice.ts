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

/**
 * How long, in ms, a client may take to close after the backend's last byte. Clients do at once.
 */
const CLIENT_CLOSE_MS = 1000;

/** How long, in ms, a client may leave a dead backend's last bytes unread. */
const CLIENT_STALL_MS = 30_000;

/**
 * Copies both ways until both sockets are closed. A client's FIN is passed on behind its last byte,
 * and the other direction goes on: PostgreSQL answers a query whose sender has sent FIN. A
 * backend's FIN is the end of its process, and so of the session. A reset of either side ends both
 * at once.
 *
 * @param traffic is counted up while bytes pass
 * @param peerTimeout a peer that takes no byte for so long while bytes wait for it is gone, in
 *   milliseconds; 0: never
 */
export async function splice(
  client: Socket,
  backend: Socket,
  traffic: Traffic,
  peerTimeout: number,
): Promise<SpliceEnd> {
  let end: SpliceEnd | undefined;
  const ended = (endedBy: SpliceEnd['endedBy'], error?: Error): void => {
    end ??= { endedBy, error };
  };
  const stopSending = copy(client, backend, peerTimeout, (bytes) => {
    traffic.toBackend += bytes;
  });
  copy(backend, client, peerTimeout, (bytes) => {
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
function copy(
  from: Socket,
  to: Socket,
  peerTimeout: number,
  count: (bytes: number) => void,
): () => void {
  const watch = watchProgress(to, peerTimeout);
  const resume = (): void => {
    watch.stop();
    from.resume();
  };
  const pass = (chunk: Buffer): void => {
    count(chunk.length);
    if (to.write(chunk)) return;
    from.pause();
    watch.start();
    to.once('drain', resume);
  };
  from.on('data', pass);
  atEnd(from, () => {
    to.end();
    if (to.writableLength > 0) watch.start();
  });
  from.resume();
  return () => {
    from.off('data', pass);
    from.resume();
  };
}

/**
 * Destroys a socket whose peer takes no byte for the time while bytes wait for it. The kernel gives
 * up such a connection only after 15 minutes (Linux, tcp_retries2), and the backend keeps its locks
 * for so long.
 */
function watchProgress(socket: Socket, limit: number): { start(): void; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  let taken = 0;
  const stop = (): void => clearTimeout(timer);
  const check = (): void => {
    const now = bytesTaken(socket);
    if (now > taken) {
      taken = now;
      timer = setTimeout(check, limit);
    } else if (socket.writableLength > 0) {
      socket.destroy(new PeerStalled(limit));
    }
  };
  socket.once('close', stop);
  return {
    start() {
      if (limit === 0) return;
      stop();
      taken = bytesTaken(socket);
      timer = setTimeout(check, limit);
    },
    stop,
  };
}

/** The end of a session whose peer took nothing any more. */
class PeerStalled extends Error {
  override readonly name = 'PeerStalled';

  constructor(limit: number) {
    super(`the peer took no byte for ${limit} ms while bytes waited for it, --tcp-user-timeout`);
  }
}

/** As much of a socket's handle as Node.js itself looks at for its time-outs. */
interface WriteQueue {
  readonly _handle?: { readonly writeQueueSize?: number } | null;
}

/** How many of the bytes written to a socket the kernel has taken. */
function bytesTaken(socket: Socket): number {
  const queued = (socket as unknown as WriteQueue)._handle?.writeQueueSize ?? 0;
  return socket.bytesWritten - socket.writableLength - queued;
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
