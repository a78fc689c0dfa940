/**
 * The door for the owner of the data directory: a Unix socket that nobody else can open, with no
 * further login. A new system gets its first settings through it, and one that has locked everybody
 * out is rescued.
 */

import { chmod, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { errorText, PgError } from '../lib/errors.ts';
import { formatText } from '../lib/text.ts';
import type { Log } from '../observe/log.ts';
import { CONSOLE_DATABASE } from '../session/console-access.ts';
import { closeWithError } from '../session/lingering-close.ts';
import { Connections } from '../session/listener.ts';
import { agreeOnVersion, negotiate, openConnection } from '../session/negotiate.ts';
import { errorResponse } from '../wire/messages.ts';
import { readParameters } from '../wire/startup.ts';
import type { Console } from './console.ts';

/** What the socket is opened with. */
export interface ConsoleSocketOptions {
  /** The data directory. */
  readonly directory: string;
  /** Of the first listener; part of the name, as libpq has it. */
  readonly port: number;
  readonly console: Console;
  /** For the startup packet, in milliseconds. */
  readonly loginTimeout: number;
  readonly log: Log;
}

/**
 * `sun_path` of the system's sockaddr_un, without the NUL at its end; libuv would cut a longer
 * path.
 */
const PATH_LIMIT = process.platform === 'linux' ? 107 : 103;

const OWNER_ONLY = 0o600;

/** Only the owner gets in; this bounds what his scripts can pile up. */
const CONNECTION_LIMIT = 100;

/** The open socket. */
export class ConsoleSocket {
  readonly #options: ConsoleSocketOptions;
  readonly #server: Server;
  readonly #connections = new Connections();
  readonly #closing = new AbortController();
  #number = 0;

  private constructor(options: ConsoleSocketOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, (socket) =>
      this.#connections.follow(socket, this.#serve(socket)),
    );
    this.#server.maxConnections = CONNECTION_LIMIT;
  }

  /**
   * Listens. A socket file that a process has left behind is replaced.
   *
   * @throws Error that names `--data-dir` and says what is wrong, such as another process that uses
   *   the socket
   */
  static async open(options: ConsoleSocketOptions): Promise<ConsoleSocket> {
    const path = join(options.directory, `.s.PGSQL.${options.port}`);
    const opened = new ConsoleSocket(options);
    try {
      if (Buffer.byteLength(path) > PATH_LIMIT)
        throw new Error(`the path is longer than ${PATH_LIMIT} bytes`);
      if (await isInUse(path)) throw new Error('another process listens on it');
      await opened.#listen(path);
      // The directory is closed to others already, so nobody could be faster.
      await chmod(path, OWNER_ONLY);
    } catch (error) {
      opened.#server.close();
      throw new Error(`--data-dir: cannot listen on ${path}: ${errorText(error)}`, {
        cause: error,
      });
    }
    return opened;
  }

  /**
   * Accepts nothing more and waits for the connections, which the console has ended before. The
   * file goes with the server.
   */
  async close(): Promise<void> {
    this.#server.close();
    this.#closing.abort(new Error('shutting down'));
    await this.#connections.ended();
  }

  async #listen(path: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(path, resolve);
    });
  }

  async #serve(socket: Socket): Promise<void> {
    const { console, loginTimeout, log } = this.#options;
    const connection = openConnection(socket);
    const number = ++this.#number;
    try {
      const signal = AbortSignal.any([AbortSignal.timeout(loginTimeout), this.#closing.signal]);
      const arrival = await negotiate(connection, { mode: 'disable', context: undefined }, signal);
      if (arrival?.packet.kind !== 'startup') return;
      const { user, database, protocolOptions } = readParameters(arrival.packet.parameters);
      await agreeOnVersion(arrival.channel, arrival.packet.version, protocolOptions, signal);
      if (database?.toString() !== CONSOLE_DATABASE)
        throw noSuchDatabase(database?.toString() ?? '');
      // Whoever can open the socket owns the directory; the name that he gives is for the record
      // alone.
      const operator = {
        name: `${formatText(user?.toString() ?? '')} (socket)`,
        role: 'admin',
        client: 'socket',
      } as const;
      await console.serveOwner(arrival.channel, operator, number);
    } catch (error) {
      if (error instanceof PgError) await closeWithError(socket, errorResponse(error));
      else log.debug({ event: 'console', reason: errorText(error) }, 'console connection lost');
    }
  }
}

/** Whether somebody answers; a file that nobody listens on is removed. */
async function isInUse(path: string): Promise<boolean> {
  const answer = await new Promise<string>((resolve) => {
    const socket = connect(path);
    socket
      .once('connect', () => resolve('connected'))
      .once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    socket.once('connect', () => socket.destroy());
  });
  if (answer === 'ECONNREFUSED') await unlink(path);
  return answer === 'connected';
}

function noSuchDatabase(name: string): PgError {
  return new PgError({
    code: 'unknown_database',
    message: `database "${formatText(name)}" does not exist`,
    hint: `This socket is the console alone: psql -d ${CONSOLE_DATABASE}`,
  });
}
