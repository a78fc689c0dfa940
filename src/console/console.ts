/**
 * The console for the rest of the front-end: it decides which users may open it and serves their
 * connections. A client on a listener has logged in before; a client on the Unix socket
 * (console/socket.ts) needs no login.
 */
import { setMaxListeners } from 'node:events';
import { PgError } from '../lib/errors.ts';
import type { ConsoleAccess, ServeConsole } from '../session/console-access.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { MemoryBudget } from './memory.ts';
import { type ConsoleServices, ConsoleSession, type Operator } from './session.ts';
import { serveOperator } from './wire/server.ts';

/** The console of the process. */
export class Console implements ConsoleAccess {
  readonly #services: ConsoleServices;
  readonly #memory = MemoryBudget.ofProcess();
  /** The owner of the data directory finds room whatever others hold. */
  readonly #ownerMemory = MemoryBudget.ofProcess();
  readonly #draining = new AbortController();
  readonly #closing = new AbortController();

  constructor(services: ConsoleServices) {
    this.#services = services;
    // Each connection listens to one of them, and Node.js would warn of the eleventh.
    setMaxListeners(0, this.#draining.signal, this.#closing.signal);
  }

  admit(user: string, method: 'token' | 'native', client: string): ServeConsole {
    const role = this.#services.operators.admit(user, method);
    return (channel, session, wasGreeted) =>
      serveOperator(
        channel,
        new ConsoleSession({ name: user, role, client }, this.#services, this.#memory),
        session,
        this.#draining.signal,
        wasGreeted,
      );
  }

  /**
   * Serves the owner of the data directory, from AuthenticationOk to the end of the connection.
   * Never rejects.
   */
  serveOwner(channel: MessageChannel, operator: Operator, session: number): Promise<void> {
    const state = new ConsoleSession(operator, this.#services, this.#ownerMemory);
    return serveOperator(channel, state, session, this.#closing.signal);
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
}

function shutdown(): PgError {
  return new PgError({
    code: 'admin_shutdown',
    message: 'terminating connection due to administrator command',
  });
}
