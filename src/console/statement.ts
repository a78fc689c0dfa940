/**
 * What a statement of the console is: a rule of the grammar makes it from its tokens, and it knows its columns before it runs, since the
 * extended protocol describes a statement first. Each rule stands in a file of its own under statements/.
 */
import { PgError } from '../errors.ts';
import type { ConsoleSession } from './console-session.ts';
import type { Requirement } from './privileges.ts';
import type { Cell, Column } from './results.ts';
import type { StatementReader } from './statement-reader.ts';

/** A value in a statement: written there, or the number of a parameter from 1. */
export type Value = { readonly text: string } | { readonly parameter: number };

/** What a statement has done. */
export interface Outcome {
  readonly rows?: readonly (readonly Cell[])[];
  /** Each becomes a WARNING. */
  readonly warnings?: readonly string[];
  /** The command tag, if it is not the statement's own. */
  readonly tag?: string;
}

/** A statement that can be run, any number of times. */
export interface Statement {
  /** The tag of CommandComplete; a SELECT adds its number of rows. */
  readonly tag: string;
  /** None: it returns no rows. */
  readonly columns: readonly Column[];
  /** What is needed to run it; undefined for what says nothing about anything. */
  readonly requires: Requirement | undefined;
  /** Whether it runs in a transaction that has failed, and ends it. */
  readonly endsTransaction?: true;
  /** The highest parameter that is used. */
  readonly parameterCount: number;
  /** @throws PgError, in which case nothing was changed */
  run(session: ConsoleSession, parameters: readonly string[]): Outcome | Promise<Outcome>;
}

/** A kind of statement. */
export interface Rule {
  /** The words with which it begins; the rule with the most words that fit is the one. */
  readonly begins: string;
  /** For HELP and the manual; left out for what only drivers send. */
  readonly help?: { readonly syntax: string; readonly does: string };
  /** Reads what follows the words; the end of the statement is looked for by the parser. Throws PgError 42601. */
  parse(reader: StatementReader): Omit<Statement, 'parameterCount'>;
}

/** The text of a value once the parameters are bound. */
export function textOf(value: Value, parameters: readonly string[]): string {
  if ('text' in value) return value.text;
  const text = parameters[value.parameter - 1];
  if (text !== undefined) return text;
  throw new PgError({ code: 'unbound_parameter', sqlstate: '42P02', message: `there is no parameter $${value.parameter}` });
}
