/**
 * Runs the statements of a simple query and encodes their replies, for both query protocols: rows,
 * warnings and the command tag, or an error.
 */
import { errorText, PgError } from '../../lib/errors.ts';
import { errorResponse, noticeResponse } from '../../wire/messages.ts';
import {
  commandComplete,
  dataRow,
  emptyQueryResponse,
  rowDescription,
} from '../../wire/query-messages.ts';
import { type Column, encodeCell, type Format, typeOf } from '../results.ts';
import type { ConsoleSession, Outcome, Statement } from '../session.ts';

/**
 * Runs the statements of a simple query, up to the first that fails.
 *
 * @param write sends the reply of one statement, without ReadyForQuery. Replies are not collected,
 *   since all of them together could have any size.
 * @throws what `write` throws
 */
export async function runStatements(
  statements: readonly Statement[],
  session: ConsoleSession,
  write: (reply: Buffer) => Promise<void>,
): Promise<void> {
  if (statements.length === 0) await write(emptyQueryResponse);
  for (const statement of statements) {
    const reply = await replyTo(statement, session);
    await write(reply.bytes);
    if (reply.failed) return;
  }
}

async function replyTo(
  statement: Statement,
  session: ConsoleSession,
): Promise<{ bytes: Buffer; failed: boolean }> {
  const { columns } = statement;
  try {
    const outcome = await session.execute(statement, []);
    const description = columns.length > 0 ? [describeColumns(columns, () => 0)] : [];
    const rows = encodeRows(columns, outcome, () => 0);
    return {
      bytes: Buffer.concat([...description, ...rows, ...encodeEnd(statement, outcome)]),
      failed: false,
    };
  } catch (error) {
    return { bytes: errorReply(error, session), failed: true };
  }
}

/** Encodes RowDescription. */
export function describeColumns(
  columns: readonly Column[],
  formatOf: (index: number) => Format,
): Buffer {
  return rowDescription(
    columns.map((column, index) => ({
      name: column.name,
      ...typeOf(column),
      format: formatOf(index),
    })),
  );
}

/** Encodes a DataRow for each row. */
export function encodeRows(
  columns: readonly Column[],
  { rows = [] }: Outcome,
  formatOf: (index: number) => Format,
): Buffer[] {
  return rows.map((row) =>
    dataRow(columns.map((column, index) => encodeCell(row[index], column, formatOf(index)))),
  );
}

/** Encodes the notices and warnings, and CommandComplete. */
export function encodeEnd(
  statement: Statement,
  { rows = [], notices = [], warnings = [], tag = statement.tag }: Outcome,
): Buffer[] {
  return [
    ...notices.map((text) => noticeResponse('NOTICE', text)),
    ...warnings.map((text) => noticeResponse('WARNING', text)),
    commandComplete(tag === 'SELECT' ? `SELECT ${rows.length}` : tag),
  ];
}

/**
 * Encodes the ErrorResponse for a thrown value and logs it. Anything other than a PgError is a bug
 * and is logged with its stack.
 */
export function errorReply(
  error: unknown,
  { log, operator: { name: user, client } }: ConsoleSession,
): Buffer {
  if (error instanceof PgError) {
    const { code, sqlstate, reason, fault } = error;
    // The message is left out: it quotes the statement, which may contain a token.
    log[fault === 'client' ? 'debug' : 'warn'](
      { event: 'console', user, client, code, sqlstate, reason, fault },
      'statement failed',
    );
    return errorResponse(error, 'ERROR');
  }
  const stack = error instanceof Error ? error.stack : undefined;
  log.error(
    { event: 'console', user, client, reason: errorText(error), stack, fault: 'us' },
    'statement failed',
  );
  return errorResponse(
    new PgError({
      code: 'internal_error',
      message: 'internal error of the front-end',
      fault: 'us',
    }),
    'ERROR',
  );
}
