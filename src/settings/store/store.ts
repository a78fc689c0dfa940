/**
 * The settings store as other code sees it: the current snapshot, changes by an operator and their
 * history. The file store serves the processes of one machine, the store in PostgreSQL several
 * machines. Settings that need a directory of users and roles are checked before they are stored.
 */
import { PgError } from '../../lib/errors.ts';
import type { ApiKeyChange } from '../api-keys.ts';
import type { HistoryEntry, SettingChange } from '../changes.ts';
import type { SettingName } from '../definitions.ts';
import type { SettingsSnapshot, SettingValues } from '../snapshot.ts';
import { invalidSetting } from '../values.ts';

/** The settings of this process and of the others that share the store. */
export interface SettingsStore {
  /** The snapshot that the next login reads. */
  readonly current: SettingsSnapshot;
  /**
   * Why the settings could not be read last time; `current` is then older. Undefined if they could
   * be read. The text holds no value of a setting.
   */
  readonly problem: string | undefined;
  /**
   * Calls the listener with each later snapshot, whoever made the change, before {@link change}
   * resolves. There is one listener.
   */
  watch(listener: (snapshot: SettingsSnapshot) => void): void;
  /**
   * Applies the changes in their order, all of them or none. Resolves when they are durable and in
   * `current`.
   *
   * @param user the SQL user who asks; recorded with the store's own time
   * @throws PgError 22023 for a value that is not valid; another PgError if the store cannot be
   *   read, locked or written. Nothing is changed then
   */
  change(changes: readonly SettingChange[], user: string): Promise<SettingsSnapshot>;
  /**
   * Creates or drops an API key, as {@link SettingsStore.change} changes settings.
   *
   * @throws PgError 42710, 42704 or 54000; another PgError if the store cannot be read, locked or
   *   written. Nothing is changed then
   */
  changeApiKeys(change: ApiKeyChange, user: string): Promise<SettingsSnapshot>;
  /**
   * The newest changes, of all settings or of one, newest first.
   *
   * @throws PgError if they cannot be read
   */
  history(name?: SettingName): Promise<readonly HistoryEntry[]>;
  /**
   * Finishes the changes that were begun, as long as that takes no more than some seconds, and
   * releases all resources. Later changes fail.
   */
  close(): Promise<void>;
}

/**
 * Checks whether this process can do what the settings ask for. Only the settings in `changed` are
 * checked, so that others can be changed while what these need is away.
 *
 * @throws PgError 22023 that names the setting; 57P03 if it cannot be checked now
 */
export type Vet = (values: SettingValues, changed: ReadonlySet<SettingName>) => Promise<void>;

/** The settings that need a connection that may create users and grant roles. */
export const directorySettings = [
  'security.provisioning.jwt.enabled',
  'server.jwt_authentication.authorization.enabled',
] as const satisfies readonly SettingName[];

/** The check of a process without a directory. */
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

/** The error of a directory's setting that cannot be switched on: 22023. */
export function needsDirectory(name: (typeof directorySettings)[number], what: string): PgError {
  return invalidSetting(`cluster setting '${name}' ${what}`);
}

/** The error of a change that comes too late: 57P01. */
export function settingsClosed(): PgError {
  return new PgError({
    code: 'settings_closed',
    message: 'the settings are closed: the front-end is shutting down',
  });
}
