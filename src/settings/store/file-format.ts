/**
 * The text of a settings file. It is JSON that a person can read and, while the front-end is
 * stopped, repair. Every value is checked again when a file is read.
 */
import { errorText } from '../../lib/errors.ts';
import { isJsonObject, readJson } from '../../lib/json.ts';
import { type ApiKey, checkApiKey } from '../api-keys.ts';
import type { HistoryEntry } from '../changes.ts';
import type { SettingName } from '../definitions.ts';
import { findSetting, parseSetting } from '../lookup.ts';
import type { StoredSetting, StoredState } from '../snapshot.ts';

/**
 * The format of a file without API keys. A new form gets a new number, so that an older program
 * refuses the file instead of losing what it does not know.
 */
const FORMAT = 1;

/** The format of a file with API keys, which older programs would lose. */
const KEYS_FORMAT = 2;

/** The content of a settings file. */
export interface SettingsFile extends StoredState {
  /** Oldest first. */
  readonly history: readonly HistoryEntry[];
}

/** The text of a file. */
export function formatSettings({ stored, apiKeys, history }: SettingsFile): string {
  const settings = Object.fromEntries(
    [...stored].map(([name, { text, user, at }]) => [
      name,
      { value: text, user, at: new Date(at).toISOString() },
    ]),
  );
  const changes = history.map(({ name, text, user, at }) => ({
    name,
    value: text ?? null,
    user,
    at: new Date(at).toISOString(),
  }));
  const keys = apiKeys.size > 0 && {
    apiKeys: Object.fromEntries([...apiKeys].map(([name, key]) => [name, formatApiKey(key)])),
  };
  const format = keys ? KEYS_FORMAT : FORMAT;
  return `${JSON.stringify({ format, settings, ...keys, history: changes }, undefined, 2)}\n`;
}

/**
 * Parses the text of a file. The history may be absent, in a file that a person wrote.
 *
 * @throws Error that names the setting if one is wrong
 */
export function parseSettings(text: string): SettingsFile {
  const reading = readJson(text);
  if (!reading.valid) throw new Error('it is damaged: not JSON');
  const file = reading.value;
  if (!isJsonObject(file) || !isJsonObject(file['settings']))
    throw new Error('it is damaged: no "settings"');
  const { format, history = [], apiKeys = {} } = file;
  if (format !== FORMAT && format !== KEYS_FORMAT) {
    throw new Error(`its format is ${format}, and this program reads ${FORMAT} and ${KEYS_FORMAT}`);
  }
  if (!isJsonObject(apiKeys)) throw new Error('it is damaged: "apiKeys" is no object');
  if (!Array.isArray(history)) throw new Error('it is damaged: "history" is no list');
  const stored = new Map<SettingName, StoredSetting>();
  for (const [given, entry] of Object.entries(file['settings']))
    stored.set(...parseEntry(given, entry));
  const keys = new Map(
    Object.entries(apiKeys).map(([name, key]) => [name, parseApiKey(name, key)]),
  );
  return { stored, apiKeys: keys, history: history.map(parseChange) };
}

/** Whether two files have the same settings and API keys, with the same users and times. */
export function sameSettings(left: SettingsFile, right: SettingsFile): boolean {
  return formatSettings({ ...left, history: [] }) === formatSettings({ ...right, history: [] });
}

function formatApiKey({ user, digest, createdBy, createdAt, expiresAt }: ApiKey): object {
  const expires = expiresAt === undefined ? null : new Date(expiresAt).toISOString();
  return { user, sha256: digest, createdBy, created: new Date(createdAt).toISOString(), expires };
}

function parseApiKey(name: string, key: unknown): ApiKey {
  const { user, sha256, createdBy, created, expires } = isJsonObject(key) ? key : {};
  const isText = [user, sha256, createdBy, created].every((member) => typeof member === 'string');
  // A key without `expires` was truncated. It must not mean "never expires".
  if (!isText || (expires !== null && typeof expires !== 'string')) {
    throw new Error(
      `API key ${name}: it has not its "user", "sha256", "createdBy", "created" and "expires"`,
    );
  }
  return checkApiKey({
    name,
    user: String(user),
    digest: String(sha256),
    createdBy: String(createdBy),
    createdAt: Date.parse(String(created)),
    expiresAt: expires === null ? undefined : Date.parse(expires),
  });
}

function parseChange(change: unknown): HistoryEntry {
  const { name, value, user, at } = isJsonObject(change) ? change : {};
  const time = typeof at === 'string' ? Date.parse(at) : Number.NaN;
  const reset = value === null;
  if (
    typeof name !== 'string' ||
    (typeof value !== 'string' && !reset) ||
    typeof user !== 'string' ||
    Number.isNaN(time)
  ) {
    throw new Error('it is damaged: a change in "history" has not its name, value, user and time');
  }
  return { name, text: reset ? undefined : value, user, at: time };
}

function parseEntry(given: string, entry: unknown): [SettingName, StoredSetting] {
  try {
    const name = findSetting(given);
    const { value, user, at } = isJsonObject(entry) ? entry : {};
    const time = typeof at === 'string' ? Date.parse(at) : Number.NaN;
    if (typeof value !== 'string' || typeof user !== 'string' || Number.isNaN(time)) {
      throw new Error('it has no "value" and "user" that are strings, and "at" that is a time');
    }
    return [name, { text: parseSetting(name, value).text, user, at: time }];
  } catch (error) {
    throw new Error(`setting ${given}: ${errorText(error)}`, { cause: error });
  }
}
