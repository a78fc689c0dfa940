/** The directory out of the option that names it. */
import { Directory, type DirectoryTask } from '../directory/directory.ts';
import { directorySettings, needsDirectory, type Vet } from '../settings/store/store.ts';
import { openDatabaseLogin } from './database-login.ts';

/** The part of the options of `pgsso serve` that is about the directory. */
export interface DirectoryOptions {
  readonly directory?: string | undefined;
  /** Whether the URL stands in the command line, where everybody can read it. */
  readonly directoryFromFlag?: boolean;
}

/** A directory that can be asked, with what has to be read again on SIGHUP. */
export interface OpenDirectory {
  readonly directory: Directory;
  /** Its SQL user. */
  readonly user: string;
  /** Reads the files that the URL names again. */
  reload(): Promise<void>;
}

/**
 * Opens the directory, without asking it for anything yet; undefined without the option.
 *
 * @throws UsageError for a URL that cannot be right; Error for a file that cannot be read
 */
export async function openDirectory(options: DirectoryOptions): Promise<OpenDirectory | undefined> {
  if (options.directory === undefined) return undefined;
  const login = await openDatabaseLogin(
    '--directory',
    options.directory,
    options.directoryFromFlag ? 'flag' : 'environment',
  );
  const directory = new Directory(login);
  return {
    directory,
    user: login.user,
    async reload() {
      await login.reload();
      directory.reopen();
    },
  };
}

/*
 * Whether the settings that need the directory can be switched on: its role has to be able to do
 * what they ask for.
 */

const tasks: Readonly<Record<(typeof directorySettings)[number], DirectoryTask>> = {
  'security.provisioning.jwt.enabled': 'create',
  'server.jwt_authentication.authorization.enabled': 'grant',
};

/** Asks the directory about the settings that were changed and are on. */
export function vetWithDirectory(directory: Directory): Vet {
  return async (values, changed) => {
    for (const name of directorySettings) {
      if (!values[name] || !changed.has(name)) continue;
      const problem = await directory.problem(tasks[name]);
      if (problem !== undefined)
        throw needsDirectory(name, `cannot be switched on: --directory: ${problem}`);
    }
  };
}
