/**
 * The audit trail: one event for each login, accepted or refused, and one for each end of a
 * session. An event holds what is needed to understand it at night, the full reason of a refusal
 * included, and nothing with which somebody could log in.
 */
import { errorText, PgError } from '../lib/errors.ts';
import type { Log } from './log.ts';
import type { Metrics, Statistics } from './metrics.ts';

/**
 * What is known of a login; it fills as the login goes on, so that a refusal tells how far it came.
 */
export interface LoginRecord {
  /** Number of the connection in this process. */
  readonly session: number;
  /** Address and port of the client. */
  readonly client: string;
  /** TLS version, or `plain`. */
  transport?: string | undefined;
  method?: 'token' | 'native' | 'cancel' | undefined;
  user?: string | undefined;
  database?: string | undefined;
  applicationName?: string | undefined;
  principal?: string | undefined;
  issuer?: string | undefined;
  /** The name of the API key that decided the user. */
  apiKey?: string | undefined;
  /** When the token expires, ISO 8601. */
  tokenExpires?: string | undefined;
  /** Whether the user was created for this login. */
  created?: boolean;
  /** Roles that were granted and revoked for this login. */
  granted?: readonly string[];
  revoked?: readonly string[];
  /** Roles that a group stands for and that were not granted, each with the reason. */
  notGranted?: readonly string[];
  /** Roles that no group stands for and that somebody else granted. */
  notRevoked?: readonly string[];
  /** Host and port, or socket, that the session went to. */
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

/** Writes the audit events to the log, and counts them. */
export class Audit {
  readonly #log: Log;
  readonly #metrics: Metrics;
  readonly #statistics: Statistics;

  constructor(log: Log, metrics: Metrics, statistics: Statistics) {
    this.#log = log;
    this.#metrics = metrics;
    this.#statistics = statistics;
  }

  /** A session begins. */
  accepted(login: LoginRecord, durationMs: number): void {
    this.#statistics.accepted(login.method === 'token' ? 'token' : 'native', durationMs);
    this.#log.info({ event: 'login', outcome: 'accepted', ...login, durationMs }, 'login accepted');
    this.#metrics.login({ outcome: 'accepted', method: login.method, durationMs });
  }

  /** A login is refused; errors that are our own fault are logged as such, with their stack. */
  refused(login: LoginRecord, error: unknown, durationMs: number): void {
    this.#statistics.refused(error instanceof PgError ? error.code : 'internal_error');
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
   * A client went away in the middle of a login: at the password prompt, psql does so as a habit.
   */
  abandoned(login: LoginRecord, reason: string): void {
    this.#log.debug({ event: 'login', outcome: 'abandoned', ...login, reason }, 'login abandoned');
    this.#metrics.login({ outcome: 'abandoned', method: login.method });
  }

  /** A session that was accepted has ended. */
  ended(login: LoginRecord, end: SessionEndRecord): void {
    this.#statistics.ended(end.bytesToBackend, end.bytesToClient);
    this.#log.info({ event: 'session_end', ...login, ...end }, 'session ended');
  }
}
