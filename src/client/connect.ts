/**
 * The local listener of `pgsso connect`: it takes a startup from any program of this user, logs in
 * upstream with a fresh token, and copies. The program is not asked for anything, so what matters
 * is who can connect: a Unix socket is this user's alone, and on a loopback port the user at the
 * other end is looked up.
 */
import { chmod } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { allHosts, forwardCancel } from '../backend/cancel.ts';
import type { BackendSession } from '../backend/connection.ts';
import { BackendRefusal } from '../backend/errors.ts';
import { withDeadline } from '../lib/abort.ts';
import { errorText, PgError } from '../lib/errors.ts';
import { isErrno, removeIfThere } from '../lib/files.ts';
import { listen } from '../lib/listen.ts';
import { formatText } from '../lib/text.ts';
import { copyByStreams } from '../session/copy.ts';
import { closeWithError } from '../session/lingering-close.ts';
import { Connections } from '../session/listener.ts';
import { agreeOnVersion, negotiate, openConnection } from '../session/negotiate.ts';
import { splice } from '../session/splice.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { errorResponse } from '../wire/messages.ts';
import { readParameters, type StartupPacket } from '../wire/startup.ts';
import { privateFolder } from './folders.ts';
import { canTellUsers, peerUser } from './local-peer.ts';
import type { TokenSource } from './token-source.ts';
import { logInUpstream, type Upstream, upstreamParameters } from './upstream.ts';

/** Where to listen: a loopback address with a port, or the folder of a Unix socket. */
export type LocalAddress =
  | { readonly host: string; readonly port: number }
  | { readonly folder: string };

/** What a {@link LocalListener} is made with. */
export interface LocalListenerOptions {
  readonly address: LocalAddress;
  readonly upstream: Upstream;
  readonly source: Pick<TokenSource, 'get'>;
  /** For every session. Default: the user that the program sends. */
  readonly user: string | undefined;
  /** Whether other users of this machine may use the port, too. */
  readonly otherUsers: 'refuse' | 'allow';
  readonly tell: (line: string) => void;
}

/** From the connection to the first prompt, in ms; a command for a token may take a minute. */
const LOGIN_MS = 90_000;

/** A program that takes no byte for so long is gone, in ms. */
const PEER_MS = 300_000;

/** The port in the name of a Unix socket: what every program tries first. */
const SOCKET_PORT = 5432;

/** Bytes of `sun_path`, without its end. libuv cuts a longer path. */
const PATH_LIMIT = process.platform === 'linux' ? 107 : 103;

/** Interval, in ms, at which refused users of this machine are reported. */
const STRANGERS_MS = 10_000;

/** Listens until it is closed. */
export class LocalListener {
  readonly #options: LocalListenerOptions;
  readonly #connections = new Connections();
  readonly #server: Server;
  #strangersTold = Number.NEGATIVE_INFINITY;

  private constructor(options: LocalListenerOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (socket) =>
      this.#connections.follow(socket, this.#serve(socket)),
    );
  }

  /**
   * Listens.
   *
   * @throws Error that names `--listen`
   */
  static async open(options: LocalListenerOptions): Promise<LocalListener> {
    const listener = new LocalListener(options);
    const { address, tell } = options;
    try {
      if ('folder' in address) await listener.#listenOnSocket(address.folder);
      else await listener.#listen(address);
    } catch (error) {
      throw new Error(`--listen: ${errorText(error)}`, { cause: error });
    }
    if (!('folder' in address) && options.otherUsers === 'refuse' && !(await canTellUsers())) {
      tell(
        'WARNING: this system does not tell who connects to a port: every user of this machine ' +
          'can log in as you here. Listen on a Unix socket instead: --listen /path/of/a/folder',
      );
    }
    return listener;
  }

  /** Host and port for programs: an address, or the folder of the socket. */
  get place(): { readonly host: string; readonly port: number } {
    const { address } = this.#options;
    if ('folder' in address) return { host: address.folder, port: SOCKET_PORT };
    const bound = this.#server.address();
    const port = bound !== null && typeof bound === 'object' ? bound.port : address.port;
    return { host: address.host, port };
  }

  /** How many sessions and logins there are. */
  get size(): number {
    return this.#connections.size;
  }

  /** Accepts no more connections. Sessions go on; resolves when there is none. */
  async drain(): Promise<void> {
    this.#server.close();
    await this.#connections.ended();
  }

  /** Ends all connections at once. */
  async close(): Promise<void> {
    this.#server.close();
    this.#connections.destroy();
    await this.#connections.ended();
  }

  async #listen(where: { host: string; port: number } | { path: string }): Promise<void> {
    await listen(this.#server, where, (error) => this.#options.tell(errorText(error)));
  }

  /** The folder is this user's alone, and so is the socket from its first moment on. */
  async #listenOnSocket(folder: string): Promise<void> {
    const path = join(await privateFolder(folder), `.s.PGSQL.${SOCKET_PORT}`);
    if (Buffer.byteLength(path) > PATH_LIMIT)
      throw new Error(`the path ${path} is longer than ${PATH_LIMIT} bytes`);
    await removeDeadSocket(path);
    const before = process.umask(0o177);
    try {
      await this.#listen({ path });
    } finally {
      process.umask(before);
    }
    await chmod(path, 0o600);
  }

  async #serve(socket: Socket): Promise<void> {
    const connection = openConnection(socket);
    const gone = new AbortController();
    const onClose = (): void => gone.abort(new Error('the program has left'));
    socket.once('close', onClose);
    try {
      if (!(await this.#isAllowed(socket))) throw anotherUser();
      const session = await withDeadline(
        LOGIN_MS,
        `no session within ${LOGIN_MS / 1000} s`,
        gone.signal,
        (signal) => this.#logIn(connection, signal),
      );
      socket.off('close', onClose);
      if (session) await run(session.channel, session.backend);
    } catch (error) {
      if (gone.signal.aborted) return;
      const told = forProgram(error);
      if (told.code !== 'another_user') this.#options.tell(`login failed: ${oneLine(told)}`);
      const answer = error instanceof BackendRefusal ? error.raw : errorResponse(told);
      await closeWithError(connection.channel.socket, answer);
    }
  }

  /** Says so now and then, since another user can try as often as he likes. */
  async #isAllowed(socket: Socket): Promise<boolean> {
    const { address, otherUsers, tell } = this.#options;
    if ('folder' in address || otherUsers === 'allow' || (await peerUser(socket)) !== 'other')
      return true;
    const now = performance.now();
    if (now - this.#strangersTold > STRANGERS_MS) {
      this.#strangersTold = now;
      tell('another user of this machine tried to connect and was refused');
    }
    return false;
  }

  /** Undefined if there is no session to begin: a cancel request, or a program that left. */
  async #logIn(
    connection: ReturnType<typeof openConnection>,
    signal: AbortSignal,
  ): Promise<{ channel: MessageChannel; backend: BackendSession } | undefined> {
    const { upstream } = this.#options;
    const arrival = await negotiate(connection, { mode: 'disable', context: undefined }, signal);
    if (!arrival) return undefined;
    const { channel, packet } = arrival;
    if (packet.kind === 'cancel') {
      await forwardCancel(allHosts(upstream.target), packet.packet, signal);
      return undefined;
    }
    return { channel, backend: await this.#begin(channel, packet, signal) };
  }

  async #begin(
    channel: MessageChannel,
    { version, parameters }: StartupPacket,
    signal: AbortSignal,
  ): Promise<BackendSession> {
    const { upstream, source, user } = this.#options;
    const login = readParameters(parameters);
    await agreeOnVersion(channel, version, login.protocolOptions, signal);
    const { token } = await source.get(signal).catch((error: unknown) => {
      signal.throwIfAborted();
      throw noToken(error);
    });
    return logInUpstream(
      upstream,
      upstreamParameters(login, user, upstream.database),
      token,
      signal,
    );
  }
}

/** Removes the socket of a process that ended without doing so. */
async function removeDeadSocket(path: string): Promise<void> {
  const isDead = await new Promise<boolean>((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => socket.destroy());
    socket.once('error', (error) => resolve(isErrno(error, 'ECONNREFUSED')));
    socket.once('close', () => resolve(false));
  });
  if (isDead) await removeIfThere(path);
}

/** Hands the greeting to the program, and to each side what the other sent ahead; then copies. */
async function run(program: MessageChannel, backend: BackendSession): Promise<void> {
  const fromProgram = program.release();
  const fromBackend = backend.channel.release();
  const traffic = { toBackend: 0, toClient: 0 };
  await splice(program.socket, backend.channel.socket, traffic, {
    copy: copyByStreams,
    peerTimeout: PEER_MS,
    ahead: {
      toClient: Buffer.concat([backend.greeting, fromBackend]),
      toBackend: fromProgram,
    },
  });
}

/** The person at the program is the one who runs this listener, and may see the reason. */
function forProgram(error: unknown): PgError {
  if (error instanceof BackendRefusal) return error;
  if (error instanceof PgError) {
    const { code, sqlstate, message, reason } = error;
    return reason === undefined
      ? error
      : new PgError({ code, sqlstate, message, detail: formatText(reason, 1000) });
  }
  return new PgError({
    code: 'internal_error',
    message: formatText(errorText(error)),
    fault: 'us',
    cause: error,
  });
}

function oneLine({ message, detail, hint }: PgError): string {
  return [message, detail, hint].filter((part) => part !== undefined).join('; ');
}

function noToken(cause: unknown): PgError {
  return new PgError({
    code: 'no_client_token',
    message: 'pgsso connect has no token for this login',
    detail: formatText(errorText(cause), 1000),
    fault: 'us',
    cause,
  });
}

function anotherUser(): PgError {
  return new PgError({
    code: 'another_user',
    message: 'this port is for another user of this machine',
    hint: 'Run pgsso connect yourself.',
  });
}
