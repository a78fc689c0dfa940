/**
 * The console as the rest of the front-end sees it: whether somebody may use it, and a connection
 * served until its end. What a login has to prove before is the session's business; the Unix socket
 * has its own door.
 */
import { PgError } from '../lib/errors.ts';
import type { ConsoleAccess, ServeConsole } from '../session/console-access.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { type ConsoleServices, ConsoleSession, type Operator } from './session.ts';
import { serveOperator } from './wire/server.ts';

/** The console of a process. */
export class Console implements ConsoleAccess {
  readonly #parts: ConsoleServices;
  readonly #draining = new AbortController();
  readonly #closing = new AbortController();

  constructor(parts: ConsoleServices) {
    this.#parts = parts;
  }

  admit(user: string, method: 'token' | 'native', client: string): ServeConsole {
    const role = this.#parts.operators.roleOf(user, method);
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
   * Answers the owner of the data directory, from AuthenticationOk to the end of the connection.
   * Never rejects.
   */
  serveOwner(channel: MessageChannel, operator: Operator, session: number): Promise<void> {
    return this.#serve(channel, operator, session, this.#closing.signal);
  }

  /** Ends the connections that came in through a listener, with a word about why. */
  drain(): void {
    this.#draining.abort(shutdown());
  }

  /** Ends the others, too. */
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
    return serveOperator(channel, new ConsoleSession(operator, this.#parts), session, signal);
  }
}

function shutdown(): PgError {
  return new PgError({
    code: 'admin_shutdown',
    message: 'terminating connection due to administrator command',
  });
}
