/**
 * The findings of `pgsso check`: one for each thing that was looked at. Every part of the check
 * returns them, and the command prints them as lines.
 */
import { BackendRefusal } from '../backend/errors.ts';
import { errorText, PgError, UsageError } from '../lib/errors.ts';

/** `error`: it does not work, or lets in users that it should refuse; `warning`: worth a look. */
export type Level = 'ok' | 'warning' | 'error';

/** What was found about one thing. */
export interface Finding {
  readonly level: Level;
  /** The option, setting or host that it is about. */
  readonly subject: string;
  readonly text: string;
}

/** Makes the findings about one subject. */
export function about(subject: string): (level: Level, text: string) => Finding {
  return (level, text) => ({ level, subject, text });
}

/**
 * Turns a failure, such as a file that cannot be used, into a finding.
 *
 * @throws UsageError for options that contradict each other
 */
export async function orFinding(subject: string, findings: Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await findings;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    return [about(subject)('error', errorText(error))];
  }
}

/** The private reason, as in the log: the operator is asking. */
export function reasonOf(error: unknown): string {
  return error instanceof PgError && !(error instanceof BackendRefusal)
    ? (error.reason ?? error.message)
    : errorText(error);
}

/**
 * A finding as a line of text. Control characters become spaces: a text from outside, such as the
 * name in a certificate, must not control the terminal.
 */
export function formatFinding({ level, subject, text }: Finding): string {
  return `${level.padEnd(7)}  ${subject}: ${text}`.replaceAll(/[\p{Cc}\p{Cf}]/gu, ' ');
}
