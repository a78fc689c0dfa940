/**
 * What can go wrong on the leg to the backend, as errors: the backend is away, breaks the protocol,
 * refuses the user, or refuses the front-end. Only the last but one is shown to the client in the
 * backend's own words; addresses and the front-end's own way of logging in are the operator's
 * business and stay in the log.
 */
import { errorText, PgError } from '../lib/errors.ts';
import { parseErrorFields } from '../wire/messages.ts';

const LOOK_INTO_THE_LOG = 'The cause is in the log of the front-end.';

/** A refusal in the backend's own words, to be forwarded to the byte. */
export class BackendRefusal extends PgError {
  /** The ErrorResponse, whole. */
  readonly raw: Buffer;
  /** Its fields, code letter → text (manual 54.8). */
  readonly fields: ReadonlyMap<string, string>;

  constructor(raw: Buffer, host: string) {
    const fields = parseErrorFields(raw.subarray(5));
    const message = fields.get('M') ?? '';
    super({
      code: 'backend_refusal',
      sqlstate: fields.get('C') ?? 'XX000',
      message,
      detail: fields.get('D'),
      hint: fields.get('H'),
      reason: `${host}: ${message}`,
      fault: 'backend',
    });
    this.raw = raw;
    this.fields = fields;
  }
}

/**
 * No host could be reached, or none is as it should be: 08001. Which ones there are is for the log;
 * the client learns how many.
 */
export function unreachable(reasons: readonly string[], hosts: number, cause: unknown): PgError {
  return new PgError({
    code: 'backend_unreachable',
    message: 'could not connect to the backend',
    detail: hosts === 1 ? undefined : `None of its ${hosts} hosts can be used.`,
    hint: LOOK_INTO_THE_LOG,
    reason: reasons.join('; '),
    fault: 'backend',
    cause,
  });
}

const CONNECTION_LOST = 'backend_lost';

/** The connection ended before the login did: 08006. */
export function connectionLost(host: string, cause?: unknown): PgError {
  return new PgError({
    code: CONNECTION_LOST,
    message: 'the backend ended the connection during the login',
    hint: LOOK_INTO_THE_LOG,
    reason: `${host}: ${cause === undefined ? 'the connection was closed' : errorText(cause)}`,
    fault: 'backend',
    cause,
  });
}

/** Whether the error is one of {@link connectionLost}. */
export function isConnectionLost(error: unknown): boolean {
  return error instanceof PgError && error.code === CONNECTION_LOST;
}

/** The backend sent what no server sends at this point: 08P01. */
export function protocolViolation(host: string, reason: string, cause?: unknown): PgError {
  return new PgError({
    code: 'backend_protocol_violation',
    message: 'the backend did not follow the protocol',
    hint: LOOK_INTO_THE_LOG,
    reason: `${host}: ${reason}`,
    fault: 'backend',
    cause,
  });
}

/**
 * The front-end's own credential was not accepted, is missing, or was not asked for: 28000, nothing
 * of which the client can mend.
 */
export function notAdmitted(user: string, reason: string, cause?: unknown): PgError {
  return new PgError({
    code: 'backend_did_not_admit',
    message: `the backend did not admit ${user} through this front-end`,
    reason,
    fault: 'us',
    cause,
  });
}

/**
 * Whether a refusal is about how the front-end logs in, and not about the user that it logs in as.
 * 28P01 always is. Of those with 28000, PostgreSQL reports a role that is missing or may not log in
 * from InitializeSessionUserId, and CockroachDB with a text of its own; all others, pg_hba's first
 * of all, are about the front-end (routine names are not translated, messages are).
 */
export function isAboutFrontEnd({ sqlstate, fields, message }: BackendRefusal): boolean {
  if (sqlstate === '28P01') return true;
  return (
    sqlstate === '28000' &&
    fields.get('R') !== 'InitializeSessionUserId' &&
    !message.endsWith('does not have login privilege')
  );
}
