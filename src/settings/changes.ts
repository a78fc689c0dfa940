/** What the stores have in common when they change settings. */
import { parseSetting } from './lookup.ts';
import type { StoredSettings } from './snapshot.ts';
import type { SettingChange } from './store.ts';

/**
 * The changes with their values in canonical form.
 *
 * @throws PgError 22023 for a value that is not valid
 */
export function canonicalChanges(changes: readonly SettingChange[]): readonly SettingChange[] {
  return changes.map((change) =>
    change.kind === 'reset' ? change : { ...change, text: parseSetting(change.name, change.text).text },
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
