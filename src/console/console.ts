/**
 * The console as the rest of the front-end sees it: whether somebody may use it, and a connection served until its end. What a login has
 * to prove before is the session's business; the Unix socket has its own door.
 */
import type { ApiKeyUses } from '../auth/api-keys.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import type { KeySource } from '../auth/key-source.ts';
import type { Directory } from '../directory/directory.ts';
import { PgError } from '../errors.ts';
import type { Log } from '../observe/log.ts';
import type { Statistics } from '../observe/statistics.ts';
import type { ConsoleDoor, ConsoleVisit } from '../session/console-door.ts';
import type { SessionRegistry } from '../session/session-registry.ts';
import type { SettingsStore } from '../settings/store.ts';
import type { MessageChannel } from '../transport/message-channel.ts';
import { ConsoleSession, type Operator } from './console-session.ts';
import type { Operators } from './operators.ts';
import { serveOperator } from './protocol-server.ts';

/** What the statements work on. */
export interface ConsoleParts {
  readonly settings: SettingsStore;
  readonly authenticator: Authenticator;
  readonly keys: KeySource;
  /** Knows whom it created and granted roles; undefined without `--directory`. */
  readonly directory: Directory | undefined;
  readonly apiKeyUses: ApiKeyUses;
  readonly sessions: SessionRegistry;
  readonly statistics: Statistics;
  readonly operators: Operators;
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: Log;
}

/** The console of a process. */
export class Console implements ConsoleDoor {
  readonly #parts: ConsoleParts;
  readonly #draining = new AbortController();
  readonly #closing = new AbortController();

  constructor(parts: ConsoleParts) {
    this.#parts = parts;
  }

  admit(user: string, method: 'token' | 'native', client: string): ConsoleVisit {
    const role = this.#parts.operators.roleOf(user, method);
    if (role !== undefined)
      return (channel, session) => this.#serve(channel, { name: user, role, client }, session, this.#draining.signal);
    throw new PgError({
      code: 'not_an_operator',
      sqlstate: '42501',
      message: 'only users with the VIEWCLUSTERSETTING privilege are allowed to use the console',
      reason: `${user} is named neither by --admin nor by --viewer`,
    });
  }

  /** Answers the owner of the data directory, from AuthenticationOk to the end of the connection. Never rejects. */
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

  #serve(channel: MessageChannel, operator: Operator, session: number, signal: AbortSignal): Promise<void> {
    return serveOperator(channel, new ConsoleSession(operator, this.#parts), session, signal);
  }
}

function shutdown(): PgError {
  return new PgError({
    code: 'admin_shutdown',
    sqlstate: '57P01',
    message: 'terminating connection due to administrator command',
  });
}
