/**
 * The audit trail: one event for each login, accepted or refused, and one for each session that
 * ends. An event holds what an operator needs to understand it, including the full reason of a
 * refusal. It never holds a credential.
 */
import { errorText, PgError } from '../lib/errors.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import { type EventGroup, RefusalSums } from './refusal-sums.ts';

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
  /** How the token came, if not as the password. */
  mechanism?: 'OAUTHBEARER' | 'device';
  /** How long the login waited for somebody to sign in, in ms. */
  waitedMs?: number;
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

/** Levels of the events that can be summed up. */
type Level = 'debug' | 'info' | 'warn' | 'error';

/**
 * Writes the audit events to the log and counts them. Of equal refusals of one address, ten a
 * second are written in full. The others share a line with their `count`. The metrics count each.
 */
export class Audit {
  readonly #log: Log;
  readonly #metrics: Metrics;
  readonly #sums: RefusalSums;
  readonly #logsSessions: () => boolean;

  /** @param logsSessions whether accepted logins and the ends of sessions are logged */
  constructor(log: Log, metrics: Metrics, logsSessions: () => boolean = () => true) {
    this.#log = log;
    this.#metrics = metrics;
    this.#logsSessions = logsSessions;
    this.#sums = new RefusalSums((group, count) =>
      this.#log[levelOf(group)](
        { event: 'login', ...group, count },
        `login ${group.outcome}, more of the same address`,
      ),
    );
  }

  /** A login is accepted and its session begins. `durationMs` is the time that the login took. */
  accepted(login: LoginRecord, durationMs: number): void {
    this.#metrics.login({ outcome: 'accepted', method: login.method, durationMs });
    if (!this.#logsSessions()) return;
    this.#log.info({ event: 'login', outcome: 'accepted', ...login, durationMs }, 'login accepted');
  }

  /** A login is refused. An error that is not a PgError is a bug and is logged with its stack. */
  refused(login: LoginRecord, error: unknown, durationMs: number): void {
    const why = whyRefused(error);
    const { code, fault } = why;
    this.#metrics.login({ outcome: 'refused', method: login.method, code, fault, durationMs });
    this.#write({ outcome: 'refused', code, fault, client: login.client }, login, {
      durationMs,
      ...why,
    });
  }

  /**
   * A client leaves during a login. psql does so regularly: it closes the connection to ask for a
   * password and connects again.
   */
  abandoned(login: LoginRecord, reason: string): void {
    this.#metrics.login({ outcome: 'abandoned', method: login.method });
    this.#write({ outcome: 'abandoned', client: login.client }, login, { reason });
  }

  /** A session has ended. */
  ended(login: LoginRecord, end: SessionEndRecord): void {
    this.#metrics.sessionEnded();
    if (!this.#logsSessions()) return;
    this.#log.info({ event: 'session_end', ...login, ...end }, 'session ended');
  }

  /** Writes the sums of the current second: the process ends. */
  close(): void {
    this.#sums.flush();
  }

  #write(group: EventGroup, login: LoginRecord, more: object): void {
    if (!this.#sums.admits(group)) return;
    const { outcome } = group;
    const event = { event: 'login', outcome, ...login, ...more };
    this.#log[levelOf(group)](event, `login ${outcome}`);
  }
}

function levelOf({ outcome, code, fault }: EventGroup): Level {
  if (outcome === 'abandoned') return 'debug';
  if (code === 'internal_error') return 'error';
  return fault === 'client' ? 'info' : 'warn';
}

function whyRefused(error: unknown) {
  if (error instanceof PgError) {
    const { code, sqlstate, message, detail, fault } = error;
    return { code, sqlstate, message, detail, reason: error.reason ?? message, fault };
  }
  const stack = error instanceof Error ? error.stack : undefined;
  return { code: 'internal_error', reason: errorText(error), stack, fault: 'us' } as const;
}
