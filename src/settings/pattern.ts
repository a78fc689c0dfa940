/**
 * Regular expressions of the maps and of the provisioning pattern, in RE2's syntax
 * (https://github.com/google/re2/wiki/Syntax). They are matched with text that the owner of a token
 * chose, so a match takes linear time, and the size of an expression is bounded when it is set.
 */

import { RE2JS } from 're2js';
import { errorText } from '../lib/errors.ts';
import { invalidSetting } from './values.ts';

/**
 * Characters. RE2 unrolls `x{1000}`, so the compiled form can be a hundred times longer than the
 * text.
 */
export const PATTERN_LENGTH_LIMIT = 4096;

/** Instructions. A name has at most 63 bytes, so a match stays within some milliseconds. */
const PROVISIONING_SIZE_LIMIT = 10_000;

/** A compiled expression. */
export interface Pattern {
  /** The number of capture groups. */
  readonly groups: number;
  /** Instructions of the program. A match takes about 20 ns for each of them and each character. */
  readonly size: number;
  /**
   * The first capture group of the first match; empty if there is no such group or it took no part
   * in the match. Undefined without a match.
   */
  capture(text: string): string | undefined;
}

/** Which users may be created at their first login. */
export interface ProvisioningPattern {
  /** The expression as it was written. */
  readonly source: string;
  /** Whether a user of that name may be created. */
  allows(user: string): boolean;
}

/**
 * Compiles an expression. It matches anywhere in a text unless it is anchored.
 *
 * @throws Error with RE2's message, which quotes the expression as it was written
 */
export function compilePattern(
  source: string,
  letters: 'any case' | 'exact case' = 'any case',
): Pattern {
  let expression: RE2JS;
  try {
    expression = RE2JS.compile(source, letters === 'any case' ? RE2JS.CASE_INSENSITIVE : 0);
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
 * Parses the provisioning pattern. Undefined for the empty text, with which every name may be
 * created.
 *
 * @throws PgError 22023 with the expression's own error
 */
export function parseProvisioningPattern(text: string): ProvisioningPattern | undefined {
  const source = text.trim();
  if (source === '') return undefined;
  if (source.length > PATTERN_LENGTH_LIMIT)
    throw invalidSetting(`the expression is longer than ${PATTERN_LENGTH_LIMIT} characters`);
  try {
    const pattern = compilePattern(source);
    if (pattern.size > PROVISIONING_SIZE_LIMIT)
      throw new Error('the expression is too large to be matched at each login');
    return Object.freeze({ source, allows: (user: string) => pattern.capture(user) !== undefined });
  } catch (error) {
    throw invalidSetting(errorText(error), suggestRange(error));
  }
}

/**
 * A hint for the error of a reversed range, such as the `[9-0]` of published examples; undefined
 * for other errors.
 */
export function suggestRange(error: unknown): string | undefined {
  const [, from, to] =
    /^error parsing regexp: invalid character class range: `(.)-(.)`$/su.exec(errorText(error)) ??
    [];
  return from === undefined || to === undefined
    ? undefined
    : `a range begins with its lower end: ${to}-${from} was probably meant`;
}

/** A quotation, `\Q…\E`; the end may be missing. */
const QUOTATION = String.raw`\\Q[\s\S]*?(?:\\E|$)`;

/** A character class, `[…]`. */
const CHARACTER_CLASS = String.raw`\[\^?\]?(?:\\[\s\S]|\[:\^?[a-z]+:\]|[^\]\\])*\]`;

/** Flags, which may be none, and the openings of a group with a name and of one with flags. */
const GROUP = String.raw`\(\?[a-zA-Z-]*\)|\(\?P?<\w+>|\(\?[a-zA-Z-]*:`;

/**
 * One piece of an expression: a quotation, an escape, a character class, flags, the opening of a
 * group, or a character. The alternatives differ in their first characters, so the scan is linear.
 */
const PIECE = new RegExp(
  String.raw`${QUOTATION}|\\[\s\S]|${CHARACTER_CLASS}|${GROUP}|[\s\S]`,
  'gu',
);

/**
 * Pieces that match nothing. A repetition behind such a piece applies to the piece before it, so
 * that `^(?i)*` makes the anchor optional.
 */
const NOTHING = /^(?:\(\?[a-zA-Z-]*\)|\\Q(?:\\E)?|\\E)$/;

/**
 * Whether every match reaches from the beginning of the text to its end. The check looks at the
 * written form: each alternative at the top level must begin with `^` or `\A` and end with `$` or
 * `\z`. An expression that is anchored in another way counts as not anchored. An expression that is
 * not anchored never counts as anchored.
 */
export function isAnchored(source: string): boolean {
  const pieces = source.match(PIECE) ?? [];
  // With the flag m the anchors also match at line ends.
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
  return branches.every((branch) => beginsWithAnchor(branch) && endsWithAnchor(branch));
}

function beginsWithAnchor([first, second]: readonly string[]): boolean {
  const isOptional = second !== undefined && /^[?*{]/.test(second);
  return (first === '^' || first === '\\A') && !isOptional;
}

function endsWithAnchor(branch: readonly string[]): boolean {
  const last = branch.at(-1);
  return last === '$' || last === '\\z';
}

/**
 * RE2's error for the expression without the flag. With the flag some messages quote the expression
 * with the `(?i)` that stands for it.
 */
function plainError(source: string): unknown {
  try {
    RE2JS.compile(source);
    return undefined;
  } catch (error) {
    return error;
  }
}
