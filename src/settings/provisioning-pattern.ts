/** Which names may be created at a first login: a regular expression of the same syntax and with the same bounds as in the maps. */
import { errorText, PgError } from '../errors.ts';
import { PATTERN_LENGTH_LIMIT } from './map-rules.ts';
import { compilePattern, suggestRange } from './pattern.ts';

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
  if (source.length > PATTERN_LENGTH_LIMIT) throw invalid(`the expression is longer than ${PATTERN_LENGTH_LIMIT} characters`);
  try {
    const pattern = compilePattern(source);
    if (pattern.size > PROGRAM_LIMIT) throw new Error('the expression is too large to be matched at each login');
    return Object.freeze({ source, allows: (user: string) => pattern.capture(user) !== undefined });
  } catch (error) {
    throw invalid(errorText(error), suggestRange(error));
  }
}

function invalid(message: string, hint?: string): PgError {
  return new PgError({ code: 'invalid_setting_value', sqlstate: '22023', message, hint });
}
