/**
 * Splits the text of a query into tokens, as section 4.1 "Lexical Structure" of the manual says, as
 * far as operators and drivers use it. Other SQL only has to be recognized as such, so every
 * visible ASCII character that begins no other token is a symbol.
 */
import { PgError } from '../../lib/errors.ts';

/** Kinds of tokens. `end` marks the end of the query. */
export type TokenKind = 'word' | 'quoted' | 'string' | 'number' | 'parameter' | 'symbol' | 'end';

/** One token. */
export interface Token {
  readonly kind: TokenKind;
  /** Without quotes and escapes. A word keeps its case. */
  readonly text: string;
  /** Offsets in the query, in UTF-16 units. */
  readonly start: number;
  readonly end: number;
}

const SPACE = /\s+/y;
const LINE_COMMENT = /--[^\n\r]*/y;
const WORD = /[\p{L}_][\p{L}\p{N}\p{M}_$]*/uy;
/** Includes durations such as `15s` and `1m30s`. */
const NUMBER = /(?:\d|\.\d)[\p{L}\p{N}_.]*/uy;
const PARAMETER = /\$(\d{1,5})(?![\p{L}\p{N}_])/uy;
const DOLLAR_TAG = /\$(?:[\p{L}_][\p{L}\p{N}_]*)?\$/uy;
const COMMENT_EDGE = /\/\*|\*\//g;
const SYMBOL = /[!-/:-@[-^`{-~]/y;

/** Escapes of one letter in `E'…'` strings (manual 4.1.2.2). */
const LETTER_ESCAPES: ReadonlyMap<string, string> = new Map([
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);

/**
 * Tokens of a query. The statements that change every setting have about a thousand. A token takes
 * some hundred bytes, so a megabyte of commas would take a hundred.
 */
const TOKEN_LIMIT = 10_000;

/**
 * Splits a query into tokens, in time linear in its length.
 *
 * @throws PgError 42601 with the position, for an unterminated token or an invalid character; 54001
 *   for more than 10,000 tokens
 */
export function tokenize(query: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < query.length) {
    const spaceEnd = endOfSpace(query, at);
    if (spaceEnd !== undefined) {
      at = spaceEnd;
      continue;
    }
    if (tokens.length === TOKEN_LIMIT) throw tooComplex();
    const token = readToken(query, at);
    tokens.push(token);
    at = token.end;
  }
  tokens.push({ kind: 'end', text: '', start: at, end: at });
  return tokens;
}

/** Returns where the white space or comment ends that begins here; undefined if there is none. */
function endOfSpace(query: string, at: number): number | undefined {
  if (query.startsWith('/*', at)) return commentEnd(query, at);
  const space = matchAt(SPACE, query, at) ?? matchAt(LINE_COMMENT, query, at);
  return space && at + space[0].length;
}

function readToken(query: string, start: number): Token {
  const token =
    readQuoted(query, start) ?? readPlain(query, start) ?? readDollarQuoted(query, start);
  if (token) return token;
  if (matchAt(SYMBOL, query, start))
    return { kind: 'symbol', text: query.charAt(start), start, end: start + 1 };
  const character = String.fromCodePoint(query.codePointAt(start) ?? 0);
  throw syntaxError(`syntax error at or near "${character}"`, query, start);
}

/** Reads a string, a string with escapes or a quoted identifier. */
function readQuoted(query: string, start: number): Token | undefined {
  if (query[start] === '"') {
    const end = quoteEnd(query, start, '"', /"/g);
    if (end === undefined) throw syntaxError('unterminated quoted identifier', query, start);
    if (end === start + 1) throw syntaxError('zero-length delimited identifier', query, start);
    const text = query.slice(start + 1, end).replaceAll('""', '"');
    return { kind: 'quoted', text, start, end: end + 1 };
  }
  const hasEscapes = /^e'$/i.test(query.slice(start, start + 2));
  if (!hasEscapes && query[start] !== "'") return undefined;
  const quote = hasEscapes ? start + 1 : start;
  const end = quoteEnd(query, quote, "'", hasEscapes ? /['\\]/g : /'/g);
  if (end === undefined) throw syntaxError('unterminated quoted string', query, start);
  const body = query.slice(quote + 1, end);
  const text = hasEscapes ? readEscapes(body, query, quote + 1) : body.replaceAll("''", "'");
  return { kind: 'string', text, start, end: end + 1 };
}

/** Reads a word, a number or a parameter. */
function readPlain(query: string, start: number): Token | undefined {
  const word = matchAt(WORD, query, start)?.[0];
  if (word !== undefined) return { kind: 'word', text: word, start, end: start + word.length };
  const number = matchAt(NUMBER, query, start)?.[0];
  if (number !== undefined)
    return { kind: 'number', text: number, start, end: start + number.length };
  const parameter = matchAt(PARAMETER, query, start);
  if (!parameter) return undefined;
  const [whole, digits = ''] = parameter;
  return { kind: 'parameter', text: digits, start, end: start + whole.length };
}

/** Reads a dollar-quoted string (manual 4.1.2.4). */
function readDollarQuoted(query: string, start: number): Token | undefined {
  const tag = matchAt(DOLLAR_TAG, query, start)?.[0];
  if (tag === undefined) return undefined;
  const end = query.indexOf(tag, start + tag.length);
  if (end === -1) throw syntaxError('unterminated dollar-quoted string', query, start);
  const text = query.slice(start + tag.length, end);
  return { kind: 'string', text, start, end: end + tag.length };
}

function matchAt(pattern: RegExp, query: string, at: number): RegExpExecArray | undefined {
  pattern.lastIndex = at;
  return pattern.exec(query) ?? undefined;
}

/**
 * Returns where the quote that begins at `start` ends. A doubled quote does not end it, and neither
 * does a quote after a backslash if `special` matches backslashes.
 */
function quoteEnd(
  query: string,
  start: number,
  quote: string,
  special: RegExp,
): number | undefined {
  special.lastIndex = start + 1;
  for (let found = special.exec(query); found; found = special.exec(query)) {
    if (found[0] === quote && query[found.index + 1] !== quote) return found.index;
    special.lastIndex = found.index + 2;
  }
  return undefined;
}

/** Comments nest (manual 4.1.5). */
function commentEnd(query: string, start: number): number {
  let depth = 1;
  COMMENT_EDGE.lastIndex = start + 2;
  for (let edge = COMMENT_EDGE.exec(query); edge; edge = COMMENT_EDGE.exec(query)) {
    depth += edge[0] === '/*' ? 1 : -1;
    if (depth === 0) return COMMENT_EDGE.lastIndex;
  }
  throw syntaxError('unterminated /* comment', query, start);
}

const ESCAPE =
  /''|\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([\s\S]))/g;

function readEscapes(body: string, query: string, start: number): string {
  return body.replace(
    ESCAPE,
    (all, octal?: string, hex?: string, short?: string, long?: string, letter?: string, at = 0) => {
      if (all === "''") return "'";
      if (letter !== undefined) {
        if (/[uUx]/.test(letter))
          throw syntaxError('invalid Unicode or hexadecimal escape', query, start + at);
        return LETTER_ESCAPES.get(letter) ?? letter;
      }
      const byte = octal !== undefined || hex !== undefined;
      const code =
        octal === undefined
          ? Number.parseInt(hex ?? short ?? long ?? '', 16)
          : Number.parseInt(octal, 8);
      // In PostgreSQL \x and octal escapes are bytes. A single byte above 0x7f is not valid UTF-8.
      if (
        code === 0 ||
        code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000) ||
        (byte && code > 0x7f)
      ) {
        throw syntaxError(
          'an escape that is no character; write \\u and four digits',
          query,
          start + at,
        );
      }
      return String.fromCodePoint(code);
    },
  );
}

function tooComplex(): PgError {
  return new PgError({
    code: 'statement_too_complex',
    message: `the query has more than ${TOKEN_LIMIT} tokens`,
    hint: 'Send the statements one by one.',
  });
}

/** Makes a syntax error, 42601. */
export function syntaxError(message: string, query: string, at: number): PgError {
  return new PgError({
    code: 'syntax_error',
    message,
    position: positionOf(query, at),
  });
}

/** Returns the POSITION field of an ErrorResponse: a count of characters, from 1. */
export function positionOf(query: string, at: number): number {
  let position = 1;
  for (let index = 0; index < at; position++)
    index += (query.codePointAt(index) ?? 0) > 0xffff ? 2 : 1;
  return position;
}
