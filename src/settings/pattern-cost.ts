/**
 * What it takes to compile a regular expression, told from its text. RE2 matches in linear time,
 * but an expression of a few characters can become a program of a million instructions: `x{0,1000}`
 * is unrolled. And a range is walked through character by character to find other cases of its
 * letters: `[b-\x{1e000}]` takes 4 ms.
 */

/** A quotation, `\Q…\E`; the end may be missing. */
export const QUOTATION = String.raw`\\Q[\s\S]*?(?:\\E|$)`;

/** A character class, `[…]`. */
export const CHARACTER_CLASS = String.raw`\[\^?\]?(?:\\[\s\S]|\[:\^?[a-z]+:\]|[^\]\\])*\]`;

/** Flags, which may be none, and the openings of a group with a name and of one with flags. */
export const GROUP = String.raw`\(\?[a-zA-Z-]*\)|\(\?P?<\w+>|\(\?[a-zA-Z-]*:`;

/**
 * Pieces that match nothing. A repetition behind such a piece applies to the piece before it, so
 * that `^(?i)*` makes the anchor optional.
 */
export const NOTHING = /^(?:\(\?[a-zA-Z-]*\)|\\Q(?:\\E)?|\\E)$/;

/** An escape, one with braces first. */
const ESCAPE = String.raw`\\[pPx]\{[^}]*\}|\\x[0-9a-fA-F]{2}|\\[\s\S]`;

const REPETITION = String.raw`\{\d+(?:,\d*)?\}`;

/** One piece of an expression. The alternatives differ in their first characters. */
const PIECE = new RegExp(
  `${QUOTATION}|${ESCAPE}|${CHARACTER_CLASS}|${GROUP}|${REPETITION}|[\\s\\S]`,
  'gu',
);

/** A range of a character class: its two ends. */
const RANGE = new RegExp(`(${ESCAPE}|[^\\\\])-(${ESCAPE}|[^\\\\])`, 'gu');

/** Steps for a class of Unicode, such as \p{Lu}, with the other cases of its letters: 0.2 ms. */
const UNICODE_CLASS = 50;

/** The same for \w and its like: 30 µs. */
const PERL_CLASS = 5;

/** The last character with another case (Unicode 15). Ranges are walked through up to it. */
const LAST_LETTER = 0x1e943;

/** Characters of a range that are looked at in the time of one step. */
const RANGE_STEP = 100;

/** Keeps numbers exact, whatever is repeated. */
const MOST = 1e9;

/**
 * The steps that it takes to compile an expression, each up to 10 µs, rather too many than too few.
 * The program has no more instructions than that. The expression may be an invalid one.
 */
export function patternCost(source: string): number {
  // What was counted before each group that is open.
  const groups: number[] = [];
  let sum = 4;
  // Of the piece before, which a repetition is about.
  let last = 0;
  for (const piece of source.match(PIECE) ?? []) {
    if (NOTHING.test(piece)) continue;
    if (piece === ')') {
      last = sum;
      sum = Math.min(MOST, sum + (groups.pop() ?? 0));
    } else if (piece.startsWith('(')) {
      groups.push(sum);
      sum = 3;
      last = 0;
    } else if (/^\{\d/.test(piece)) {
      const repeated = Math.min(MOST, last * copies(piece));
      sum = Math.min(MOST, sum + repeated);
      last = repeated;
    } else {
      const own = costOf(piece);
      sum += own;
      last = /^[*+?]$/.test(piece) ? last + own : own;
    }
  }
  return groups.reduce((total, before) => total + before, sum);
}

/** `x{3,5}` becomes `xxx(x(x)?)?`. */
function copies(repetition: string): number {
  const [least = 0, most = least] = (repetition.match(/\d+/g) ?? []).map(Number);
  return least + 2 * Math.max(0, most - least) + 1;
}

function costOf(piece: string): number {
  if (piece.startsWith('\\Q')) return piece.length;
  if (/^[*+?|]$/.test(piece)) return 2;
  const unicode = piece.match(/\\[pP]/g)?.length ?? 0;
  const perl = piece.match(/\\[dswDSW]/g)?.length ?? 0;
  const ranges = piece.startsWith('[') ? costOfRanges(piece) : 0;
  return 1 + unicode * UNICODE_CLASS + perl * PERL_CLASS + ranges;
}

function costOfRanges(characters: string): number {
  let cost = 0;
  for (const [, from = '', to = ''] of characters.matchAll(RANGE)) {
    const size = Math.max(0, Math.min(codePoint(to), LAST_LETTER) - codePoint(from));
    cost += 1 + Math.floor(size / RANGE_STEP);
  }
  return cost;
}

/** The character that an end of a range stands for; of an unknown escape the letter. */
function codePoint(end: string): number {
  const hexadecimal = /^\\x\{?([0-9a-fA-F]+)/.exec(end)?.[1];
  if (hexadecimal !== undefined) return Number.parseInt(hexadecimal, 16);
  return end.codePointAt(end.startsWith('\\') ? 1 : 0) ?? 0;
}
