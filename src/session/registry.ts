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
  /** Cancels its query and closes its connections. Resolves when they are closed. */
  readonly end: (by: 'operator' | 'drain') => Promise<void>;
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
