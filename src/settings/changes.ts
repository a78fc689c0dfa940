/** What the stores have in common when they change settings. */

import type { ApiKeyChange } from './api-keys.ts';
import { definitions, type SettingName } from './definitions.ts';
import { parseSetting } from './lookup.ts';
import type { StoredSettings } from './snapshot.ts';

/** What an operator asks for. */
export type SettingChange =
  | { readonly kind: 'set'; readonly name: SettingName; readonly text: string }
  | { readonly kind: 'reset'; readonly name: SettingName };

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

/*
 * The changes of settings, kept beside them: what was changed, by whom, when. Sensitive values are
 * not kept, long ones are cut, and only the newest entries stay.
 */

/** One change. */
export interface HistoryEntry {
  /**
   * A setting's name, perhaps of one that a later version no longer has; for an API key `API KEY`
   * and its name.
   */
  readonly name: string;
  /** The new value; undefined for a reset. */
  readonly text: string | undefined;
  readonly user: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/**
 * How many entries are kept in a file, and of how many characters together; with each change they
 * are written anew.
 */
const ENTRY_LIMIT = 200;
const SIZE_LIMIT = 128 * 1024;

/** What a value is cut to: enough for a person to see which one it was. */
const TEXT_LIMIT = 2000;

/** What is kept and shown in the place of a sensitive value. */
export const REDACTED = '<redacted>';

/** The entries for changes, whose values are in canonical form. */
export function historyOf(
  changes: readonly SettingChange[],
  user: string,
  at: number,
): readonly HistoryEntry[] {
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

/** The history's entry for a change; no setting has a name with a space. */
export function historyOfApiKey(change: ApiKeyChange, user: string, at: number): HistoryEntry {
  const name = `API KEY ${change.name}`;
  if (change.kind === 'drop') return { name, text: undefined, user, at };
  const expires =
    change.expiresAt === undefined ? '' : ` EXPIRES ${new Date(change.expiresAt).toISOString()}`;
  return { name, text: `FOR USER ${change.user}${expires}`, user, at };
}

/** Whether an entry of the history is about an API key. */
export function isOfApiKey({ name }: HistoryEntry): boolean {
  return name.startsWith('API KEY ');
}
