/**
 * The tokens of one statement, read from left to right. What is not as expected is a syntax error
 * at that place.
 */
import { PgError } from '../../lib/errors.ts';
import type { Statement } from '../session.ts';
import { positionOf, syntaxError, type Token } from './lexer.ts';

/** A value in a statement: written there, or the number of a parameter from 1. */
export type Value = { readonly text: string } | { readonly parameter: number };

/** A kind of statement. */
export interface Rule {
  /** The words with which it begins; the rule with the most words that fit is the one. */
  readonly begins: string;
  /** For HELP and the manual; left out for what only drivers send. */
  readonly help?: { readonly syntax: string; readonly does: string };
  /**
   * Reads what follows the words; the end of the statement is looked for by the parser. Throws
   * PgError 42601.
   */
  parse(reader: StatementReader): Omit<Statement, 'parameterCount'>;
}

/** What a token is cut to in an error. */
const SHOWN = 60;

/** Reads one statement. */
export class StatementReader {
  readonly #query: string;
  /** Up to and with the one of kind `end`, or the semicolon. */
  readonly #tokens: readonly Token[];
  readonly #last: Token;
  #next = 0;
  /** The highest parameter that was read. */
  parameterCount = 0;

  constructor(query: string, tokens: readonly Token[], last: Token) {
    this.#query = query;
    this.#tokens = tokens;
    this.#last = last;
  }

  /** The token to come. */
  get token(): Token {
    return this.#tokens[this.#next] ?? this.#last;
  }

  /** Whether nothing is left. */
  get atEnd(): boolean {
    return this.token === this.#last;
  }

  /** The POSITION at which the statement begins. */
  get beginning(): number {
    return positionOf(this.#query, (this.#tokens[0] ?? this.#last).start);
  }

  /** The POSITION of the token to come. */
  get position(): number {
    return positionOf(this.#query, this.token.start);
  }

  /** Takes all that is left if it is this text, white space aside. */
  takeAll(text: string): boolean {
    const rest = this.#query.slice(this.token.start, this.#last.start).replace(/\s+/g, ' ').trim();
    if (rest === text) this.#next = this.#tokens.length;
    return rest === text;
  }

  /** Takes these words, in any case, if they come next. */
  takeWords(words: string): boolean {
    const wanted = words.split(' ');
    const fits = wanted.every((word, index) => {
      const token = this.#tokens[this.#next + index];
      return token?.kind === 'word' && token.text.toUpperCase() === word;
    });
    if (fits) this.#next += wanted.length;
    return fits;
  }

  /** Takes one of these words, in upper case; undefined when none comes next. */
  takeOneOf(words: readonly string[]): string | undefined {
    return words.find((word) => this.takeWords(word));
  }

  /** Takes a symbol if it comes next. */
  takeSymbol(symbol: string): boolean {
    const fits = this.token.kind === 'symbol' && this.token.text === symbol;
    if (fits) this.#next++;
    return fits;
  }

  /** Takes a number if one comes next. */
  takeNumber(): string | undefined {
    return this.token.kind === 'number' ? this.#take().text : undefined;
  }

  /**
   * Takes a name of words and quoted parts with dots between, and where it stands. Words are folded
   * to lower case.
   */
  name(): { readonly name: string; readonly position: number } {
    const { position } = this;
    let name = this.#namePart();
    while (this.takeSymbol('.')) name += `.${this.#namePart()}`;
    return { name, position };
  }

  /** Takes `=` or TO. */
  equals(): void {
    if (!this.takeSymbol('=') && !this.takeWords('TO')) throw this.unexpected();
  }

  /** Takes a value: a string, a number with or without a sign, a parameter, or a name. */
  value(): Value {
    const { kind, text } = this.token;
    if (kind === 'string') return { text: this.#take().text };
    if (kind === 'parameter') {
      const parameter = Number(text);
      if (parameter < 1 || parameter > 65_535) throw this.unexpected();
      this.#next++;
      this.parameterCount = Math.max(this.parameterCount, parameter);
      return { parameter };
    }
    if (kind === 'word' || kind === 'quoted') return { text: this.name().name };
    const sign = this.takeSymbol('-') ? '-' : this.takeSymbol('+') ? '' : undefined;
    const number = this.takeNumber();
    if (number === undefined) throw this.unexpected();
    return { text: `${sign ?? ''}${number}` };
  }

  /** The error for the token to come. */
  unexpected(): PgError {
    const { kind, start, end } = this.token;
    const shown = this.#query.slice(start, end);
    const cut = shown.length > SHOWN ? `${shown.slice(0, SHOWN)}…` : shown;
    const where = kind === 'end' ? 'at end of input' : `at or near "${cut}"`;
    return syntaxError(`syntax error ${where}`, this.#query, start);
  }

  #namePart(): string {
    const { kind, text } = this.token;
    if (kind !== 'word' && kind !== 'quoted') throw this.unexpected();
    this.#next++;
    return kind === 'word' ? text.toLowerCase() : text;
  }

  #take(): Token {
    const { token } = this;
    this.#next++;
    return token;
  }
}

/** The text of a value once the parameters are bound. */
export function textOf(value: Value, parameters: readonly string[]): string {
  if ('text' in value) return value.text;
  const text = parameters[value.parameter - 1];
  if (text !== undefined) return text;
  throw new PgError({
    code: 'unbound_parameter',
    message: `there is no parameter $${value.parameter}`,
  });
}

/** An error for a statement that begins with that word, 0A000. */
export function notSupported(word: string, position: number): PgError {
  return new PgError({
    code: 'not_supported',
    message: `this ${word.toUpperCase()} is not a statement of the console`,
    hint: 'This is the console of pgsso, not a database. HELP lists what it understands.',
    position,
  });
}
