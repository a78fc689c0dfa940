/**
 * SELECT … FROM [SHOW …], CockroachDB's way to take columns and rows from a SHOW: names of columns
 * or `*`, and in WHERE comparisons of a column with a value by `=` and LIKE, with AND between them.
 */
import { PgError } from '../../lib/errors.ts';
import { parseBoolean, parseDuration, quote } from '../../settings/values.ts';
import {
  notSupported,
  type ParsedStatement,
  type Rule,
  type StatementReader,
  textOf,
  type Value,
} from '../language/reader.ts';
import { type Cell, type Column, cellText } from '../results.ts';

/** Characters. The time of a match grows with the lengths of text and pattern. */
const PATTERN_LIMIT = 100;

/** A column by its place in the rows of the SHOW. */
interface Place {
  readonly index: number;
  readonly column: Column;
}

interface Condition extends Place {
  readonly by: '=' | 'LIKE';
  readonly value: Value;
}

/** A name in the statement. */
type Name = ReturnType<StatementReader['name']>;

/**
 * Parses what follows SELECT.
 *
 * @param shows the rules of what may stand in brackets, the longest first
 * @throws PgError 0A000 for what is not understood, 42703 for an unknown column; what the rule of
 *   the SHOW throws
 */
export function parseSelectFromShow(
  reader: StatementReader,
  shows: readonly Rule[],
): ParsedStatement {
  const wanted = takeList(reader);
  const source = readSource(reader.brackets(), shows);
  const places = source.columns.map((column, index) => ({ index, column }));
  const find = ({ name, start }: Name): Place => {
    const place = places.find(({ column }) => column.name === name);
    if (!place) throw unknownColumn(name, reader.positionAt(start));
    return place;
  };
  const selected =
    wanted?.map(({ as, ...name }) => {
      const { index, column } = find(name);
      return { index, column: { ...column, name: as ?? column.name } };
    }) ?? places;
  const conditions = takeConditions(reader, find);
  return {
    ...source,
    tag: 'SELECT',
    columns: selected.map(({ column }) => column),
    async run(session, parameters) {
      const { rows = [], ...outcome } = await source.run(session, parameters);
      const tests = conditions.map((condition) => testOf(condition, parameters));
      return {
        ...outcome,
        rows: rows
          .filter((row) => tests.every((test) => test(row)))
          .map((row) => selected.map(({ index }) => row[index])),
      };
    },
  };
}

/** Takes the names and FROM. Undefined for `*`. */
function takeList(
  reader: StatementReader,
): readonly (Name & { readonly as: string | undefined })[] | undefined {
  const names: (Name & { readonly as: string | undefined })[] = [];
  const all = reader.takeSymbol('*');
  while (!all) {
    const name = reader.name();
    names.push({ ...name, as: reader.takeWords('AS') ? reader.name().name : undefined });
    if (!reader.takeSymbol(',')) break;
  }
  if (!reader.takeWords('FROM')) throw notSupported('SELECT', reader.beginning);
  return all ? undefined : names;
}

function readSource(inside: StatementReader, shows: readonly Rule[]): ParsedStatement {
  const source = shows.find(({ begins }) => inside.takeWords(begins))?.parse(inside);
  if (!source || !inside.atEnd) throw inside.unexpected();
  return source;
}

function takeConditions(reader: StatementReader, find: (name: Name) => Place): Condition[] {
  const conditions: Condition[] = [];
  if (!reader.takeWords('WHERE')) return conditions;
  do {
    const place = find(reader.name());
    const by = reader.takeSymbol('=') ? '=' : reader.takeWords('LIKE') ? 'LIKE' : undefined;
    if (!by) throw notSupported('SELECT', reader.beginning);
    conditions.push({ ...place, by, value: reader.value() });
  } while (reader.takeWords('AND'));
  return conditions;
}

/** The test of a row. NULL passes none. */
function testOf(
  { index, column: { type }, by, value }: Condition,
  parameters: readonly string[],
): (row: readonly Cell[]) => boolean {
  const text = textOf(value, parameters);
  const matches = by === '=' ? equals(text, type) : like(text);
  return (row) => {
    const cell = row[index];
    return cell !== undefined && matches(cellText(cell, type));
  };
}

function equals(text: string, type: Column['type']): (cell: string) => boolean {
  const wanted =
    type === 'bool'
      ? cellText(parseBoolean(text), type)
      : type === 'interval'
        ? cellText(parseDuration(text), type)
        : text;
  return (cell) => cell === wanted;
}

/** LIKE (manual 9.7.1): `%` is any text, `_` one character, and `\` takes the next one as it is. */
function like(pattern: string): (cell: string) => boolean {
  if (pattern.length > PATTERN_LIMIT)
    throw new PgError({
      code: 'value_too_long',
      message: `the pattern of LIKE is longer than ${PATTERN_LIMIT} characters`,
    });
  const pieces = pattern.match(/\\[\s\S]|[\s\S]/gu) ?? [];
  return (cell) => matchesPieces([...cell], pieces);
}

/** After a mismatch the last `%` takes one character more. Earlier ones need not be tried again. */
function matchesPieces(text: readonly string[], pieces: readonly string[]): boolean {
  let at = 0;
  let next = 0;
  let retry: { at: number; next: number } | undefined;
  while (at < text.length) {
    const piece = pieces[next];
    if (piece === '%') retry = { at, next: ++next };
    else if (piece === '_' || (piece !== undefined && piece.replace(/^\\/, '') === text[at])) {
      at++;
      next++;
    } else if (retry) {
      retry.at++;
      ({ at, next } = retry);
    } else return false;
  }
  return pieces.slice(next).every((piece) => piece === '%');
}

function unknownColumn(name: string, position: number): PgError {
  return new PgError({
    code: 'unknown_column',
    message: `column ${quote(name)} does not exist`,
    position,
  });
}
