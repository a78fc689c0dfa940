/**
 * Regular expressions of the maps and of the provisioning pattern, in RE2's syntax
 * (https://github.com/google/re2/wiki/Syntax). They are matched with text that the owner of a token
 * chose, so a match takes linear time, and the size of an expression is bounded when it is set.
 */

import { RE2JS } from 're2js';
import { errorText } from '../lib/errors.ts';
import { CHARACTER_CLASS, GROUP, NOTHING, patternCost, QUOTATION } from './pattern-cost.ts';
import { invalidSetting } from './values.ts';

/** Characters. */
const LENGTH_LIMIT = 4096;

/** Steps to compile one expression: a tenth of a second, in which all sessions wait. */
const COST_LIMIT = 20_000;

/** The same for all expressions of a setting: half a second, a second at worst. */
const TOTAL_COST_LIMIT = 100_000;

/** Instructions. A name has at most 63 bytes, so a match stays within some milliseconds. */
const PROVISIONING_SIZE_LIMIT = 10_000;

/** A compiled expression. */
export interface Pattern {
  /** The number of capture groups. */
  readonly groups: number;
  /** Instructions of the program. */
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

/** Whether upper and lower case match each other. */
type Letters = 'any case' | 'exact case';

/** What the expressions of one setting may cost. */
export interface PatternLimits {
  /** The number of expressions. */
  readonly patterns: number;
  /** Instructions of all expressions. Each takes about 20 ns for each character of a text. */
  readonly instructions: number;
}

/** Compiles the expressions of one setting, as long as they stay within limits. */
export class PatternCompiler {
  readonly #limits: PatternLimits;
  #patterns = 0;
  #instructions = 0;
  #cost = 0;

  constructor(limits: PatternLimits) {
    this.#limits = limits;
  }

  /**
   * Compiles an expression. It matches anywhere in a text unless it is anchored.
   *
   * @throws Error with RE2's message, which quotes the expression as it was written, or with the
   *   limit that it exceeds
   */
  compile(source: string, letters: Letters): Pattern {
    const { patterns, instructions } = this.#limits;
    this.#patterns += 1;
    if (this.#patterns > patterns) throw new Error(`there are more than ${patterns} expressions`);
    if (source.length > LENGTH_LIMIT)
      throw new Error(`the expression is longer than ${LENGTH_LIMIT} characters`);
    const cost = patternCost(source);
    this.#cost += cost;
    if (cost > COST_LIMIT)
      throw new Error(
        `the expression is too large: its repetitions and ranges take ${cost} steps to compile, ` +
          `at most ${COST_LIMIT} are possible`,
      );
    if (this.#cost > TOTAL_COST_LIMIT)
      throw new Error(
        `the expressions up to here are too large: they take ${this.#cost} steps to compile, ` +
          `at most ${TOTAL_COST_LIMIT} are possible`,
      );
    const pattern = compilePattern(source, letters);
    this.#instructions += pattern.size;
    if (this.#instructions > instructions)
      throw new Error(
        'the expressions up to here are too large to be matched at each login: ' +
          `${this.#instructions} instructions, at most ${instructions} are possible`,
      );
    return pattern;
  }
}

function compilePattern(source: string, letters: Letters): Pattern {
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
  const limits = { patterns: 1, instructions: PROVISIONING_SIZE_LIMIT };
  try {
    const pattern = new PatternCompiler(limits).compile(source, 'any case');
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

/**
 * One piece of an expression: a quotation, an escape, a character class, flags, the opening of a
 * group, or a character. The alternatives differ in their first characters, so the scan is linear.
 */
const PIECE = new RegExp(
  String.raw`${QUOTATION}|\\[\s\S]|${CHARACTER_CLASS}|${GROUP}|[\s\S]`,
  'gu',
);

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
