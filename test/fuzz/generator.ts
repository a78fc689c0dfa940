/**
 * Inputs for a parser: mutations of valid inputs with the words of its grammar, and random bytes. A
 * seed decides every input, so that a run can be repeated.
 */

/** Numbers that a seed decides (xorshift32, which is enough for tests). */
export class Random {
  #state: number;

  constructor(seed: number) {
    // A state of 0 would stay 0.
    this.#state = Math.imul(seed + 1, 0x9e37_79b1) | 1;
  }

  /** A whole number from 0 to below `end`. */
  below(end: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % end;
  }

  /** True once in so many times. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  /** @throws Error if the list is empty */
  pick<T>(list: readonly T[]): T {
    const picked = list[this.below(list.length)];
    if (picked === undefined) throw new Error('an empty list');
    return picked;
  }
}

/** What the inputs of a parser are made of. */
export interface Grammar {
  /** Valid inputs. */
  readonly seeds: readonly string[];
  /** Words and signs that mean something to the parser. */
  readonly words: readonly string[];
  /** Characters of the longest input that its caller lets through. */
  readonly longest: number;
}

/** Characters that parsers are often wrong about. */
const CHARACTERS: readonly string[] = [
  ...'\0\x01\t\n\r\x1b "\'`$%&()*+,-./0129:;<=>?@[\\]^_{|}~aZ\x7f\x85\xa0\xffé€',
  '\u0301', // a combining character
  '\u0130', // İ, whose lower case has two characters
  '\u212a', // the Kelvin sign, whose lower case is k
  '\u200b', // zero width
  '\u202e', // right to left
  '\ufeff', // byte order mark
  '\ud800', // half of a pair
  '\u{1f600}',
];

/** One input in so many is long: a piece repeated up to the limit. They take most of the time. */
const LONG_ONE_IN = 100;

/** The next input. */
export function generate(random: Random, grammar: Grammar): string {
  const { seeds, words, longest } = grammar;
  if (random.once(20)) return randomBytes(random, Math.min(longest, 300));
  let text = random.once(10) ? '' : random.pick(seeds);
  for (let rest = 1 + random.below(4); rest > 0; rest--) text = mutate(random, text, seeds, words);
  if (random.once(LONG_ONE_IN)) text = repeatPiece(random, text, words, longest);
  return text.slice(0, longest);
}

function randomBytes(random: Random, longest: number): string {
  const length = random.below(longest + 1);
  return String.fromCharCode(...Array.from({ length }, () => random.below(256)));
}

function mutate(
  random: Random,
  text: string,
  seeds: Grammar['seeds'],
  words: Grammar['words'],
): string {
  const from = random.below(text.length + 1);
  const to = Math.min(text.length, from + 1 + random.below(12));
  const before = text.slice(0, from);
  const piece = text.slice(from, to);
  const after = text.slice(to);
  switch (random.below(8)) {
    case 0:
      return before + after;
    case 1:
      return before + piece + piece + after;
    case 2:
      return before + random.pick(words) + piece + after;
    case 3:
      return before + random.pick(words) + after;
    case 4:
      return before + random.pick(CHARACTERS) + piece + after;
    case 5:
      return before + random.pick(CHARACTERS) + text.slice(from + 1);
    case 6: {
      const other = random.pick(seeds);
      return before + other.slice(random.below(other.length + 1));
    }
    default:
      return after + piece + before;
  }
}

/** Long inputs show what takes quadratic time. */
function repeatPiece(
  random: Random,
  text: string,
  words: Grammar['words'],
  longest: number,
): string {
  const from = random.below(text.length + 1);
  const piece = random.once(2)
    ? random.pick(words) + random.pick(CHARACTERS)
    : text.slice(from, from + 1 + random.below(40)) || random.pick(words);
  const room = Math.max(longest - text.length, 0);
  const times = Math.floor(room / piece.length / (1 + random.below(4)));
  return text.slice(0, from) + piece.repeat(times) + text.slice(from);
}
