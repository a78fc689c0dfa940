/**
 * The sessions of this process: SHOW SESSIONS lists them, CANCEL SESSION and a drain end them. With
 * several workers the console asks all of them by the same interface.
 */
import type { LoginRecord } from '../observe/audit.ts';
import type { Traffic } from './splice.ts';

/** A session as SHOW SESSIONS lists it. */
export interface ListedSession {
  readonly login: LoginRecord;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** Bytes so far. */
  readonly traffic: Readonly<Traffic>;
}

/** A session that runs. */
export interface RunningSession extends ListedSession {
  /** Cancels its query and closes its connections. Resolves when they are closed. */
  end(by: 'operator' | 'drain'): Promise<void>;
}

/** The sessions of a node. */
export interface NodeSessions {
  /** How many there are. */
  count(): Promise<number>;
  /** Oldest first. `problems` says which ones could not be asked for. */
  list(): Promise<{
    readonly sessions: readonly ListedSession[];
    readonly problems: readonly string[];
  }>;
  /** Ends a session. False if there is none with this number. */
  cancel(id: number): Promise<boolean>;
}

/** The running sessions of a process. */
export class SessionRegistry implements NodeSessions {
  readonly #running = new Map<number, RunningSession>();

  /** Lists a session under the number of its connection. */
  add(session: RunningSession): void {
    this.#running.set(session.login.session, session);
  }

  /** Takes a session off the list. */
  remove(session: RunningSession): void {
    this.#running.delete(session.login.session);
  }

  get size(): number {
    return this.#running.size;
  }

  async count(): Promise<number> {
    return this.size;
  }

  async list() {
    return { sessions: [...this.#running.values()], problems: [] };
  }

  /** Those with the next higher numbers, without what only this process can use. */
  page(after: number, limit: number): readonly ListedSession[] {
    return [...this.#running.values()]
      .filter(({ login }) => login.session > after)
      .sort((left, right) => left.login.session - right.login.session)
      .slice(0, limit)
      .map(({ login, startedAt, traffic }) => ({ login, startedAt, traffic }));
  }

  async cancel(id: number): Promise<boolean> {
    const session = this.#running.get(id);
    await session?.end('operator');
    return session !== undefined;
  }

  /** Ends all sessions: the drain timeout is over. */
  async endAll(): Promise<void> {
    await Promise.all(Array.from(this.#running.values(), (session) => session.end('drain')));
  }
}
