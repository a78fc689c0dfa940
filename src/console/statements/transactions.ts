/**
 * BEGIN, COMMIT and ROLLBACK, with which many drivers wrap every statement. COMMIT applies all
 * changes of settings in the transaction or none.
 */
import type { ParsedStatement, Rule, StatementReader } from '../language/reader.ts';
import type { Statement } from '../session.ts';

/**
 * The modes of a transaction (manual, BEGIN). They have no effect, since the store makes changes
 * one after the other.
 */
const MODES = [
  'ISOLATION LEVEL SERIALIZABLE',
  'ISOLATION LEVEL REPEATABLE READ',
  'ISOLATION LEVEL READ COMMITTED',
  'ISOLATION LEVEL READ UNCOMMITTED',
  'READ WRITE',
  'READ ONLY',
  'DEFERRABLE',
  'NOT DEFERRABLE',
];

/** Skips the modes of a transaction. */
export function skipModes(reader: StatementReader): void {
  while (reader.takeOneOf(MODES) !== undefined) reader.takeSymbol(',');
}

/** BEGIN, COMMIT, ROLLBACK and their other spellings. */
export const transactionRules: readonly Rule[] = [
  begin('BEGIN', 'BEGIN'),
  begin('START TRANSACTION', 'START TRANSACTION'),
  commit('COMMIT'),
  commit('END'),
  rollback('ROLLBACK'),
  rollback('ABORT'),
];

function begin(begins: string, tag: string): Rule {
  return {
    begins,
    parse(reader) {
      reader.takeOneOf(['TRANSACTION', 'WORK']);
      skipModes(reader);
      return statement(tag, (session) =>
        session.begin() ? {} : { warnings: ['there is already a transaction in progress'] },
      );
    },
  };
}

const noTransaction = { warnings: ['there is no transaction in progress'] };

function commit(begins: string): Rule {
  return {
    begins,
    parse(reader) {
      reader.takeOneOf(['TRANSACTION', 'WORK']);
      return statement(
        'COMMIT',
        async (session) => {
          if (session.status === 'I') return noTransaction;
          // A failed transaction is rolled back, which the tag tells the client.
          return (await session.commit()) ?? { tag: 'ROLLBACK' };
        },
        true,
      );
    },
  };
}

function rollback(begins: string): Rule {
  return {
    begins,
    parse(reader) {
      reader.takeOneOf(['TRANSACTION', 'WORK']);
      return statement('ROLLBACK', (session) => (session.rollback() ? {} : noTransaction), true);
    },
  };
}

function statement(tag: string, run: Statement['run'], ends = false): ParsedStatement {
  return { tag, columns: [], requires: undefined, run, ...(ends && { endsTransaction: true }) };
}
