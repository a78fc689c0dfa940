/**
 * The two-way copy between a client and its backend. Nothing is read as a message, and nothing of
 * our own is written, because it could land inside a message.
 */
import type { Socket } from 'node:net';
import { atEnd, type Copy, type Progress, type StartCopy } from './copy.ts';

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

/** What a session is spliced with. */
interface SpliceOptions {
  /** How bytes are copied. */
  readonly copy: StartCopy;
  /**
   * A peer that takes no byte for so long while bytes wait for it is gone, in milliseconds; 0:
   * never.
   */
  readonly peerTimeout: number;
  /** Sent to each side ahead of what the other sends from now on. */
  readonly ahead: { readonly toClient: Buffer; readonly toBackend: Buffer };
}

/**
 * Copies both ways until both sockets are closed. A client's FIN is passed on behind its last byte,
 * and the other direction goes on: PostgreSQL answers a query whose sender has sent FIN. A
 * backend's FIN is the end of its process, and so of the session. A reset of either side ends both
 * at once.
 *
 * @param traffic is counted up while bytes pass
 */
export async function splice(
  client: Socket,
  backend: Socket,
  traffic: Traffic,
  { copy, peerTimeout, ahead }: SpliceOptions,
): Promise<SpliceEnd> {
  let end: SpliceEnd | undefined;
  const ended = (endedBy: SpliceEnd['endedBy'], error?: Error): void => {
    end ??= { endedBy, error };
  };
  const start = (from: Socket, to: Socket, first: Buffer, counter: keyof Traffic): Copy => {
    const stalled = (): void => void to.destroy(new PeerStalled(peerTimeout));
    const watch = new ProgressWatch(peerTimeout, stalled);
    to.once('close', () => watch.stop());
    return copy(from, to, first, {
      counted: (bytes) => {
        traffic[counter] += bytes;
      },
      held: (progress) => watch.start(progress),
      freed: () => watch.stop(),
    });
  };
  const up = start(client, backend, ahead.toBackend, 'toBackend');
  const down = start(backend, client, ahead.toClient, 'toClient');

  atEnd(client, () => ended('client'));
  atEnd(backend, () => {
    ended('backend');
    up.drop();
    const stall = new ProgressWatch(CLIENT_STALL_MS, () => void client.destroy());
    if (down.waiting() > 0) stall.start(down);
    client.once('close', () => stall.stop());
    client.once('finish', () => {
      stall.stop();
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
 * Reports a receiver that takes no byte for the time while bytes wait for it. The kernel gives up
 * such a connection only after 15 minutes (Linux, tcp_retries2), and the backend keeps its locks
 * for so long.
 */
class ProgressWatch {
  readonly #limit: number;
  readonly #stalled: () => void;
  #timer: NodeJS.Timeout | undefined;

  /** @param limit in milliseconds; 0: never */
  constructor(limit: number, stalled: () => void) {
    this.#limit = limit;
    this.#stalled = stalled;
  }

  start(copy: Progress): void {
    if (this.#limit === 0) return;
    this.stop();
    this.#await(copy);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #await(copy: Progress): void {
    const before = copy.taken();
    this.#timer = setTimeout(() => {
      if (copy.taken() > before) this.#await(copy);
      else if (copy.waiting() > 0) this.#stalled();
    }, this.#limit);
  }
}

/** The end of a session whose peer took nothing any more. */
class PeerStalled extends Error {
  override readonly name = 'PeerStalled';

  constructor(limit: number) {
    super(`the peer took no byte for ${limit} ms while bytes waited for it, --tcp-user-timeout`);
  }
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
