/**
 * Opens the settings store and the data directory that the options name. Settings are stored in a
 * database (`--settings`) or else in the data directory.
 */

import { chmod, lstat, mkdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { UrlSources } from '../backend/url.ts';
import type { Directory } from '../directory/directory.ts';
import { errorText, PgError } from '../lib/errors.ts';
import type { Log } from '../observe/log.ts';
import { readProcessDefaults } from '../settings/process-defaults.ts';
import type { ProcessFacts } from '../settings/snapshot.ts';
import { FileStore } from '../settings/store/file-store.ts';
import { PostgresStore } from '../settings/store/postgres-store.ts';
import {
  directorySettings,
  type SettingsStore,
  type Vet,
  vetWithoutDirectory,
} from '../settings/store/store.ts';
import { settingWarnings } from '../settings/warnings.ts';
import { clientConfig, type DatabaseLogin, openDatabaseLogin } from './database-login.ts';
import { vetWithDirectory } from './directory.ts';

const OWNER_ONLY = 0o700;
const OTHERS = 0o077;

/** The options of `pgsso serve` about settings. */
export interface SettingsOptions extends UrlSources, ProcessFacts {
  /** `NAME=VALUE` each. */
  readonly settings: readonly string[];
  /** May hold a default of a setting for this process: PGSSO_SET_<NAME>. */
  readonly environment: NodeJS.ProcessEnv;
  /** The URL of a database. Undefined: the settings are files in the data directory. */
  readonly settingsUrl?: string | undefined;
}

/** A settings store, with its files. */
export interface OpenSettings {
  readonly settings: SettingsStore;
  /** Its files are read again on SIGHUP. Undefined if the settings are files. */
  readonly settingsLogin: DatabaseLogin | undefined;
}

/**
 * Opens the settings and checks them. A doubtful setting is logged as a warning.
 *
 * @param dataDir an absolute path
 * @param directory is asked about the settings that need one; undefined: they cannot be on
 * @throws UsageError for options that cannot be right; Error for settings that cannot be read
 */
export async function openSettings(
  options: SettingsOptions,
  dataDir: string,
  directory: Directory | undefined,
  log: Log,
): Promise<OpenSettings> {
  const vet = directory ? vetWithDirectory(directory) : vetWithoutDirectory;
  const opened = await openStore(options, dataDir, vet, log);
  try {
    await vetAtStart(opened.settings, directory, vet, log);
  } catch (error) {
    await opened.settings.close();
    throw error;
  }
  for (const warning of settingWarnings(opened.settings.current.values))
    log.warn({ event: 'settings' }, warning);
  return opened;
}

/**
 * Makes the data directory if it is missing, and checks it. A user that can write to it can change
 * settings, and so log in as anybody. It has to belong to the user of this process and to be closed
 * to others.
 *
 * @returns its absolute path
 * @throws Error with a text that names `--data-dir` and says what is wrong with it
 */
export async function openDataDir(path: string): Promise<string> {
  const directory = resolve(path);
  try {
    const made = await mkdir(directory, { recursive: true, mode: OWNER_ONLY });
    // The umask may have removed the owner's own bits from the mode of mkdir.
    if (made !== undefined) await chmod(directory, OWNER_ONLY);
    await checkDataDir(directory);
  } catch (error) {
    throw new Error(`--data-dir ${directory}: ${errorText(error)}`, { cause: error });
  }
  return directory;
}

/**
 * Checks a data directory.
 *
 * @throws Error that says what is wrong with it
 */
export async function checkDataDir(directory: string): Promise<void> {
  const status = await lstat(directory);
  if (!status.isDirectory()) throw new Error('it is not a directory');
  if (process.getuid && status.uid !== process.getuid())
    throw new Error(`it belongs to another user (uid ${status.uid})`);
  if ((status.mode & OTHERS) !== 0)
    throw new Error(`others have access to it: chmod 700 ${directory}`);
}

/**
 * A directory that lacks a right ends the start. One that cannot be reached does not, since it may
 * be back at the first login that needs it.
 */
async function vetAtStart(
  { current }: SettingsStore,
  directory: Directory | undefined,
  vet: Vet,
  log: Log,
): Promise<void> {
  try {
    const problem = await directory?.problem();
    if (problem !== undefined) throw new Error(`--directory: ${problem}`);
    await vet(current.values, new Set(directorySettings));
  } catch (error) {
    if (!(error instanceof PgError && error.code === 'directory_unavailable')) throw error;
    log.warn(
      { event: 'start', reason: error.reason },
      'the directory is away: logins that need it are refused',
    );
  }
}

async function openStore(
  { settings: assignments, environment, settingsUrl, sourceOf, nativeLogins }: SettingsOptions,
  directory: string,
  vet: Vet,
  log: Log,
): Promise<OpenSettings> {
  const onProblem = (error: Error): void =>
    log.error(
      { event: 'settings', reason: errorText(error) },
      'settings not read: the last good ones stay',
    );
  const processDefaults = readProcessDefaults(assignments, environment);
  const common = { directory, processDefaults, nativeLogins, onProblem, vet };
  if (settingsUrl === undefined) {
    const settings = await FileStore.open({ ...common, now: Date.now });
    return { settings, settingsLogin: undefined };
  }
  const settingsLogin = await openDatabaseLogin('--settings', settingsUrl, sourceOf('settings'));
  const connection = () => clientConfig(settingsLogin);
  try {
    const settings = await PostgresStore.open({ ...common, connection });
    return { settings, settingsLogin };
  } catch (error) {
    throw new Error(`--settings: ${errorText(error)}`, { cause: error });
  }
}
