/**
 * The audit trail: one event for each login, accepted or refused, and one for each session that
 * ends. An event holds what an operator needs to understand it, including the full reason of a
 * refusal. It never holds a credential.
 */
import { errorText, PgError } from '../lib/errors.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';

/**
 * What is known of a login. The members are set as the login proceeds, so the event of a refusal
 * shows how far the login came.
 */
export interface LoginRecord {
  /** Number of the connection in this process. */
  readonly session: number;
  /** Address and port of the client. */
  readonly client: string;
  /** TLS version, or `plain`. */
  transport?: string | undefined;
  method?: 'token' | 'native' | undefined;
  user?: string | undefined;
  database?: string | undefined;
  applicationName?: string | undefined;
  principal?: string | undefined;
  issuer?: string | undefined;
  /** Name of the API key that decided the user. */
  apiKey?: string | undefined;
  /** When the token expires, ISO 8601. */
  tokenExpires?: string | undefined;
  /** Whether the user was created for this login. */
  created?: boolean;
  /** Roles that were granted and revoked for this login. */
  granted?: readonly string[];
  revoked?: readonly string[];
  /** Roles that a group of the token names and that were not granted, each with the reason. */
  notGranted?: readonly string[];
  /** Roles that no group of the token names and that stay, because somebody else granted them. */
  notRevoked?: readonly string[];
  /** How long the refusal was held back, in ms. */
  delayedMs?: number;
  /** Host and port, or socket, of the backend that the session is connected to. */
  backend?: string | undefined;
}

/** The figures of a session that has ended. */
export interface SessionEndRecord {
  readonly durationMs: number;
  readonly bytesToBackend: number;
  readonly bytesToClient: number;
  readonly endedBy: string;
  readonly error: string | undefined;
}

/** Writes the audit events to the log and counts them. */
export class Audit {
  readonly #log: Log;
  readonly #metrics: Metrics;

  constructor(log: Log, metrics: Metrics) {
    this.#log = log;
    this.#metrics = metrics;
  }

  /** A login is accepted and its session begins. `durationMs` is the time that the login took. */
  accepted(login: LoginRecord, durationMs: number): void {
    this.#log.info({ event: 'login', outcome: 'accepted', ...login, durationMs }, 'login accepted');
    this.#metrics.login({ outcome: 'accepted', method: login.method, durationMs });
  }

  /** A login is refused. An error that is not a PgError is a bug and is logged with its stack. */
  refused(login: LoginRecord, error: unknown, durationMs: number): void {
    const event = { event: 'login', outcome: 'refused', ...login, durationMs };
    if (error instanceof PgError) {
      const { code, sqlstate, message, detail, fault } = error;
      const why = { code, sqlstate, message, detail, reason: error.reason ?? message, fault };
      this.#log[fault === 'client' ? 'info' : 'warn']({ ...event, ...why }, 'login refused');
      this.#metrics.login({ outcome: 'refused', method: login.method, code, fault, durationMs });
    } else {
      const stack = error instanceof Error ? error.stack : undefined;
      this.#log.error(
        { ...event, code: 'internal_error', reason: errorText(error), stack, fault: 'us' },
        'login refused',
      );
      this.#metrics.login({
        outcome: 'refused',
        method: login.method,
        code: 'internal_error',
        fault: 'us',
        durationMs,
      });
    }
  }

  /**
   * A client leaves during a login. psql does so regularly: it closes the connection to ask for a
   * password and connects again.
   */
  abandoned(login: LoginRecord, reason: string): void {
    this.#log.debug({ event: 'login', outcome: 'abandoned', ...login, reason }, 'login abandoned');
    this.#metrics.login({ outcome: 'abandoned', method: login.method });
  }

  /** A session has ended. */
  ended(login: LoginRecord, end: SessionEndRecord): void {
    this.#metrics.sessionEnded();
    this.#log.info({ event: 'session_end', ...login, ...end }, 'session ended');
  }
}
