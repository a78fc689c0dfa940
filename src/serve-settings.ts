/** The settings out of the options that name them: where they live, and the defaults of this process. */
import { type DatabaseLogin, openDatabaseLogin } from './database-url.ts';
import { errorText } from './errors.ts';
import type { Log } from './observe/log.ts';
import { FileStore } from './settings/file-store.ts';
import { PostgresStore } from './settings/postgres-store.ts';
import { readProcessDefaults } from './settings/process-defaults.ts';
import type { SettingsStore } from './settings/store.ts';

/** The part of the options of `pgsso serve` that is about settings. */
export interface SettingsOptions {
  /** `NAME=VALUE` each. */
  readonly settings: readonly string[];
  /** Where settings' process defaults are looked for: PGSSO_SET_<NAME>. */
  readonly environment: NodeJS.ProcessEnv;
  /** The URL of a database; without it, files in the data directory. */
  readonly settingsUrl?: string | undefined;
  /** Whether the URL stands in the command line, where everybody can read it. */
  readonly settingsUrlFromFlag?: boolean;
}

/** Settings that can be read and changed. */
export interface OpenSettings {
  readonly settings: SettingsStore;
  /** What has to be read again on SIGHUP. */
  readonly settingsLogin: DatabaseLogin | undefined;
}

/**
 * Opens the settings.
 *
 * @throws UsageError for options that cannot be right; Error for settings that cannot be read
 */
export async function openSettings(options: SettingsOptions, directory: string, log: Log): Promise<OpenSettings> {
  const processDefaults = readProcessDefaults(options.settings, options.environment);
  const onProblem = (error: Error): void =>
    log.error({ event: 'settings', reason: errorText(error) }, 'settings not read: the last good ones stay');
  if (options.settingsUrl === undefined) {
    const settings = await FileStore.open({ directory, processDefaults, now: Date.now, onProblem });
    return { settings, settingsLogin: undefined };
  }
  const source = options.settingsUrlFromFlag ? 'flag' : 'environment';
  const settingsLogin = await openDatabaseLogin('--settings', options.settingsUrl, source);
  try {
    const { connection } = settingsLogin;
    return { settings: await PostgresStore.open({ connection, directory, processDefaults, onProblem }), settingsLogin };
  } catch (error) {
    throw new Error(`--settings: ${errorText(error)}`, { cause: error });
  }
}
