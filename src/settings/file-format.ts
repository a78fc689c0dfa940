/** The settings file: JSON that a person can read and, with the front-end stopped, repair. */
import { errorText } from '../errors.ts';
import type { SettingName } from './definitions.ts';
import type { HistoryEntry } from './history.ts';
import { findSetting, parseSetting } from './lookup.ts';
import type { StoredSetting, StoredSettings } from './snapshot.ts';

/** Raised when the form changes, so that an older program refuses a newer file instead of losing what it does not know. */
const FORMAT = 1;

/** What a file holds. */
export interface SettingsFile {
  readonly stored: StoredSettings;
  /** Oldest first. */
  readonly history: readonly HistoryEntry[];
}

/** The file's text. */
export function formatSettings({ stored, history }: SettingsFile): string {
  const settings = Object.fromEntries(
    [...stored].map(([name, { text, user, at }]) => [name, { value: text, user, at: new Date(at).toISOString() }]),
  );
  const changes = history.map(({ name, text, user, at }) => ({
    name,
    value: text ?? null,
    user,
    at: new Date(at).toISOString(),
  }));
  return `${JSON.stringify({ format: FORMAT, settings, history: changes }, undefined, 2)}\n`;
}

/**
 * Reads the file's text; every value is checked again. A file that a person wrote may be without a history.
 *
 * @throws Error that names the setting, where there is one
 */
export function parseSettings(text: string): SettingsFile {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    // The parser's own text quotes the file, which may hold a sensitive value.
    throw new Error('it is damaged: not JSON');
  }
  if (!isObject(file) || !isObject(file['settings'])) throw new Error('it is damaged: no "settings"');
  if (file['format'] !== FORMAT) throw new Error(`its format is ${file['format']}, and this program reads ${FORMAT}`);
  const { history = [] } = file;
  if (!Array.isArray(history)) throw new Error('it is damaged: "history" is no list');
  const stored = new Map<SettingName, StoredSetting>();
  for (const [given, entry] of Object.entries(file['settings'])) stored.set(...parseEntry(given, entry));
  return { stored, history: history.map(parseChange) };
}

function parseChange(change: unknown): HistoryEntry {
  const { name, value, user, at } = isObject(change) ? change : {};
  const time = typeof at === 'string' ? Date.parse(at) : Number.NaN;
  const reset = value === null;
  if (typeof name !== 'string' || (typeof value !== 'string' && !reset) || typeof user !== 'string' || Number.isNaN(time)) {
    throw new Error('it is damaged: a change in "history" has not its name, value, user and time');
  }
  return { name, text: reset ? undefined : value, user, at: time };
}

function parseEntry(given: string, entry: unknown): [SettingName, StoredSetting] {
  try {
    const name = findSetting(given);
    const { value, user, at } = isObject(entry) ? entry : {};
    const time = typeof at === 'string' ? Date.parse(at) : Number.NaN;
    if (typeof value !== 'string' || typeof user !== 'string' || Number.isNaN(time)) {
      throw new Error('it has no "value" and "user" that are strings, and "at" that is a time');
    }
    return [name, { text: parseSetting(name, value).text, user, at: time }];
  } catch (error) {
    throw new Error(`setting ${given}: ${errorText(error)}`, { cause: error });
  }
}

/** Whether two sets of settings are the same, with who made them and when. */
export function sameSettings(left: StoredSettings, right: StoredSettings): boolean {
  return formatSettings({ stored: left, history: [] }) === formatSettings({ stored: right, history: [] });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
