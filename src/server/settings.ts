/**
 * The settings out of the options that name them: where they live, and the defaults of this
 * process.
 */

import { chmod, lstat, mkdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Directory } from '../directory/directory.ts';
import { errorText, PgError } from '../lib/errors.ts';
import type { Log } from '../observe/log.ts';
import { readProcessDefaults } from '../settings/process-defaults.ts';
import { FileStore } from '../settings/store/file-store.ts';
import { PostgresStore } from '../settings/store/postgres-store.ts';
import { directorySettings, type SettingsStore, type Vet } from '../settings/store/store.ts';
import { settingWarnings } from '../settings/warnings.ts';
import { clientConfig, type DatabaseLogin, openDatabaseLogin } from './database-login.ts';

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

/** What is asked before settings that need more than a value are switched on. */
interface Vetting {
  readonly vet: Vet;
  readonly directory: Directory | undefined;
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
export async function openSettings(
  options: SettingsOptions & Vetting,
  dataDir: string,
  log: Log,
): Promise<OpenSettings> {
  const opened = await openStore(options, dataDir, log);
  try {
    await vetAtStart(opened.settings, options, log);
  } catch (error) {
    await opened.settings.close();
    throw error;
  }
  for (const warning of settingWarnings(opened.settings.current.values))
    log.warn({ event: 'settings' }, warning);
  return opened;
}

/**
 * A directory that is away at the start may be there at the first login that needs it; one that is
 * not fit for its task ends the start.
 */
async function vetAtStart(
  { current }: SettingsStore,
  { vet, directory }: Vetting,
  log: Log,
): Promise<void> {
  try {
    const problem = await directory?.problem();
    if (problem !== undefined) throw new Error(`--directory: ${problem}`);
    await vet(current.values, new Set(directorySettings));
  } catch (error) {
    if (!(error instanceof PgError && error.sqlstate === '57P03')) throw error;
    log.warn(
      { event: 'start', reason: error.reason },
      'the directory is away: logins that need it are refused',
    );
  }
}

async function openStore(
  options: SettingsOptions & Pick<Vetting, 'vet'>,
  directory: string,
  log: Log,
): Promise<OpenSettings> {
  const { vet } = options;
  const processDefaults = readProcessDefaults(options.settings, options.environment);
  const onProblem = (error: Error): void =>
    log.error(
      { event: 'settings', reason: errorText(error) },
      'settings not read: the last good ones stay',
    );
  if (options.settingsUrl === undefined) {
    const settings = await FileStore.open({
      directory,
      processDefaults,
      now: Date.now,
      onProblem,
      vet,
    });
    return { settings, settingsLogin: undefined };
  }
  const source = options.settingsUrlFromFlag ? 'flag' : 'environment';
  const settingsLogin = await openDatabaseLogin('--settings', options.settingsUrl, source);
  try {
    const connection = () => clientConfig(settingsLogin);
    return {
      settings: await PostgresStore.open({
        connection,
        directory,
        processDefaults,
        onProblem,
        vet,
      }),
      settingsLogin,
    };
  } catch (error) {
    throw new Error(`--settings: ${errorText(error)}`, { cause: error });
  }
}

/*
 * The data directory: settings, and what else has to outlive the process. Whoever can write to it
 * can let himself in, so it has to be ours and closed to others, or the start is refused.
 */

const OWNER_ONLY = 0o700;
const OTHERS = 0o077;

/**
 * Makes the directory if it is missing, and checks it.
 *
 * @returns its absolute path
 * @throws Error with a text that names `--data-dir` and says what is wrong with it
 */
export async function openDataDir(path: string): Promise<string> {
  const directory = resolve(path);
  try {
    const made = await mkdir(directory, { recursive: true, mode: OWNER_ONLY });
    // The mode of mkdir passes through the umask, which may have taken the owner's own bits.
    if (made !== undefined) await chmod(directory, OWNER_ONLY);
    const status = await lstat(directory);
    if (!status.isDirectory()) throw new Error('it is not a directory');
    if (process.getuid && status.uid !== process.getuid())
      throw new Error(`it belongs to another user (uid ${status.uid})`);
    if ((status.mode & OTHERS) !== 0)
      throw new Error(`others have access to it: chmod 700 ${directory}`);
  } catch (error) {
    throw new Error(`--data-dir ${directory}: ${errorText(error)}`, { cause: error });
  }
  return directory;
}
