/**
 * A setting that is one plain string or a JSON array of strings: the audiences, and the shorter forms of the issuers. A text that
 * is no JSON is one string, however odd it looks; JSON of another form is a mistake and never silently taken for a string.
 */
import { PgError } from '../errors.ts';
import { readJson } from './json-text.ts';

/** The plain string or the JSON's value. */
export function readPlainOrJson(text: string): { readonly plain: string } | { readonly json: unknown } {
  const reading = readJson(text);
  return reading.valid ? { json: reading.value } : { plain: text };
}

/** The distinct strings in their order without the empty one, which no claim may match; undefined when it is no list of strings. */
export function toStringList(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) return undefined;
  return Object.freeze([...new Set(value)].filter((item) => item !== ''));
}

/**
 * The accepted audiences.
 *
 * @throws PgError 22023 for JSON other than an array of strings
 */
export function parseAudiences(text: string): readonly string[] {
  const reading = readPlainOrJson(text);
  const audiences = toStringList('plain' in reading ? [reading.plain] : reading.json);
  if (audiences === undefined) {
    throw new PgError({
      code: 'invalid_setting_value',
      sqlstate: '22023',
      message: 'JWT authentication audiences JSON not valid: expected an array of strings',
    });
  }
  return audiences;
}
