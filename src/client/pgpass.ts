/**
 * One line of a password file (manual 32.16), for programs that can read a password from there and
 * nothing else. The other lines stay as they are.
 */

import { createHash } from 'node:crypto';
import { lstat, readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { withFileLock } from '../lib/file-lock.ts';
import { isErrno, replaceFile } from '../lib/files.ts';
import { privateFolder } from './folders.ts';

/** Where a password is for. Each field is a text or `*`. */
export interface PgpassFields {
  readonly host: string;
  readonly port: string;
  readonly dbname: string;
  readonly user: string;
}

/** The bits of the directory's mode that matter: writable for others, and sticky. */
const OTHERS_WRITE = 0o022;
const STICKY = 0o1000;

/**
 * Puts the password into the file's line for these fields, atomically and with mode 0600. A new
 * line is put before the first one that would hide it: libpq takes the first line that fits.
 *
 * @param state the folder for the lock, since several processes may write to the file
 * @throws Error if the file is a symbolic link, or is not this user's
 */
export async function writePgpass(
  path: string,
  fields: PgpassFields,
  password: string,
  state: string,
  signal: AbortSignal,
): Promise<void> {
  const file = resolve(path);
  const hash = createHash('sha256').update(file).digest('hex').slice(0, 32);
  await withFileLock(join(await privateFolder(state), `pgpass-${hash}.lock`), signal, async () => {
    await checkDirectory(dirname(file));
    const text = placeLine(await readOwn(file), fields, password);
    await replaceFile(dirname(file), basename(file), text);
  });
}

/** The text of the file with the line in it. */
export function placeLine(text: string, fields: PgpassFields, password: string): string {
  const own = [fields.host, fields.port, fields.dbname, fields.user];
  const line = [...own.map(escapeField), escaped(password)].join(':');
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  const parsed = lines.map(splitFields);
  const same = parsed.findIndex((other) => own.every((field, index) => field === other?.[index]));
  const hiding = parsed.findIndex((other) =>
    own.every((field, index) => other?.[index] === '*' || other?.[index] === field),
  );
  if (same >= 0 && same === hiding) lines[same] = line;
  else {
    const rest = lines.filter((_, index) => index !== same);
    const at = hiding < 0 ? rest.length : hiding;
    return `${[...rest.slice(0, at), line, ...rest.slice(at)].join('\n')}\n`;
  }
  return `${lines.join('\n')}\n`;
}

/** The first four fields without escapes; undefined for a comment or another kind of line. */
function splitFields(line: string): string[] | undefined {
  if (line.startsWith('#')) return undefined;
  const fields = [...line.matchAll(/((?:\\.|[^:\\])*)(?::|$)/g)].map(([, field = '']) =>
    field.replace(/\\(.)/g, '$1'),
  );
  return fields.length < 5 ? undefined : fields.slice(0, 4);
}

function escapeField(field: string): string {
  if (/[\r\n\0]/.test(field)) throw new Error('a field of the password file has a line break');
  return escaped(field);
}

function escaped(text: string): string {
  return text.replace(/[\\:]/g, '\\$&');
}

/** In a directory that others can write to, they could exchange the file. */
async function checkDirectory(directory: string): Promise<void> {
  const { mode } = await lstat(directory);
  if ((mode & OTHERS_WRITE) !== 0 && (mode & STICKY) === 0)
    throw new Error(`--pgpass: other users can write to ${directory}; choose another folder`);
}

async function readOwn(file: string): Promise<string> {
  try {
    const status = await lstat(file);
    if (status.isSymbolicLink())
      throw new Error(`--pgpass: ${file} is a symbolic link; name the file that it leads to`);
    if (!status.isFile()) throw new Error(`--pgpass: ${file} is not a plain file`);
    if (process.getuid && status.uid !== process.getuid())
      throw new Error(`--pgpass: ${file} belongs to another user`);
    return await readFile(file, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
