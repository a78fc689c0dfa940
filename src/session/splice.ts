/**
 * The two-way copy between a client and its backend. Nothing is read as a message, and nothing of
 * our own is written, because it could land inside a message.
 */
import type { Socket } from 'node:net';
import type { Copy, CopyEvents, Progress, StartCopy } from './copy.ts';

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
export function splice(
  client: Socket,
  backend: Socket,
  traffic: Traffic,
  options: SpliceOptions,
): Promise<SpliceEnd> {
  const { copy, peerTimeout, ahead } = options;
  // Nothing of what is sent ahead is in reach of what the sockets keep.
  const begin = (from: Socket, to: Socket, counter: keyof Traffic): Copy =>
    copy(from, to, ahead[counter], new Direction(to, traffic, counter, peerTimeout));
  const up = begin(client, backend, 'toBackend');
  const down = begin(backend, client, 'toClient');
  return followToEnd(client, backend, up, down);
}

function followToEnd(client: Socket, backend: Socket, up: Copy, down: Copy): Promise<SpliceEnd> {
  return new Promise((resolve) => {
    const splice = new Splice(client, backend, up, down, resolve);
    splice.follow('client', client, backend);
    splice.follow('backend', backend, client);
  });
}

/** Both sockets of a session, followed until they are closed. */
class Splice {
  readonly #client: Socket;
  readonly #backend: Socket;
  readonly #up: Copy;
  readonly #down: Copy;
  readonly #resolve: (end: SpliceEnd) => void;
  #end: SpliceEnd | undefined;
  /** Sockets that are not closed. */
  #open = 2;

  constructor(
    client: Socket,
    backend: Socket,
    up: Copy,
    down: Copy,
    resolve: (end: SpliceEnd) => void,
  ) {
    this.#client = client;
    this.#backend = backend;
    this.#up = up;
    this.#down = down;
    this.#resolve = resolve;
  }

  /** If an error or a reset closes one socket, the other one is destroyed too. */
  follow(side: SpliceEnd['endedBy'], socket: Socket, other: Socket): void {
    const ended = (): void => this.#ended(side);
    const closed = (): void => {
      // A client may be cut off that has sent FIN and still reads.
      const isCutOff = side === 'client' && !socket.writableFinished;
      if (!socket.readableEnded || isCutOff) other.destroy();
      this.#open--;
      if (this.#open === 0) this.#resolve(this.#end ?? { endedBy: 'client', error: undefined });
    };
    socket.on('error', (error) => {
      this.#end ??= { endedBy: side, error };
      other.destroy();
    });
    // A FIN may have been read during the login already.
    if (socket.readableEnded) ended();
    else socket.on('end', ended);
    if (socket.closed) closed();
    else socket.on('close', closed);
  }

  /** A peer has sent FIN. */
  #ended(side: SpliceEnd['endedBy']): void {
    this.#end ??= { endedBy: side, error: undefined };
    if (side === 'client') {
      this.#up.end();
      return;
    }
    this.#down.end();
    this.#up.drop();
    this.#closeClient();
  }

  /** The backend has ended. Gives the client the time to read its last bytes, and to close. */
  #closeClient(): void {
    const [client, down] = [this.#client, this.#down];
    const stall = new ProgressWatch(CLIENT_STALL_MS, () => void client.destroy());
    if (down.waiting() > 0) stall.start(down);
    client.once('close', () => stall.stop());
    client.once('finish', () => {
      stall.stop();
      this.#backend.destroy();
      const overdue = setTimeout(() => client.destroy(), CLIENT_CLOSE_MS);
      client.once('close', () => clearTimeout(overdue));
    });
  }
}

/** What becomes of one direction: its bytes are counted, and its receiver is watched. */
class Direction implements CopyEvents {
  readonly #to: Socket;
  readonly #traffic: Traffic;
  readonly #counter: keyof Traffic;
  readonly #limit: number;
  #watch: ProgressWatch | undefined;

  constructor(to: Socket, traffic: Traffic, counter: keyof Traffic, limit: number) {
    this.#to = to;
    this.#traffic = traffic;
    this.#counter = counter;
    this.#limit = limit;
  }

  counted(bytes: number): void {
    this.#traffic[this.#counter] += bytes;
  }

  held(progress: Progress): void {
    this.#watch ??= this.#newWatch();
    this.#watch.start(progress);
  }

  freed(): void {
    this.#watch?.stop();
  }

  #newWatch(): ProgressWatch {
    const [to, limit] = [this.#to, this.#limit];
    const watch = new ProgressWatch(limit, () => void to.destroy(new PeerStalled(limit)));
    to.once('close', () => watch.stop());
    return watch;
  }
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
