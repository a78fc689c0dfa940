/**
 * Opens the directory that `--directory` names, and checks that its role has the rights which the
 * settings ask for.
 */
import type { UrlSources } from '../backend/url.ts';
import { Directory, type DirectoryTask } from '../directory/directory.ts';
import { directorySettings, needsDirectory, type Vet } from '../settings/store/store.ts';
import { openDatabaseLogin } from './database-login.ts';

/** The options of `pgsso serve` about the directory. */
export interface DirectoryOptions extends UrlSources {
  readonly directory?: string | undefined;
}

/** A directory, with its files. */
export interface OpenDirectory {
  readonly directory: Directory;
  /** The SQL user that pgsso logs in as there. */
  readonly user: string;
  /**
   * Reads the files that the URL names again.
   *
   * @throws Error for a file that cannot be read; the previous content stays in use
   */
  reload(): Promise<void>;
}

/** What the directory's role has to be able to do for a setting. */
const tasks: Readonly<Record<(typeof directorySettings)[number], DirectoryTask>> = {
  'security.provisioning.jwt.enabled': 'create',
  'server.jwt_authentication.authorization.enabled': 'grant',
};

/**
 * Opens the directory. It is not connected to yet.
 *
 * @returns undefined without `--directory`
 * @throws UsageError for a URL that cannot be right; Error for a file that cannot be read
 */
export async function openDirectory(options: DirectoryOptions): Promise<OpenDirectory | undefined> {
  if (options.directory === undefined) return undefined;
  const source = options.sourceOf('directory');
  const login = await openDatabaseLogin('--directory', options.directory, source);
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
