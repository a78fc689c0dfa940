/**
 * The one error that may reach a client, and nothing else does. It keeps apart what the client may
 * see (message, detail, hint) and what only the log learns (reason), and says whose fault it was,
 * so that a graph of refusals separates an attack from an outage.
 */
import { type ErrorCode, errorCodes } from './error-codes.ts';

/** Whose doing an error is: shown in the log and the metrics, never to the client. */
export type Fault = 'client' | 'backend' | 'identity provider' | 'us';

/** What a {@link PgError} is made of. */
export interface PgErrorFields {
  /** Stable name of the error in log and metrics. */
  readonly code: ErrorCode;
  /** Where it is not the one of the catalogue. */
  readonly sqlstate?: string;
  /** The primary message, for the client. */
  readonly message: string;
  /** The DETAIL field, for the client: repeats at most what it sent itself. */
  readonly detail?: string | undefined;
  /** The HINT field, for the client. */
  readonly hint?: string | undefined;
  /** The POSITION field: where in the text of a statement, in characters from 1. */
  readonly position?: number | undefined;
  /** The whole truth, for the log only. Holds no token, password or key. */
  readonly reason?: string | undefined;
  /** Default `client`. */
  readonly fault?: Fault;
  /** The error underneath. */
  readonly cause?: unknown;
}

/** An error with a SQLSTATE; sent as ErrorResponse, with severity FATAL during a login. */
export class PgError extends Error {
  readonly code: ErrorCode;
  readonly sqlstate: string;
  readonly detail: string | undefined;
  readonly hint: string | undefined;
  readonly position: number | undefined;
  readonly reason: string | undefined;
  readonly fault: Fault;

  constructor(fields: PgErrorFields) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = 'PgError';
    this.code = fields.code;
    this.sqlstate = fields.sqlstate ?? errorCodes[fields.code];
    this.detail = fields.detail;
    this.hint = fields.hint;
    this.position = fields.position;
    this.reason = fields.reason;
    this.fault = fields.fault ?? 'client';
  }

  /** The same error with one more hint for the client, and one more reason for the log. */
  withHint(hint: string, reason: string): PgError {
    return new PgError({
      ...this,
      message: this.message,
      hint: join(this.hint, ' ', hint),
      reason: join(this.reason ?? this.message, '; ', reason),
      cause: this.cause,
    });
  }
}

/** One text behind another, if there is another. */
function join(first: string | undefined, between: string, second: string): string {
  return first === undefined ? second : first + between + second;
}

/**
 * A value on the command line or in the environment that can be seen to be wrong without trying it;
 * the message names the option.
 */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/**
 * The text of anything that was thrown, for a log or a one-line error. Several addresses of one
 * name fail as one error without a text.
 */
export function errorText(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(errorText).join(', ');
  return error instanceof Error ? error.message : String(error);
}
