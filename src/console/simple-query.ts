/** The simple protocol: a text with any number of statements. All are read before the first one runs; the first that fails is the last. */
import { warningResponse } from '../protocol/messages.ts';
import { commandComplete, dataRow, emptyQueryResponse, rowDescription } from '../protocol/query-messages.ts';
import type { ConsoleSession } from './console-session.ts';
import { parseQueryText } from './parser.ts';
import { errorReply } from './protocol-server.ts';
import { type Column, encodeCell, type Format, typeOf } from './results.ts';
import type { Outcome, Statement } from './statement.ts';

/**
 * Runs the text.
 *
 * @returns the replies without ReadyForQuery
 * @throws PgError for a text that is not understood
 */
export async function runQuery(text: string, session: ConsoleSession): Promise<Buffer> {
  const statements = parseQueryText(text);
  const replies: Buffer[] = statements.length === 0 ? [emptyQueryResponse] : [];
  for (const statement of statements) {
    try {
      const outcome = await session.execute(statement, []);
      if (statement.columns.length > 0) replies.push(describeColumns(statement.columns, () => 0));
      replies.push(...encodeRows(statement.columns, outcome, () => 0), ...encodeEnd(statement, outcome));
    } catch (error) {
      replies.push(errorReply(error, session));
      break;
    }
  }
  return Buffer.concat(replies);
}

/** RowDescription of the columns in their formats. */
export function describeColumns(columns: readonly Column[], formatOf: (index: number) => Format): Buffer {
  return rowDescription(columns.map((column, index) => ({ name: column.name, ...typeOf(column), format: formatOf(index) })));
}

/** A DataRow for each row. */
export function encodeRows(columns: readonly Column[], { rows = [] }: Outcome, formatOf: (index: number) => Format): Buffer[] {
  return rows.map((row) => dataRow(columns.map((column, index) => encodeCell(row[index], column, formatOf(index)))));
}

/** The warnings and CommandComplete. */
export function encodeEnd(statement: Statement, { rows = [], warnings = [], tag = statement.tag }: Outcome): Buffer[] {
  return [...warnings.map(warningResponse), commandComplete(tag === 'SELECT' ? `SELECT ${rows.length}` : tag)];
}
