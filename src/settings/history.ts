/**
 * The changes of settings, kept beside them: what was changed, by whom, when. Sensitive values are not kept, long ones are cut, and only
 * the newest entries stay.
 */
import { definitions } from './definitions.ts';
import type { SettingChange } from './store.ts';

/** One change. */
export interface HistoryEntry {
  /** A setting's name, perhaps of one that a later version no longer has; for an API key `API KEY` and its name. */
  readonly name: string;
  /** The new value; undefined for a reset. */
  readonly text: string | undefined;
  readonly user: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** How many entries are kept in a file, and of how many characters together; with each change they are written anew. */
const ENTRY_LIMIT = 200;
const SIZE_LIMIT = 128 * 1024;

/** What a value is cut to: enough for a person to see which one it was. */
const TEXT_LIMIT = 2000;

/** What is kept and shown in the place of a sensitive value. */
export const REDACTED = '<redacted>';

/** The entries for changes, whose values are in canonical form. */
export function historyOf(changes: readonly SettingChange[], user: string, at: number): readonly HistoryEntry[] {
  return changes.map((change) => ({ name: change.name, text: textOf(change), user, at }));
}

function textOf(change: SettingChange): string | undefined {
  if (change.kind === 'reset') return undefined;
  if (definitions[change.name].sensitive) return REDACTED;
  return change.text.length > TEXT_LIMIT ? `${change.text.slice(0, TEXT_LIMIT)}…` : change.text;
}

/** The newest entries, oldest first, that a file has room for. */
export function trimHistory(entries: readonly HistoryEntry[]): readonly HistoryEntry[] {
  let size = 0;
  const newest = entries.slice(-ENTRY_LIMIT);
  const first = newest.findLastIndex(({ text = '' }) => {
    size += text.length;
    return size > SIZE_LIMIT;
  });
  return newest.slice(first + 1);
}
