/** The answer to SQL that the console does not have: the client learns that it is at the console, and where to look. */
import { PgError } from '../errors.ts';

/** An error for a statement that begins with that word, 0A000. */
export function notSupported(word: string, position: number): PgError {
  return new PgError({
    code: 'not_supported',
    sqlstate: '0A000',
    message: `this ${word.toUpperCase()} is not a statement of the console`,
    hint: 'This is the console of pgsso, not a database. HELP lists what it understands.',
    position,
  });
}
