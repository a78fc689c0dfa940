/** The sessions of this process: SHOW SESSIONS lists them, CANCEL SESSION and a drain end them. */
import type { LoginRecord } from '../observe/audit.ts';
import type { Traffic } from './splice.ts';

/** A session that runs. */
export interface RunningSession {
  readonly login: LoginRecord;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** Bytes so far. */
  readonly traffic: Readonly<Traffic>;
  /** Closes its connections. */
  readonly end: (by: 'operator' | 'drain') => void;
}

/** The running sessions of a process. */
export class SessionRegistry {
  readonly #running = new Map<number, RunningSession>();

  /** Lists a session under the number of its connection. Returns what takes it off the list. */
  add(session: RunningSession): () => void {
    const id = session.login.session;
    this.#running.set(id, session);
    return () => this.#running.delete(id);
  }

  /** Oldest first. */
  list(): readonly RunningSession[] {
    return [...this.#running.values()];
  }

  /** Ends a session. False if there is none with this number. */
  cancel(id: number): boolean {
    const session = this.#running.get(id);
    session?.end('operator');
    return session !== undefined;
  }

  /** Ends all sessions: the drain timeout is over. */
  endAll(): void {
    for (const session of this.#running.values()) session.end('drain');
  }
}
