/**
 * What can go wrong between the front-end and a backend: the backend is away, breaks the protocol,
 * refuses the user, or refuses the front-end. The client sees a refusal of the user in the
 * backend's own words. Addresses, and how the front-end logs in, are in the log only.
 */
import { errorText, PgError } from '../lib/errors.ts';
import { isErrno } from '../lib/files.ts';
import { formatText } from '../lib/text.ts';
import { addHint, parseErrorFields } from '../wire/messages.ts';

const LOOK_INTO_THE_LOG = 'The cause is in the log of the front-end.';

/** An ErrorResponse of the backend, which the client gets unchanged, and the log cut. */
export class BackendRefusal extends PgError {
  /** The whole ErrorResponse. */
  readonly raw: Buffer;
  /** The server's routine that reported it (manual 54.8, field R). */
  readonly routine: string | undefined;
  /** Whether CockroachDB says that the user may not log in. */
  readonly lacksLogin: boolean;
  readonly #host: string;

  /** @param more for the log, besides the message */
  constructor(raw: Buffer, host: string, more?: string) {
    const { code, message, detail, hint, routine } = parseErrorFields(raw.subarray(5));
    super({
      code: 'backend_refusal',
      sqlstate: code ?? 'XX000',
      // The backend repeats what the client sent.
      message: formatText(message),
      detail: detail === undefined ? undefined : formatText(detail),
      hint: hint === undefined ? undefined : formatText(hint),
      reason: `${host}: ${formatText(message)}${more === undefined ? '' : `; ${more}`}`,
      fault: 'backend',
    });
    this.#host = host;
    this.raw = raw;
    this.routine = routine;
    this.lacksLogin = message.endsWith('does not have login privilege');
  }

  /** The backend's own fields stay, and its hint comes first. */
  override withHint(hint: string, reason: string): BackendRefusal {
    return new BackendRefusal(addHint(this.raw, hint), this.#host, reason);
  }
}

/**
 * 08001: no host could be reached, or none fits `target_session_attrs`. The reasons name the hosts
 * and are for the log. The client sees how many there are.
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

/** 08001 for a login that does not try the hosts, because they just failed with this error. */
export function notTried({ code, message, detail, hint, reason, fault }: PgError): PgError {
  return new PgError({ code, message, detail, hint, reason: `not tried: ${reason}`, fault });
}

/**
 * 53000: this process has no file descriptor left, so no host can be blamed. PostgreSQL says the
 * same of itself (fd.c).
 *
 * @returns undefined for another error
 */
export function outOfDescriptors(host: string, error: unknown): PgError | undefined {
  const causes: readonly unknown[] = error instanceof AggregateError ? error.errors : [error];
  const isOurs = causes.some((cause) => isErrno(cause, 'EMFILE') || isErrno(cause, 'ENFILE'));
  if (!isOurs) return undefined;
  return new PgError({
    code: 'out_of_descriptors',
    message: 'out of file descriptors',
    hint: LOOK_INTO_THE_LOG,
    reason:
      `${host}: ${errorText(error)}: this process may open no more files and sockets: ` +
      'raise ulimit -n, or LimitNOFILE of its unit, to more than twice --max-sessions',
    fault: 'us',
    cause: error,
  });
}

const CONNECTION_LOST = 'backend_lost';

/** 08006: the connection ended before the login did. */
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

/** Whether the error was made by {@link connectionLost}. */
export function isConnectionLost(error: unknown): boolean {
  return error instanceof PgError && error.code === CONNECTION_LOST;
}

/** 08P01: the backend sent what no server sends at this point. */
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
 * 28000: the credential of the front-end was refused, is missing, or was not asked for. The client
 * can do nothing about it.
 */
export function notAdmitted(user: string, reason: string, cause?: unknown): PgError {
  return new PgError({
    code: 'backend_did_not_admit',
    message: `the backend did not admit ${formatText(user)} through this front-end`,
    reason,
    fault: 'us',
    cause,
  });
}

/**
 * Whether a refusal is about how the front-end logs in, and not about the user. 28P01 always is.
 * 28000 is, except for a role that is missing or may not log in: PostgreSQL reports that from
 * InitializeSessionUserId (names of routines are not translated, messages are), and CockroachDB
 * with a text of its own. All other 28000, those of pg_hba.conf above all, are about the front-end.
 */
export function isAboutFrontEnd({ sqlstate, routine, lacksLogin }: BackendRefusal): boolean {
  if (sqlstate === '28P01') return true;
  return sqlstate === '28000' && routine !== 'InitializeSessionUserId' && !lacksLogin;
}

/**
 * The backend ended the TLS handshake because of the front-end's certificate. With TLS 1.3 this
 * shows only at the first read after the handshake.
 */
export class CertificateRefused extends Error {}

/**
 * OpenSSL's names of the alerts with which a server refuses a client's certificate (RFC 8446,
 * section 6.2).
 */
const CERTIFICATE_ALERT =
  /ALERT_(?:BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_|UNKNOWN_CA|ACCESS_DENIED)/;

/** The refusal that an error on a TLS connection, or one of its causes, stands for. */
export function certificateRefusal(host: string, error: unknown): CertificateRefused | undefined {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (!('code' in cause && typeof cause.code === 'string')) continue;
    if (!CERTIFICATE_ALERT.test(cause.code)) continue;
    const alert = cause.code
      .replace(/^.*ALERT_/, '')
      .toLowerCase()
      .replaceAll('_', ' ');
    return new CertificateRefused(
      `${host}: the backend does not accept the certificate: ${alert}`,
      { cause: error },
    );
  }
  return undefined;
}
