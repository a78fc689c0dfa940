/**
 * What can go wrong with the directory, as errors: it is away or not fit for its task, which is 57P03 and says to try again later, or it
 * refused a change. The client learns which of the two; the cause is in the log.
 */
import pg from 'pg';
import { errorText, PgError } from '../errors.ts';

/**
 * Classes and codes of errors that are about the connection or the moment, and not about the statement (manual, appendix A): connection
 * exceptions, operator intervention (shutdown, statement timeout), insufficient resources, read-only standby, a lock not had in time,
 * a transaction left idle.
 */
const PASSING = /^(?:08...|57...|53...|25006|55P03|25P03)$/;

/** Errors after which the same transaction may succeed: conflicts with another one that was faster. */
const CONFLICTS: ReadonlySet<string> = new Set(['40001', '40P01', '23505', '42710']);

/** The directory cannot be asked, or may not be used as it is: 57P03. */
export function unavailable(reason: string, cause?: unknown): PgError {
  return new PgError({
    code: 'directory_unavailable',
    sqlstate: '57P03',
    message: 'the directory of users and roles is not available',
    hint: 'The cause is in the log of the front-end.',
    reason: `--directory: ${reason}`,
    fault: 'backend',
    cause,
  });
}

/** What the failure of a statement means for the login, for which it tried to do something. */
export function failure(error: unknown, message: string): PgError {
  if (error instanceof PgError) return error;
  if (!(error instanceof pg.DatabaseError) || PASSING.test(error.code ?? '')) return unavailable(describe(error), error);
  return new PgError({
    code: 'directory_refusal',
    sqlstate: '28000',
    message,
    reason: `--directory: ${describe(error)}`,
    fault: 'us',
    cause: error,
  });
}

/** Whether the whole transaction is worth another attempt. PostgreSQL reports a catalog row that changed meanwhile as XX000. */
export function isConflict(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return false;
  return CONFLICTS.has(error.code ?? '') || (error.code === 'XX000' && error.message.startsWith('tuple concurrently'));
}

/** With the SQLSTATE; a failed attempt at several addresses has no text of its own. */
export function describe(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(errorText).join(', ');
  return error instanceof pg.DatabaseError ? `${error.message} (${error.code})` : errorText(error);
}
