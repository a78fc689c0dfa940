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
 * Splits a query into tokens, in time linear in its length.
 *
 * @throws PgError 42601 with the position, for an unterminated token or an invalid character
 */
export function tokenize(query: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(query) ?? undefined;
  };
  const add = (kind: TokenKind, text: string, length: number): void => {
    tokens.push({ kind, text, start: at, end: at + length });
    at += length;
  };
  while (at < query.length) {
    const skipped = match(SPACE) ?? match(LINE_COMMENT);
    if (skipped) {
      at += skipped[0].length;
      continue;
    }
    if (query.startsWith('/*', at)) {
      at = commentEnd(query, at);
      continue;
    }
    const found = nextToken(query, at, match);
    add(found.kind, found.text, found.length);
  }
  tokens.push({ kind: 'end', text: '', start: at, end: at });
  return tokens;
}

interface Found {
  readonly kind: TokenKind;
  readonly text: string;
  readonly length: number;
}

function nextToken(
  query: string,
  at: number,
  match: (pattern: RegExp) => RegExpExecArray | undefined,
): Found {
  const character = query[at];
  if ((character === 'e' || character === 'E') && query[at + 1] === "'") {
    const end = quoteEnd(query, at + 1, "'", /['\\]/g);
    if (end === undefined) throw syntaxError('unterminated quoted string', query, at);
    return {
      kind: 'string',
      text: readEscapes(query.slice(at + 2, end), query, at + 2),
      length: end + 1 - at,
    };
  }
  if (character === "'") {
    const end = quoteEnd(query, at, "'", /'/g);
    if (end === undefined) throw syntaxError('unterminated quoted string', query, at);
    return {
      kind: 'string',
      text: query.slice(at + 1, end).replaceAll("''", "'"),
      length: end + 1 - at,
    };
  }
  if (character === '"') {
    const end = quoteEnd(query, at, '"', /"/g);
    if (end === undefined) throw syntaxError('unterminated quoted identifier', query, at);
    if (end === at + 1) throw syntaxError('zero-length delimited identifier', query, at);
    return {
      kind: 'quoted',
      text: query.slice(at + 1, end).replaceAll('""', '"'),
      length: end + 1 - at,
    };
  }
  const word = match(WORD);
  if (word) return { kind: 'word', text: word[0], length: word[0].length };
  const number = match(NUMBER);
  if (number) return { kind: 'number', text: number[0], length: number[0].length };
  const parameter = match(PARAMETER);
  if (parameter)
    return { kind: 'parameter', text: parameter[1] ?? '', length: parameter[0].length };
  const tag = match(DOLLAR_TAG)?.[0];
  if (tag !== undefined) {
    const end = query.indexOf(tag, at + tag.length);
    if (end === -1) throw syntaxError('unterminated dollar-quoted string', query, at);
    return {
      kind: 'string',
      text: query.slice(at + tag.length, end),
      length: end + tag.length - at,
    };
  }
  const symbol = match(SYMBOL);
  if (symbol) return { kind: 'symbol', text: symbol[0], length: 1 };
  throw syntaxError(
    `syntax error at or near "${String.fromCodePoint(query.codePointAt(at) ?? 0)}"`,
    query,
    at,
  );
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
  return Array.from(query.slice(0, at)).length + 1;
}
