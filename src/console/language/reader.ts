/**
 * What the grammar is written with: the rule of a statement, the reader of its tokens, and the
 * values in it.
 */
import { PgError } from '../../lib/errors.ts';
import type { Statement } from '../session.ts';
import { positionOf, syntaxError, type Token } from './lexer.ts';

/** The rule of one kind of statement. */
export interface Rule {
  /** The words with which the statement begins. The longest match decides which rule is used. */
  readonly begins: string;
  /** For HELP and the manual. Missing for statements that only drivers send. */
  readonly help?: { readonly syntax: string; readonly does: string };
  /**
   * Parses what follows the words. The parser checks that nothing is left.
   *
   * @throws PgError 42601 with the position
   */
  parse(reader: StatementReader): ParsedStatement;
}

/** A statement without the figures that the parser adds. */
export type ParsedStatement = Omit<Statement, 'parameterCount' | 'tokenCount'>;

/** A value in a statement: a literal, or the number of a parameter, from 1. */
export type Value = { readonly text: string } | { readonly parameter: number };

/** Characters of a token in an error message. */
const SHOWN = 60;

/**
 * Reads the tokens of one statement from left to right. The methods `take…` advance only if they
 * match; the others throw a syntax error.
 */
export class StatementReader {
  readonly #query: string;
  readonly #tokens: readonly Token[];
  readonly #last: Token;
  #next = 0;
  /** The number of the highest parameter so far. */
  parameterCount = 0;

  /** @param last the token after the statement: a semicolon or the end of the query */
  constructor(query: string, tokens: readonly Token[], last: Token) {
    this.#query = query;
    this.#tokens = tokens;
    this.#last = last;
  }

  /** The next token. */
  get token(): Token {
    return this.#tokens[this.#next] ?? this.#last;
  }

  /** Whether no token is left. */
  get atEnd(): boolean {
    return this.token === this.#last;
  }

  /** POSITION of the first token. */
  get beginning(): number {
    return positionOf(this.#query, (this.#tokens[0] ?? this.#last).start);
  }

  /**
   * Returns the POSITION of an offset in the query. It takes time linear in the offset, so it is
   * for errors only.
   */
  positionAt(offset: number): number {
    return positionOf(this.#query, offset);
  }

  /** The whole statement as it was written; undefined if it is longer. */
  text(limit: number): string | undefined {
    const { start } = this.#tokens[0] ?? this.#last;
    return this.#last.start - start > limit
      ? undefined
      : this.#query.slice(start, this.#last.start);
  }

  /** Takes all that is left, with its parameters. */
  takeRest(): void {
    for (const { kind, text } of this.#tokens.slice(this.#next))
      if (kind === 'parameter') this.#countParameter(Number(text));
    this.#next = this.#tokens.length;
  }

  /** Whether this word is left with this symbol behind it. */
  contains(word: string, symbol: string): boolean {
    return this.#tokens.some(
      ({ kind, text }, at) =>
        kind === 'symbol' && text === symbol && this.#isWord(this.#tokens[at - 1], word),
    );
  }

  /**
   * Reads `[ … ]` and returns a reader for what is in it. There are no parameters and no brackets
   * in brackets.
   */
  brackets(): StatementReader {
    if (!this.takeSymbol('[')) throw this.unexpected();
    const from = this.#next;
    while (!this.atEnd && !(this.token.kind === 'symbol' && this.token.text === ']')) this.#next++;
    const inside = new StatementReader(
      this.#query,
      this.#tokens.slice(from, this.#next),
      this.token,
    );
    if (!this.takeSymbol(']')) throw this.unexpected();
    return inside;
  }

  /** Takes these words if they are next, in upper or lower case. */
  takeWords(words: string): boolean {
    const wanted = words.split(' ');
    const fits = wanted.every((word, index) =>
      this.#isWord(this.#tokens[this.#next + index], word),
    );
    if (fits) this.#next += wanted.length;
    return fits;
  }

  /** Takes the first of these phrases that is next; undefined if none is. */
  takeOneOf(phrases: readonly string[]): string | undefined {
    return phrases.find((words) => this.takeWords(words));
  }

  /** Takes this symbol if it is next. */
  takeSymbol(symbol: string): boolean {
    const fits = this.token.kind === 'symbol' && this.token.text === symbol;
    if (fits) this.#next++;
    return fits;
  }

  /** Takes a number if it is next. */
  takeNumber(): string | undefined {
    return this.token.kind === 'number' ? this.#take().text : undefined;
  }

  /**
   * Reads a name of words and quoted identifiers with dots between them. Words are folded to lower
   * case. `start` is the offset at which the name begins.
   */
  name(): { readonly name: string; readonly start: number } {
    const { start } = this.token;
    let name = this.#namePart();
    while (this.takeSymbol('.')) name += `.${this.#namePart()}`;
    return { name, start };
  }

  /** Reads `=` or TO. */
  equals(): void {
    if (!this.takeSymbol('=') && !this.takeWords('TO')) throw this.unexpected();
  }

  /** Reads a value: a string, a number with or without a sign, a parameter, or a name. */
  value(): Value {
    const { kind, text } = this.token;
    if (kind === 'string') return { text: this.#take().text };
    if (kind === 'parameter') {
      const parameter = Number(text);
      this.#countParameter(parameter);
      this.#next++;
      return { parameter };
    }
    if (kind === 'word' || kind === 'quoted') return { text: this.name().name };
    const sign = this.takeSymbol('-') ? '-' : this.takeSymbol('+') ? '' : undefined;
    const number = this.takeNumber();
    if (number === undefined) throw this.unexpected();
    return { text: `${sign ?? ''}${number}` };
  }

  /** Makes the syntax error for the next token. */
  unexpected(): PgError {
    const { kind, start, end } = this.token;
    const shown = this.#query.slice(start, end);
    const cut = shown.length > SHOWN ? `${shown.slice(0, SHOWN)}…` : shown;
    const where = kind === 'end' ? 'at end of input' : `at or near "${cut}"`;
    return syntaxError(`syntax error ${where}`, this.#query, start);
  }

  #isWord(token: Token | undefined, word: string): boolean {
    if (token?.kind !== 'word' || token.text.length !== word.length) return false;
    return token.text.toUpperCase() === word;
  }

  #countParameter(parameter: number): void {
    if (parameter < 1 || parameter > 65_535) throw this.unexpected();
    this.parameterCount = Math.max(this.parameterCount, parameter);
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

/**
 * Returns the text of a value.
 *
 * @param parameters the bound parameters
 * @throws PgError if the parameter is not bound
 */
export function textOf(value: Value, parameters: readonly string[]): string {
  if ('text' in value) return value.text;
  const text = parameters[value.parameter - 1];
  if (text !== undefined) return text;
  throw new PgError({
    code: 'unbound_parameter',
    message: `there is no parameter $${value.parameter}`,
  });
}

/** Makes the error for a SQL statement that the console does not support, 0A000. */
export function notSupported(word: string, position: number): PgError {
  return new PgError({
    code: 'not_supported',
    message: `this ${word.toUpperCase()} is not a statement of the console`,
    hint: 'This is the console of pgsso, not a database. HELP lists what it understands.',
    position,
  });
}
