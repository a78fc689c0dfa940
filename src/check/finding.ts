/** What `pgsso check` has to say: one thing that was looked at, and how it was. */

/** `error`: it will not work, or somebody gets in who must not; `warning`: worth a look. */
export type Level = 'ok' | 'warning' | 'error';

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
