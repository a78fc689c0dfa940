/**
 * The Unix socket of the console, in the data directory. Only the owner of the directory can open
 * it, so it needs no login. It serves to make the first settings of a new installation and to
 * repair settings that refuse every login.
 */
import { chmod, stat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { errorText, PgError } from '../lib/errors.ts';
import { isErrno } from '../lib/files.ts';
import { Limiter } from '../lib/limiter.ts';
import { listen } from '../lib/listen.ts';
import { formatText } from '../lib/text.ts';
import type { Log } from '../observe/log.ts';
import { CONSOLE_DATABASE } from '../session/console-access.ts';
import { closeWithError } from '../session/lingering-close.ts';
import { Connections } from '../session/listener.ts';
import { agreeOnVersion, negotiate, openConnection } from '../session/negotiate.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { errorResponse } from '../wire/messages.ts';
import { readParameters, type StartupParameter } from '../wire/startup.ts';
import type { Console } from './console.ts';
import type { RelayReader } from './relay.ts';

/** The options of {@link ConsoleSocket.open}. */
export interface ConsoleSocketOptions {
  /** The data directory. */
  readonly directory: string;
  /** Port of the first listener. It is part of the socket's name, as libpq expects. */
  readonly port: number;
  readonly console: Console;
  /** Time for the startup packet, in milliseconds. */
  readonly loginTimeout: number;
  readonly log: Log;
  /** Takes over the operators whom workers of the node have admitted. Absent without workers. */
  readonly relays?: RelayReader | undefined;
  /** Checks that the directory is there and that only its owner has access to it. */
  readonly checkDirectory: () => Promise<void>;
}

/**
 * Bytes of `sun_path` in the system's sockaddr_un, without the NUL at its end. libuv truncates a
 * longer path.
 */
const PATH_LIMIT = process.platform === 'linux' ? 107 : 103;

/** Interval, in ms, of the looks whether the socket file is still there. */
const WATCH_MS = 2000;

const OWNER_ONLY = 0o600;

/**
 * Bounds the connections that scripts of the owner can leave open, and apart from them those that
 * have not said yet what they are. Operators whom a worker has admitted hold places of sessions.
 */
const CONNECTION_LIMIT = 100;

/** The socket, which listens until it is closed. */
export class ConsoleSocket {
  readonly #options: ConsoleSocketOptions;
  readonly #path: string;
  #server: Server;
  readonly #connections = new Connections();
  readonly #arriving = new Limiter({ limit: CONNECTION_LIMIT });
  readonly #owners = new Limiter({ limit: CONNECTION_LIMIT });
  readonly #closing = new AbortController();
  #number = 0;
  #isLost = false;

  private constructor(options: ConsoleSocketOptions) {
    this.#options = options;
    this.#path = consoleSocketPath(options.directory, options.port);
    this.#server = this.#createServer();
  }

  /**
   * Starts to listen. A socket file that a dead process has left is replaced.
   *
   * @throws Error that names `--data-dir` and the cause, such as another process on the socket
   */
  static async open(options: ConsoleSocketOptions): Promise<ConsoleSocket> {
    const opened = new ConsoleSocket(options);
    const path = opened.#path;
    try {
      checkSocketPath(path);
      if (await isInUse(path)) throw new Error('another process listens on it');
      await opened.#listen();
    } catch (error) {
      opened.#server.close();
      throw new Error(`--data-dir: cannot listen on ${path}: ${errorText(error)}`, {
        cause: error,
      });
    }
    void opened.#watch();
    return opened;
  }

  /**
   * Stops listening, which removes the socket file, and waits for the connections. The console must
   * be closed before, which ends those it serves.
   */
  async close(): Promise<void> {
    this.#server.close();
    this.#closing.abort(new Error('shutting down'));
    await this.#connections.ended();
  }

  #createServer(): Server {
    return createServer({ allowHalfOpen: true }, (socket) =>
      this.#connections.follow(socket, this.#serve(socket)),
    );
  }

  async #listen(): Promise<void> {
    await listen(this.#server, { path: this.#path }, (error) =>
      this.#options.log.warn(
        { event: 'console_socket', reason: errorText(error) },
        'a connection to the console could not be accepted',
      ),
    );
    // Until this call the mode of the directory keeps other users out.
    await chmod(this.#path, OWNER_ONLY);
  }

  /** Somebody may delete the directory, or the file in it, while the process runs. */
  async #watch(): Promise<void> {
    const { signal } = this.#closing;
    for (;;) {
      await pause(WATCH_MS, undefined, { ref: false, signal }).catch(() => undefined);
      if (signal.aborted) return;
      if (await isMissing(this.#path)) await this.#listenAgain();
    }
  }

  /** Listens again as soon as the directory is there and fit. Connections go on. */
  async #listenAgain(): Promise<void> {
    const { checkDirectory, log } = this.#options;
    try {
      await checkDirectory();
      // Before the new one listens: closing the old one removes the file of that name.
      this.#server.close();
      this.#server = this.#createServer();
      await this.#listen();
      if (this.#closing.signal.aborted) this.#server.close();
      this.#isLost = false;
      log.warn({ event: 'console_socket', outcome: 'listening' }, 'socket file back');
    } catch (error) {
      if (this.#isLost) return;
      this.#isLost = true;
      const reason = errorText(error);
      log.error({ event: 'console_socket', outcome: 'lost', reason }, 'socket file gone');
    }
  }

  async #serve(socket: Socket): Promise<void> {
    const { log } = this.#options;
    const arriving = this.#arriving.acquire();
    if (!arriving) return;
    try {
      const arrival = await this.#startup(socket).finally(() => arriving.release());
      if (arrival) await this.#admit(arrival);
    } catch (error) {
      if (error instanceof PgError) await closeWithError(socket, errorResponse(error));
      else log.debug({ event: 'console', reason: errorText(error) }, 'console connection lost');
    }
  }

  /** Reads the startup packet. Undefined if the client has left, or wanted something else. */
  async #startup(socket: Socket): Promise<Arrival | undefined> {
    const connection = openConnection(socket);
    const { loginTimeout } = this.#options;
    const signal = AbortSignal.any([AbortSignal.timeout(loginTimeout), this.#closing.signal]);
    const arrival = await negotiate(connection, { mode: 'disable', context: undefined }, signal);
    if (arrival?.packet.kind !== 'startup') return undefined;
    const { channel, packet } = arrival;
    const { protocolOptions } = readParameters(packet.parameters);
    await agreeOnVersion(channel, packet.version, protocolOptions, signal);
    return { channel, parameters: packet.parameters };
  }

  async #admit({ channel, parameters }: Arrival): Promise<void> {
    const { console, relays } = this.#options;
    const relayed = relays?.read(parameters);
    if (relayed) {
      const { user, method, client, session, wasGreeted } = relayed;
      return console.admit(user, method, client)(channel, session, wasGreeted);
    }
    const { user, database } = readParameters(parameters);
    if (database?.toString() !== CONSOLE_DATABASE) throw noSuchDatabase(database?.toString() ?? '');
    const place = this.#owners.acquire();
    if (!place) throw tooMany();
    const number = ++this.#number;
    // The client can open the socket, so it acts for the owner. Its user name is only recorded.
    const operator = {
      name: `${formatText(user?.toString() ?? '')} (socket)`,
      role: 'admin',
      client: 'socket',
    } as const;
    await console.serveOwner(channel, operator, number).finally(() => place.release());
  }
}

/** A connection that has sent its startup packet. */
interface Arrival {
  readonly channel: MessageChannel;
  readonly parameters: readonly StartupParameter[];
}

/** Where the console of a process listens; libpq expects the name. */
export function consoleSocketPath(directory: string, port: number): string {
  return join(directory, `.s.PGSQL.${port}`);
}

/** @throws Error if the path is too long for a socket */
export function checkSocketPath(path: string): void {
  if (Buffer.byteLength(path) > PATH_LIMIT)
    throw new Error(`the path is longer than ${PATH_LIMIT} bytes`);
}

async function isMissing(path: string): Promise<boolean> {
  try {
    await stat(path);
    return false;
  } catch (error) {
    return isErrno(error, 'ENOENT');
  }
}

/** Returns whether a process listens on the socket. If none does, the file is removed. */
async function isInUse(path: string): Promise<boolean> {
  const failure = await new Promise<Error | undefined>((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(undefined)).once('error', resolve);
    socket.once('connect', () => socket.destroy());
  });
  if (isErrno(failure, 'ECONNREFUSED')) await unlink(path);
  return failure === undefined;
}

function noSuchDatabase(name: string): PgError {
  return new PgError({
    code: 'unknown_database',
    message: `database "${formatText(name)}" does not exist`,
    hint: `This socket is the console alone: psql -d ${CONSOLE_DATABASE}`,
  });
}

function tooMany(): PgError {
  return new PgError({
    code: 'too_many_sessions',
    message: 'sorry, too many clients already',
    reason: `${CONNECTION_LIMIT} connections are open on the socket of the console`,
  });
}
