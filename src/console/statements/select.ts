/**
 * SELECT: of what SHOW shows, and what drivers and pools send on their own: to test the connection,
 * to ask for the user or the version, and the questions of known-questions.ts. Any other SELECT is
 * refused.
 */
import { CONSOLE_DATABASE } from '../../session/console-access.ts';
import {
  notSupported,
  type ParsedStatement,
  type Rule,
  type StatementReader,
} from '../language/reader.ts';
import type { Cell, Column } from '../results.ts';
import type { ConsoleSession } from '../session.ts';
import { SERVER_VERSION } from '../variables.ts';
import { takeKnownQuestion } from './known-questions.ts';
import { parseSelectFromShow } from './select-from-show.ts';

/** A function or keyword without arguments that can be selected. */
interface Known {
  readonly words: string;
  /** Whether it is written with parentheses. */
  readonly call: boolean;
  readonly type: Column['type'];
  value(session: ConsoleSession): Cell;
}

const known: readonly Known[] = [
  {
    words: 'VERSION',
    call: true,
    type: 'text',
    value: ({ services }) => `PostgreSQL ${SERVER_VERSION} (pgsso ${services.version})`,
  },
  { words: 'CURRENT_USER', call: false, type: 'text', value: ({ operator }) => operator.name },
  { words: 'SESSION_USER', call: false, type: 'text', value: ({ operator }) => operator.name },
  { words: 'CURRENT_DATABASE', call: true, type: 'text', value: () => CONSOLE_DATABASE },
  { words: 'CURRENT_SCHEMA', call: true, type: 'text', value: () => 'public' },
  { words: 'PG_IS_IN_RECOVERY', call: true, type: 'bool', value: () => false },
  { words: 'PG_ADVISORY_UNLOCK_ALL', call: true, type: 'text', value: () => '' },
];

/**
 * SELECT.
 *
 * @param shows the rules of what may stand in brackets, the longest first
 */
export function selectRule(shows: readonly Rule[]): Rule {
  return {
    begins: 'SELECT',
    help: {
      syntax: "SELECT * | columns FROM [SHOW …] [WHERE column = 'text' | LIKE 'pattern' [AND …]]",
      does: 'some of the columns and rows of a SHOW, which stands in brackets',
    },
    parse(reader) {
      const statement = reader.contains('FROM', '[')
        ? parseSelectFromShow(reader, shows)
        : (takeKnownQuestion(reader) ?? parseExpressions(reader));
      if (!statement || !reader.atEnd) throw notSupported('SELECT', reader.beginning);
      return statement;
    },
  };
}

/** An expression, which is a column of the only row. */
interface Expression {
  readonly column: Column;
  value(session: ConsoleSession): Cell;
}

function parseExpressions(reader: StatementReader): ParsedStatement | undefined {
  const expressions: Expression[] = [];
  do {
    const expression = parseExpression(reader);
    if (!expression) return undefined;
    expressions.push(expression);
  } while (reader.takeSymbol(','));
  return {
    tag: 'SELECT',
    columns: expressions.map(({ column }) => column),
    requires: undefined,
    run: (session) => ({ rows: [expressions.map(({ value }) => value(session))] }),
  };
}

function parseExpression(reader: StatementReader): Expression | undefined {
  const number = reader.takeNumber();
  if (number !== undefined) {
    return /^\d{1,9}$/.test(number)
      ? {
          column: { name: alias(reader) ?? '?column?', type: 'int4' },
          value: () => Number(number),
        }
      : undefined;
  }
  if (reader.takeWords('PG_CATALOG') && !reader.takeSymbol('.')) return undefined;
  const found = known.find(({ words }) => reader.takeWords(words));
  if (!found || (found.call && !(reader.takeSymbol('(') && reader.takeSymbol(')'))))
    return undefined;
  const name = alias(reader) ?? found.words.toLowerCase();
  return { column: { name, type: found.type }, value: found.value };
}

function alias(reader: StatementReader): string | undefined {
  return reader.takeWords('AS') ? reader.name().name : undefined;
}
