/**
 * SET, SHOW and RESET of session variables, and the statements with which drivers and pools clean
 * up a connection.
 */
import { PgError } from '../../lib/errors.ts';
import { formatText } from '../../lib/text.ts';
import {
  type ParsedStatement,
  type Rule,
  type StatementReader,
  textOf,
} from '../language/reader.ts';
import { textColumns } from '../results.ts';
import type { Statement } from '../session.ts';
import { skipModes } from './transactions.ts';

function statement(tag: string, run: Statement['run']): ParsedStatement {
  return { tag, columns: [], requires: undefined, run };
}

function variableName(reader: StatementReader): string {
  if (reader.takeWords('TIME ZONE')) return 'timezone';
  if (reader.takeWords('NAMES')) return 'client_encoding';
  if (reader.takeWords('TRANSACTION ISOLATION LEVEL')) return 'transaction_isolation';
  if (reader.takeWords('SESSION AUTHORIZATION')) return 'session_authorization';
  return reader.name().name;
}

const setVariable: Rule = {
  begins: 'SET',
  parse(reader) {
    const nothing = statement('SET', () => ({}));
    if (reader.takeOneOf(['SESSION CHARACTERISTICS AS TRANSACTION', 'TRANSACTION']) !== undefined) {
      skipModes(reader);
      return nothing;
    }
    reader.takeOneOf(['SESSION', 'LOCAL']);
    const first = reader.token.text.toUpperCase();
    const name = variableName(reader);
    // SET TIME ZONE and SET NAMES have no equals sign.
    if (first !== 'TIME' && first !== 'NAMES') reader.equals();
    if (reader.takeWords('DEFAULT')) return statement('SET', reset(name));
    const values = [reader.value()];
    while (reader.takeSymbol(',')) values.push(reader.value());
    return statement('SET', ({ variables }, parameters) => {
      variables.set(name, values.map((value) => textOf(value, parameters)).join(', '));
      return {};
    });
  },
};

const showVariable: Rule = {
  begins: 'SHOW',
  parse(reader) {
    const name = variableName(reader);
    return {
      tag: 'SHOW',
      columns: textColumns(name),
      requires: undefined,
      run: ({ variables }) => ({ rows: [[variables.get(name)]] }),
    };
  },
};

const resetVariable: Rule = {
  begins: 'RESET',
  parse(reader) {
    if (reader.takeWords('ALL')) {
      return statement('RESET', ({ variables }) => {
        variables.resetAll();
        return {};
      });
    }
    return statement('RESET', reset(variableName(reader)));
  },
};

const discardAll: Rule = {
  begins: 'DISCARD ALL',
  parse: () =>
    statement('DISCARD ALL', (session) => {
      if (session.status !== 'I') throw inTransaction('DISCARD ALL');
      session.variables.resetAll();
      session.prepared.clear();
      return {};
    }),
};

const deallocate: Rule = {
  begins: 'DEALLOCATE',
  parse(reader) {
    reader.takeWords('PREPARE');
    const all = reader.takeWords('ALL');
    const name = all ? '' : reader.name().name;
    return statement(all ? 'DEALLOCATE ALL' : 'DEALLOCATE', ({ prepared }) => {
      if (all) prepared.clear();
      else if (!prepared.delete(name)) throw noSuchStatement(name);
      return {};
    });
  },
};

/**
 * Statements of pools that have no effect, since there are no cursors and notification channels.
 */
const nothingToDo: readonly Rule[] = [
  { begins: 'CLOSE ALL', parse: () => statement('CLOSE CURSOR ALL', () => ({})) },
  {
    begins: 'UNLISTEN',
    parse(reader) {
      if (!reader.takeSymbol('*')) reader.name();
      return statement('UNLISTEN', () => ({}));
    },
  },
];

/** The statements about session variables and prepared statements. */
export const variableRules: readonly Rule[] = [
  setVariable,
  showVariable,
  resetVariable,
  discardAll,
  deallocate,
  ...nothingToDo,
];

function reset(name: string): Statement['run'] {
  return ({ variables }) => {
    variables.reset(name);
    return {};
  };
}

function inTransaction(what: string): PgError {
  return new PgError({
    code: 'active_transaction',
    message: `${what} cannot run inside a transaction block`,
  });
}

/** Makes the error for an unknown prepared statement, 26000. */
export function noSuchStatement(name: string): PgError {
  return new PgError({
    code: 'unknown_statement',
    message: `prepared statement "${formatText(name)}" does not exist`,
  });
}
