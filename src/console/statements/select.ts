/**
 * The SELECTs that drivers and pools send on their own: to test the connection, to ask for the user
 * or the version, and to read the array types. Any other SELECT is refused.
 */
import { CONSOLE_DATABASE } from '../../session/console-access.ts';
import { notSupported, type Rule, type StatementReader } from '../language/reader.ts';
import type { Cell, Column } from '../results.ts';
import type { ConsoleSession } from '../session.ts';
import { SERVER_VERSION } from '../variables.ts';

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
  { words: 'PG_IS_IN_RECOVERY', call: true, type: 'text', value: () => 'f' },
  { words: 'PG_ADVISORY_UNLOCK_ALL', call: true, type: 'text', value: () => '' },
];

/** The driver `postgres` (Node.js) reads the array types when it connects. There are none here. */
const ARRAY_TYPES =
  'b.oid, b.typarray from pg_catalog.pg_type a ' +
  'left join pg_catalog.pg_type b on b.oid = a.typelem ' +
  "where a.typcategory = 'A' group by b.oid, b.typarray order by b.oid";

const arrayTypes: readonly Column[] = [
  { name: 'oid', type: 'oid' },
  { name: 'typarray', type: 'oid' },
];

const select: Rule = {
  begins: 'SELECT',
  parse(reader) {
    const statement = reader.takeAll(ARRAY_TYPES) ? row(arrayTypes) : parseExpression(reader);
    if (!statement || !reader.atEnd) throw notSupported('SELECT', reader.beginning);
    return statement;
  },
};

/** The SELECTs that are supported. */
export const selectRules: readonly Rule[] = [select];

function parseExpression(reader: StatementReader): ReturnType<Rule['parse']> | undefined {
  const number = reader.takeNumber();
  if (number !== undefined) {
    return /^\d{1,9}$/.test(number)
      ? row([{ name: alias(reader) ?? '?column?', type: 'int4' }], () => Number(number))
      : undefined;
  }
  const found = known.find(({ words }) => reader.takeWords(words));
  if (!found || (found.call && !(reader.takeSymbol('(') && reader.takeSymbol(')'))))
    return undefined;
  return row([{ name: alias(reader) ?? found.words.toLowerCase(), type: found.type }], found.value);
}

function alias(reader: StatementReader): string | undefined {
  return reader.takeWords('AS') ? reader.name().name : undefined;
}

function row(
  columns: readonly Column[],
  value?: (session: ConsoleSession) => Cell,
): ReturnType<Rule['parse']> {
  return {
    tag: 'SELECT',
    columns,
    requires: undefined,
    run: (session) => ({ rows: value ? [[value(session)]] : [] }),
  };
}
