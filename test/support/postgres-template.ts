/**
 * Data directories as initdb makes them. A cluster for tests is a copy of a template, since a copy
 * takes a tenth of the time of initdb. The templates stay in the temporary directory for the next
 * test, of this run or of a later one. A copy shares nothing with its template.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { ServerUser } from './postgres-install.ts';

const run = promisify(execFile);

/** What {@link makeDataDirectory} takes. */
export interface DataDirectory {
  /** The path. It does not exist yet; the server's user can write in the directory that has it. */
  readonly path: string;
  /** The directory with `bin/` of the server. */
  readonly native: string;
  readonly user: ServerUser;
  readonly env: NodeJS.ProcessEnv;
}

/** Small WAL segments: initdb fills one, and every cluster would copy 16 MB of zeros. */
const flags = [
  '--no-sync',
  '--auth=trust',
  '--no-locale',
  '--encoding=UTF8',
  '--username=postgres',
  '--wal-segsize=1',
];

/** An unfinished copy that is older than this belongs to a process that was killed. */
const abandonedAfterMs = 600_000;

/** Makes a data directory as initdb does: a copy of the template if there is one. */
export async function makeDataDirectory(wanted: DataDirectory): Promise<void> {
  const directory = templateDirectory(process.getuid?.());
  if (directory === undefined) return await initdb(wanted);
  const template = join(directory, templateName(wanted));
  if (existsSync(template)) return await copy(template, wanted.path);
  await initdb(wanted);
  await keepTemplate(wanted.path, template);
}

/**
 * The directory of the templates of a user. Undefined if somebody else could have put a template
 * there: the temporary directory is open to all.
 */
export function templateDirectory(
  uid: number | undefined,
  parent = realpathSync(tmpdir()),
): string | undefined {
  const path = join(parent, `pgsso-templates-${uid ?? 'user'}`);
  // Readable for all: the server may run as another user than the tests.
  mkdirSync(path, { recursive: true, mode: 0o755 });
  const place = lstatSync(path);
  const isOurs = uid === undefined || place.uid === uid;
  return place.isDirectory() && isOurs && (place.mode & 0o022) === 0 ? path : undefined;
}

/** Differs for every build of PostgreSQL, user of the server and list of flags. */
function templateName({ native, user }: DataDirectory): string {
  const digest = createHash('sha256')
    .update(readFileSync(join(native, 'bin', 'initdb')))
    .update(JSON.stringify([user, flags]))
    .digest('hex');
  return `pg-${digest.slice(0, 32)}`;
}

async function initdb({ path, native, user, env }: DataDirectory): Promise<void> {
  // The server's user may be unable to enter the current directory.
  await run(join(native, 'bin', 'initdb'), [...flags, '--pgdata', path], {
    ...user,
    cwd: dirname(path),
    env,
  });
}

/**
 * Makes a template of a data directory that no server has used. It gets its name when it is
 * complete. If another process was faster, that one's template stays.
 */
export async function keepTemplate(dataDirectory: string, template: string): Promise<void> {
  await removeAbandoned(dirname(template));
  const unfinished = await mkdtemp(`${template}.unfinished-`);
  try {
    await copy(dataDirectory, join(unfinished, 'data'));
    await rename(join(unfinished, 'data'), template);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

/** Copies with owners and modes, which PostgreSQL checks. */
async function copy(from: string, to: string): Promise<void> {
  await run('cp', ['-pR', from, to]);
}

async function removeAbandoned(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.includes('.unfinished-')) continue;
    const path = join(directory, name);
    const changed = await stat(path).then(
      ({ mtimeMs }) => mtimeMs,
      () => undefined, // Its maker has just removed it.
    );
    if (changed !== undefined && Date.now() - changed > abandonedAfterMs)
      await rm(path, { recursive: true, force: true });
  }
}
