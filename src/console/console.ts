/**
 * The console for the rest of the front-end: it decides which users may open it and serves their
 * connections. A client on a listener has logged in before; a client on the Unix socket
 * (console/socket.ts) needs no login.
 */
import { PgError } from '../lib/errors.ts';
import type { ConsoleAccess, ServeConsole } from '../session/console-access.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { type ConsoleServices, ConsoleSession, type Operator } from './session.ts';
import { serveOperator } from './wire/server.ts';

/** The console of the process. */
export class Console implements ConsoleAccess {
  readonly #services: ConsoleServices;
  readonly #draining = new AbortController();
  readonly #closing = new AbortController();

  constructor(services: ConsoleServices) {
    this.#services = services;
  }

  admit(user: string, method: 'token' | 'native', client: string): ServeConsole {
    const role = this.#services.operators.roleOf(user, method);
    if (role !== undefined)
      return (channel, session) =>
        this.#serve(channel, { name: user, role, client }, session, this.#draining.signal);
    throw new PgError({
      code: 'not_an_operator',
      message: 'only users with the VIEWCLUSTERSETTING privilege are allowed to use the console',
      reason: `${user} is named neither by --admin nor by --viewer`,
    });
  }

  /**
   * Serves the owner of the data directory, from AuthenticationOk to the end of the connection.
   * Never rejects.
   */
  serveOwner(channel: MessageChannel, operator: Operator, session: number): Promise<void> {
    return this.#serve(channel, operator, session, this.#closing.signal);
  }

  /** Ends the connections from listeners with an ErrorResponse (57P01). */
  drain(): void {
    this.#draining.abort(shutdown());
  }

  /** Ends all connections, those on the Unix socket too. */
  close(): void {
    this.drain();
    this.#closing.abort(shutdown());
  }

  #serve(
    channel: MessageChannel,
    operator: Operator,
    session: number,
    signal: AbortSignal,
  ): Promise<void> {
    return serveOperator(channel, new ConsoleSession(operator, this.#services), session, signal);
  }
}

function shutdown(): PgError {
  return new PgError({
    code: 'admin_shutdown',
    message: 'terminating connection due to administrator command',
  });
}
