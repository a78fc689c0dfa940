/**
 * Where the client's side keeps its files: profiles in the user's configuration folder, and tokens
 * in the state folder (XDG base directories, and their like on macOS). Tokens are in a folder of
 * mode 0700 that belongs to the user, in files of mode 0600.
 */
import { lstat, mkdir } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import envPaths from 'env-paths';

/** The folders of one user. */
export interface ClientFolders {
  readonly config: string;
  readonly state: string;
}

/** The mode bits of group and world. */
const OTHERS = 0o077;

/**
 * The folders, by XDG_CONFIG_HOME, XDG_STATE_HOME and HOME on Linux.
 *
 * @throws Error for a relative path, which would be another folder in each working directory
 */
export function clientFolders(): ClientFolders {
  const { config, log, data } = envPaths('pgsso', { suffix: '' });
  // The library's name for the state folder is `log`; elsewhere than on Linux that is for logs.
  const state = process.platform === 'linux' ? log : data;
  for (const path of [config, state])
    if (!isAbsolute(path))
      throw new Error(`${path}: XDG_CONFIG_HOME, XDG_STATE_HOME and HOME must be absolute paths`);
  return { config, state };
}

/**
 * Makes the folder if it is missing.
 *
 * @returns its path
 * @throws Error unless it is a folder of this user that nobody else has access to
 */
export async function privateFolder(path: string): Promise<string> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const status = await lstat(path);
  if (!status.isDirectory())
    throw new Error(`${path} is not a folder; a symbolic link is not followed`);
  const me = process.getuid?.();
  if (me !== undefined && status.uid !== me)
    throw new Error(
      `${path} belongs to another user; set HOME, or XDG_CONFIG_HOME and XDG_STATE_HOME`,
    );
  if (me !== undefined && (status.mode & OTHERS) !== 0)
    throw new Error(`${path}: other users have access to it: chmod 700 ${path}`);
  return path;
}
