/**
 * Changes of the settings and the history of them. A change is applied to the stored settings, and
 * the history records what was changed, by whom and when. Sensitive values are not recorded, long
 * values are cut, and a file holds only the newest entries.
 */

import type { ApiKeyChange } from './api-keys.ts';
import { definitions, type SettingName } from './definitions.ts';
import { parseSetting } from './lookup.ts';
import type { StoredSettings } from './snapshot.ts';

/** A change that an operator asks for. */
export type SettingChange =
  | { readonly kind: 'set'; readonly name: SettingName; readonly text: string }
  | { readonly kind: 'reset'; readonly name: SettingName };

/** One change in the history. */
export interface HistoryEntry {
  /**
   * The name of the setting, which a later version may not have any more; for an API key `API KEY`
   * and its name.
   */
  readonly name: string;
  /** The new value; undefined for a reset or a drop. */
  readonly text: string | undefined;
  /** The SQL user who made the change. */
  readonly user: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** Stands for a sensitive value in the history and in SHOW. */
export const REDACTED = '<redacted>';

/** Entries in a file. The file is written again at each change, so its history is bounded. */
const ENTRY_LIMIT = 200;

/** Characters of the values of all entries in a file. */
const SIZE_LIMIT = 128 * 1024;

/** Characters of a value in the history, enough to recognise it. */
const TEXT_LIMIT = 2000;

/** Begins the name of an entry about an API key. No setting has a name with a space. */
const API_KEY_PREFIX = 'API KEY ';

/**
 * The changes with their values in canonical form.
 *
 * @throws PgError 22023 for a value that is not valid
 */
export function canonicalChanges(changes: readonly SettingChange[]): readonly SettingChange[] {
  return changes.map((change) =>
    change.kind === 'reset'
      ? change
      : { ...change, text: parseSetting(change.name, change.text).text },
  );
}

/** The settings after the changes. */
export function applyChanges(
  stored: StoredSettings,
  changes: readonly SettingChange[],
  user: string,
  at: number,
): StoredSettings {
  const changed = new Map(stored);
  for (const change of changes) {
    if (change.kind === 'reset') changed.delete(change.name);
    else changed.set(change.name, { text: change.text, user, at });
  }
  return changed;
}

/** The history's entries for changes, whose values are in canonical form. */
export function historyOf(
  changes: readonly SettingChange[],
  user: string,
  at: number,
): readonly HistoryEntry[] {
  return changes.map((change) => ({ name: change.name, text: recordedText(change), user, at }));
}

/** The history's entry for a change of an API key. */
export function historyOfApiKey(change: ApiKeyChange, user: string, at: number): HistoryEntry {
  const name = API_KEY_PREFIX + change.name;
  if (change.kind === 'drop') return { name, text: undefined, user, at };
  const expires =
    change.expiresAt === undefined ? '' : ` EXPIRES ${new Date(change.expiresAt).toISOString()}`;
  return { name, text: `FOR USER ${change.user}${expires}`, user, at };
}

/** Whether an entry of the history is about an API key. */
export function isOfApiKey({ name }: HistoryEntry): boolean {
  return name.startsWith(API_KEY_PREFIX);
}

/** The newest of the entries that a file has room for. The order is oldest first. */
export function trimHistory(entries: readonly HistoryEntry[]): readonly HistoryEntry[] {
  let size = 0;
  const newest = entries.slice(-ENTRY_LIMIT);
  const first = newest.findLastIndex(({ text = '' }) => {
    size += text.length;
    return size > SIZE_LIMIT;
  });
  return newest.slice(first + 1);
}

function recordedText(change: SettingChange): string | undefined {
  if (change.kind === 'reset') return undefined;
  if (definitions[change.name].sensitive) return REDACTED;
  return change.text.length > TEXT_LIMIT ? `${change.text.slice(0, TEXT_LIMIT)}…` : change.text;
}
