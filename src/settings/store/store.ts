/**
 * Where settings live, as everybody else sees it: the current snapshot, changes by an operator, and
 * news of changes, whoever made them. The file store keeps it on one machine, the one in PostgreSQL
 * for several.
 */
import { PgError } from '../../lib/errors.ts';
import type { ApiKeyChange } from '../api-keys.ts';
import type { HistoryEntry, SettingChange } from '../changes.ts';
import type { SettingName } from '../definitions.ts';
import type { SettingsSnapshot, SettingValues } from '../snapshot.ts';

/**
 * Whether this process is able to do what settings ask for: more than a value's own text can tell.
 * Settings that are not `changed` are not looked at, so that what they need may be away while
 * others are changed.
 *
 * @throws PgError 22023 that names the setting; 57P03 when it cannot be told now
 */
export type Vet = (values: SettingValues, changed: ReadonlySet<SettingName>) => Promise<void>;

/**
 * Settings that are of no use, and must not seem to be on, without a connection that may create
 * users and grant roles.
 */
export const directorySettings = [
  'security.provisioning.jwt.enabled',
  'server.jwt_authentication.authorization.enabled',
] as const satisfies readonly SettingName[];

/** For a process without a directory. */
export const vetWithoutDirectory: Vet = async (values, changed) => {
  for (const name of directorySettings) {
    if (values[name] && changed.has(name)) {
      throw needsDirectory(
        name,
        'needs --directory: a connection to the backend that may create users and grant roles',
      );
    }
  }
};

/** The refusal of one of the directory's settings. */
export function needsDirectory(name: (typeof directorySettings)[number], what: string): PgError {
  return new PgError({
    code: 'invalid_setting_value',
    message: `cluster setting '${name}' ${what}`,
  });
}

/** The settings of this front-end and of the others that share the store. */
export interface SettingsStore {
  /** What the next login reads. */
  readonly current: SettingsSnapshot;
  /**
   * Why the settings could not be read last time, if they could not: `current` is then older. Holds
   * no value.
   */
  readonly problem: string | undefined;
  /**
   * Applies the changes in their order, all of them or none, and returns when they are durable and
   * in `current`.
   *
   * @param user the SQL user who asks; recorded with the store's own time
   * @throws PgError 22023 for a value that is not valid; another PgError when the store cannot be
   *   read, locked or written. Nothing is changed then
   */
  change(changes: readonly SettingChange[], user: string): Promise<SettingsSnapshot>;
  /**
   * Creates or drops an API key, durably and at once, as {@link SettingsStore.change}.
   *
   * @throws PgError 42710, 42704 or 54000; another when the store cannot be read, locked or
   *   written. Nothing is changed then
   */
  changeApiKeys(change: ApiKeyChange, user: string): Promise<SettingsSnapshot>;
  /**
   * The changes of all settings or of one, newest first; bounded.
   *
   * @throws PgError when they cannot be read
   */
  history(name?: SettingName): Promise<readonly HistoryEntry[]>;
  /**
   * Calls the listener with each new snapshot, after `current` has become it. Returns what ends
   * that.
   */
  watch(listener: (snapshot: SettingsSnapshot) => void): () => void;
  /**
   * Finishes the changes that were begun, then lets go of everything. Later changes are refused.
   */
  close(): Promise<void>;
}
