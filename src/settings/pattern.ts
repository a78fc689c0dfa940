/**
 * Regular expressions of the identity map, in Go's RE2 syntax
 * (https://github.com/google/re2/wiki/Syntax). They run on text that a token's owner chose, so they
 * run in linear time; and what they may cost at all is bounded when they are compiled.
 */

import { RE2JS } from 're2js';
import { errorText, PgError } from '../lib/errors.ts';

/**
 * Characters: RE2 unrolls `x{1000}`, so the compiled form can be a hundred times longer than the
 * text.
 */
export const PATTERN_LENGTH_LIMIT = 4096;

/** A compiled expression. */
export interface Pattern {
  readonly groups: number;
  /** Instructions of the program: a match costs about 20 ns for each of them and each character. */
  readonly size: number;
  /**
   * The first capture group of the first match, empty if there is none or it took no part;
   * undefined without a match.
   */
  capture(text: string): string | undefined;
}

/**
 * Compiles an expression that matches without regard to case, and anywhere in a text unless it says
 * otherwise.
 *
 * @throws Error with RE2's own message, in terms of the expression as it was written
 */
export function compilePattern(source: string): Pattern {
  let expression: RE2JS;
  try {
    expression = RE2JS.compile(source, RE2JS.CASE_INSENSITIVE);
  } catch (error) {
    throw plainError(source) ?? error;
  }
  return {
    groups: expression.groupCount(),
    size: expression.programSize(),
    capture(text) {
      const matcher = expression.matcher(text);
      if (!matcher.find()) return undefined;
      return matcher.groupCount() === 0 ? '' : (matcher.group(1) ?? '');
    },
  };
}

/**
 * The error without the flag: some messages quote the expression with the `(?i)` that stands for
 * it.
 */
function plainError(source: string): unknown {
  try {
    RE2JS.compile(source);
    return undefined;
  } catch (error) {
    return error;
  }
}

/**
 * What was probably meant, for the error of a reversed range such as the published `[9-0]`;
 * undefined for other errors.
 */
export function suggestRange(error: unknown): string | undefined {
  const [, from, to] =
    /^error parsing regexp: invalid character class range: `(.)-(.)`$/su.exec(errorText(error)) ??
    [];
  return from === undefined || to === undefined
    ? undefined
    : `a range begins with its lower end: ${to}-${from} was probably meant`;
}

/**
 * One piece of an expression: an escape, `\Q…\E`, a character class, the opening of a group with
 * its flags, or a character. The sub-patterns exclude each other by their first characters, so the
 * scan is linear.
 */
const PIECE =
  /\\Q[\s\S]*?(?:\\E|$)|\\[\s\S]|\[\^?\]?(?:\\[\s\S]|\[:\^?[a-z]+:\]|[^\]\\])*\]|\(\?[a-zA-Z-]+\)|\(\?P?<\w+>|\(\?[a-zA-Z-]*:|[\s\S]/gu;

/**
 * Pieces that stand for nothing: a repetition behind one belongs to what is before it, so that
 * `^(?i)*` makes the anchor optional.
 */
const NOTHING = /^(?:\(\?[a-zA-Z-]+\)|\\Q(?:\\E)?|\\E)$/;

/**
 * Whether every match must reach from the beginning of the text to its end. It looks at the written
 * form: each alternative at the top must begin with `^` or `\A` and end with `$` or `\z`. An
 * expression that is anchored in a harder way counts as not anchored; one that is not is never
 * taken for anchored.
 */
export function isAnchored(source: string): boolean {
  const pieces = source.match(PIECE) ?? [];
  // With the flag m the anchors match at line ends, too.
  if (pieces.some((piece) => /^\(\?[a-zA-Z]*m/.test(piece))) return false;
  const branches: string[][] = [[]];
  let depth = 0;
  for (const piece of pieces) {
    if (NOTHING.test(piece)) continue;
    if (piece.startsWith('(')) depth += 1;
    if (piece === ')') depth -= 1;
    if (piece === '|' && depth === 0) branches.push([]);
    else branches.at(-1)?.push(piece);
  }
  return branches.every((branch) => begins(branch) && ends(branch));
}

function begins([first, second]: readonly string[]): boolean {
  const optional = second !== undefined && /^[?*{]/.test(second);
  return (first === '^' || first === '\\A') && !optional;
}

function ends(branch: readonly string[]): boolean {
  const last = branch.at(-1);
  return last === '$' || last === '\\z';
}

/*
 * Which names may be created at a first login: a regular expression of the same syntax and with the
 * same bounds as in the maps.
 */

/** The compiled setting. */
export interface ProvisioningPattern {
  /** The expression as it was written. */
  readonly source: string;
  /** Whether a user of that name may be created. */
  allows(user: string): boolean;
}

/** Instructions: a name has at most 63 bytes, so that a match stays within some milliseconds. */
const PROGRAM_LIMIT = 10_000;

/**
 * The pattern of the setting's text; undefined when it is empty, and every name may be created.
 *
 * @throws PgError 22023 with the expression's own error
 */
export function parseProvisioningPattern(text: string): ProvisioningPattern | undefined {
  const source = text.trim();
  if (source === '') return undefined;
  if (source.length > PATTERN_LENGTH_LIMIT)
    throw invalid(`the expression is longer than ${PATTERN_LENGTH_LIMIT} characters`);
  try {
    const pattern = compilePattern(source);
    if (pattern.size > PROGRAM_LIMIT)
      throw new Error('the expression is too large to be matched at each login');
    return Object.freeze({ source, allows: (user: string) => pattern.capture(user) !== undefined });
  } catch (error) {
    throw invalid(errorText(error), suggestRange(error));
  }
}

function invalid(message: string, hint?: string): PgError {
  return new PgError({ code: 'invalid_setting_value', message, hint });
}
