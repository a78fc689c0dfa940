/**
 * The syntax of pg_hba.conf (manual, 20.1): lines of fields, each field a list of tokens with
 * commas between them. A token in double quotes is only text, `""` inside is one quote, `#` begins
 * a comment, and a backslash at the end continues a line. PostgreSQL accepts a quote that is not
 * closed; here it is an error, since the rest of the line would silently be part of a name.
 */
import type { PgError } from '../lib/errors.ts';
import { invalidSetting, quote } from './values.ts';

/** One token of a field. */
export interface FieldToken {
  readonly text: string;
  /** Whether it begins with a quote: a keyword is then an ordinary name. */
  readonly isQuoted: boolean;
}

/** A field: one token, or several with commas between them. */
export type Field = readonly FieldToken[];

/** A line that is neither empty nor a comment. */
export interface RuleLine {
  /** From 1; of a continued line the first. */
  readonly line: number;
  readonly fields: readonly Field[];
  /** Without white space at its ends. */
  readonly written: string;
}

/** The setting, for errors. */
export const RULES_SETTING = 'server.host_based_authentication.configuration';

/**
 * Splits the text into lines and fields.
 *
 * @throws PgError 22023 that names the line
 */
export function splitLines(text: string): readonly RuleLine[] {
  const lines: RuleLine[] = [];
  let written = '';
  let first = 1;
  for (const [index, part] of text.split('\n').entries()) {
    if (written === '') first = index + 1;
    written += part.replace(/\r$/, '');
    if (written.endsWith('\\')) {
      written = `${written.slice(0, -1)} `;
      continue;
    }
    const fields = splitFields(written, first);
    if (fields.length > 0) lines.push({ line: first, fields, written: written.trim() });
    written = '';
  }
  if (written !== '') throw invalidLine(first, 'the last line ends with a backslash');
  return lines;
}

/** The error of a line: 22023. */
export function invalidLine(line: number, problem: string, hint?: string): PgError {
  return invalidSetting(`line ${line} of ${RULES_SETTING}: ${problem}`, hint);
}

function splitFields(text: string, line: number): Field[] {
  const fields: Field[] = [];
  let field: FieldToken[] = [];
  let at = 0;
  while (at < text.length) {
    const token = readToken(text, at, line);
    at = token.end;
    if (token.isMissing) {
      if (token.hasComma) throw invalidLine(line, 'a comma without a name before it');
      break;
    }
    field.push({ text: token.text, isQuoted: token.isQuoted });
    // White space after a comma does not end the field.
    if (token.hasComma) continue;
    fields.push(field);
    field = [];
  }
  if (field.length > 0) throw invalidLine(line, 'a comma without a name behind it');
  return fields;
}

interface ScannedToken extends FieldToken {
  readonly end: number;
  readonly hasComma: boolean;
  /** Only white space, a comment or a comma was left. */
  readonly isMissing: boolean;
}

/** PostgreSQL's next_token (hba.c). */
function readToken(text: string, start: number, line: number): ScannedToken {
  let at = start;
  while (isBlank(text[at])) at++;
  const begin = at;
  let token = '';
  let inQuotes = false;
  for (; at < text.length; at++) {
    const character = text[at] ?? '';
    if (character === '"') {
      const isDoubled = inQuotes && text[at + 1] === '"';
      if (isDoubled) {
        token += '"';
        at++;
      } else inQuotes = !inQuotes;
    } else if (inQuotes) token += character;
    else if (character === '#' || character === ',' || isBlank(character)) break;
    else token += character;
  }
  if (inQuotes) throw invalidLine(line, `a quote is not closed: ${quote(text.slice(begin))}`);
  const stop = text[at];
  return {
    text: token,
    isQuoted: text[begin] === '"',
    isMissing: at === begin,
    hasComma: stop === ',',
    end: stop === '#' ? text.length : stop === ',' ? at + 1 : at,
  };
}

function isBlank(character: string | undefined): boolean {
  return character === ' ' || character === '\t' || character === '\r';
}
