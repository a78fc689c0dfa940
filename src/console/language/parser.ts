/**
 * Parses the text of a query into statements. The whole text is parsed before any statement runs,
 * so after a mistake in the third statement the first one has not run either.
 */
import type { Statement } from '../session.ts';
import { type Token, tokenize } from './lexer.ts';
import { notSupported, type Rule, StatementReader } from './reader.ts';

/**
 * First words of the statements of PostgreSQL and CockroachDB that the console does not support, or
 * supports in part. They give a better error message than a syntax error.
 */
const SQL_STATEMENTS: ReadonlySet<string> = new Set(
  (
    'ALTER ANALYZE BACKUP CALL CANCEL CHECKPOINT CLOSE CLUSTER COMMENT COPY CREATE DEALLOCATE ' +
    'DECLARE DELETE DISCARD DO DROP EXECUTE EXPLAIN EXPORT FETCH GRANT IMPORT INSERT LISTEN LOAD ' +
    'LOCK MERGE MOVE NOTIFY PAUSE PREPARE REASSIGN REFRESH REINDEX RELEASE RESTORE RESUME REVOKE ' +
    'SAVEPOINT SCRUB SECURITY SELECT TABLE TRUNCATE UNLISTEN UPDATE UPSERT USE VACUUM VALUES WITH'
  ).split(' '),
);

/**
 * Parses the statements of a query, which semicolons separate. Empty statements are left out.
 *
 * @param rules the grammar; the first rule that matches is used
 * @throws PgError with the position: 42601 for a syntax error, 42704 for an unknown setting, 0A000
 *   for other SQL
 */
export function parseStatements(query: string, rules: readonly Rule[]): readonly Statement[] {
  const statements: Statement[] = [];
  let tokens: Token[] = [];
  for (const token of tokenize(query)) {
    if (token.kind !== 'end' && !(token.kind === 'symbol' && token.text === ';')) {
      tokens.push(token);
      continue;
    }
    if (tokens.length > 0) statements.push(parseStatement(query, tokens, token, rules));
    tokens = [];
  }
  return statements;
}

function parseStatement(
  query: string,
  tokens: readonly Token[],
  last: Token,
  rules: readonly Rule[],
): Statement {
  const reader = new StatementReader(query, tokens, last);
  const first = reader.token;
  const rule = rules.find(({ begins }) => reader.takeWords(begins));
  if (!rule) {
    if (first.kind === 'word' && SQL_STATEMENTS.has(first.text.toUpperCase()))
      throw notSupported(first.text, reader.beginning);
    throw reader.unexpected();
  }
  const statement = rule.parse(reader);
  if (!reader.atEnd) throw reader.unexpected();
  return { ...statement, parameterCount: reader.parameterCount, tokenCount: tokens.length };
}
