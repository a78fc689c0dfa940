/**
 * The way of an operator from a worker to the console, which is in another process of the node. The
 * worker logs the operator in, and then copies the connection to the console's socket. Its startup
 * packet there says who the operator is. A secret of this start of the node proves that a worker
 * wrote it: whoever else can open the socket is the owner of the data directory.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { errorText, PgError } from '../lib/errors.ts';
import type { Log } from '../observe/log.ts';
import {
  CONSOLE_DATABASE,
  type ConsoleAccess,
  type ServeConsole,
} from '../session/console-access.ts';
import { copyByStreams } from '../session/copy.ts';
import { closeWithError } from '../session/lingering-close.ts';
import { splice } from '../session/splice.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { PROTOCOL_3_0 } from '../wire/constants.ts';
import { errorResponse } from '../wire/messages.ts';
import { formatStartup, type StartupParameter } from '../wire/startup.ts';
import type { Operators } from './operators.ts';

/** Parameters of the startup packet that a worker writes. */
const SECRET = 'pgsso.secret';
const USER = 'pgsso.user';
const METHOD = 'pgsso.method';
const CLIENT = 'pgsso.client';
const SESSION = 'pgsso.session';
const GREETED = 'pgsso.greeted';

/** An operator whom a worker has admitted. */
interface Relayed {
  readonly user: string;
  readonly method: 'token' | 'native';
  /** Address and port of the client. */
  readonly client: string;
  /** The number of its connection. */
  readonly session: number;
  /** Whether it has been told AuthenticationOk. */
  readonly wasGreeted: boolean;
}

/** A new secret, in hex. */
export function newRelaySecret(): string {
  return randomBytes(32).toString('hex');
}

/** Recognises the connections of workers at the console's socket. */
export class RelayReader {
  readonly #secret: Buffer;

  constructor(secret: string) {
    this.#secret = Buffer.from(secret);
  }

  /**
   * Who a worker has admitted. Undefined if the connection is not a worker's.
   *
   * @throws PgError 28000 for a worker of another node, or of an earlier start: as the owner's it
   *   would have more rights than the operator
   */
  read(parameters: readonly StartupParameter[]): Relayed | undefined {
    const value = (wanted: string): Buffer | undefined =>
      parameters.find(({ name }) => name === wanted)?.value;
    const secret = value(SECRET);
    if (secret === undefined) return undefined;
    if (secret.length !== this.#secret.length || !timingSafeEqual(secret, this.#secret)) {
      throw new PgError({ code: 'not_an_operator', message: 'this worker is not of this node' });
    }
    return {
      user: value(USER)?.toString() ?? '',
      method: value(METHOD)?.toString() === 'token' ? 'token' : 'native',
      client: value(CLIENT)?.toString() ?? '',
      session: Number(value(SESSION)),
      wasGreeted: value(GREETED)?.toString() === 'true',
    };
  }
}

/** What a {@link ConsoleRelay} is made with. */
export interface ConsoleRelayOptions {
  readonly operators: Operators;
  readonly secret: string;
  /** The path of the console's socket. */
  readonly path: () => string;
  readonly log: Log;
}

/** The console as a worker sees it. */
export class ConsoleRelay implements ConsoleAccess {
  readonly #options: ConsoleRelayOptions;

  constructor(options: ConsoleRelayOptions) {
    this.#options = options;
  }

  admit(user: string, method: 'token' | 'native', client: string): ServeConsole {
    this.#options.operators.admit(user, method);
    return (channel, session, wasGreeted) =>
      this.#serve(channel, { user, method, client, session, wasGreeted });
  }

  async #serve(channel: MessageChannel, operator: Relayed): Promise<void> {
    const { path, log } = this.#options;
    let socket: Socket;
    try {
      socket = connect({ path: path(), allowHalfOpen: true });
      await once(socket, 'connect');
    } catch (error) {
      log.error({ event: 'console', reason: errorText(error) }, 'console not reached');
      await closeWithError(channel.socket, errorResponse(consoleAway(error)));
      channel.destroy();
      return;
    }
    const toBackend = Buffer.concat([this.#startup(operator), channel.release()]);
    const ahead = { toBackend, toClient: Buffer.alloc(0) };
    const traffic = { toBackend: 0, toClient: 0 };
    await splice(channel.socket, socket, traffic, { copy: copyByStreams, peerTimeout: 0, ahead });
  }

  #startup({ user, method, client, session, wasGreeted }: Relayed): Buffer {
    const parameters = {
      user,
      database: CONSOLE_DATABASE,
      [SECRET]: this.#options.secret,
      [USER]: user,
      [METHOD]: method,
      [CLIENT]: client,
      [SESSION]: String(session),
      [GREETED]: String(wasGreeted),
    };
    return formatStartup(
      PROTOCOL_3_0,
      Object.entries(parameters).map(([name, value]) => ({ name, value: Buffer.from(value) })),
    );
  }
}

function consoleAway(cause: unknown): PgError {
  return new PgError({
    code: 'cannot_connect_now',
    message: 'the console cannot be reached',
    reason: `its socket in the data directory: ${errorText(cause)}`,
    fault: 'us',
    cause,
  });
}
