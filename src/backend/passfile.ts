/**
 * libpq's password file (manual 32.16), read by its rules: `host:port:database:user:password`, `*`
 * for anything, a backslash before `:` and `\`, `#` for a comment, the first line that fits wins,
 * and a file that others may read is not used. It is kept in memory and read again on request, so
 * that a login needs no file.
 */
import { readPrivateFile } from '../lib/files.ts';
import { isSocketDirectory } from './url.ts';

/** What a password is looked up by: the backend, and who logs in there. */
export interface PasswordKey {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
}

/**
 * A line of the file. Text is latin1, so that a password in whatever encoding arrives to the byte.
 */
interface Entry {
  /** Host, port, database, user; undefined stands for `*`. */
  readonly fields: readonly (string | undefined)[];
  readonly password: string;
}

/**
 * A Unix socket in the default directory is `localhost`: PostgreSQL's own default, and the one of
 * Debian and Red Hat.
 */
const DEFAULT_SOCKET_DIRECTORIES: ReadonlySet<string> = new Set([
  '/tmp',
  '/var/run/postgresql',
  '/run/postgresql',
]);

/** The passwords of a password file. */
export class PasswordFile {
  readonly #path: string;
  readonly #name: string;
  #entries: readonly Entry[] = [];

  private constructor(path: string, name: string) {
    this.#path = path;
    this.#name = name;
  }

  /**
   * Reads a password file.
   *
   * @param name what errors call it: the option or parameter that it was given with
   * @throws PgError F0000 when it cannot be read, is no plain file, or group or world have access
   *   to it
   */
  static async open(path: string, name = 'password file'): Promise<PasswordFile> {
    const file = new PasswordFile(path, name);
    await file.reload();
    return file;
  }

  /** Reads the file again. Throws as open does; the passwords known so far then stay in use. */
  async reload(): Promise<void> {
    this.#entries = parsePasswordFile(
      (await readPrivateFile(this.#name, this.#path)).toString('latin1'),
    );
  }

  /** The password of the first line that fits; undefined when none does. */
  find(key: PasswordKey): Buffer | undefined {
    return findPassword(this.#entries, key);
  }
}

/**
 * The lines of a password file, given as latin1. A line of fewer than five fields never fits, as in
 * libpq.
 */
export function parsePasswordFile(text: string): readonly Entry[] {
  return text.split('\n').flatMap((line) => parseLine(line.replace(/\r$/, '')));
}

/** The password for a login; undefined when no line fits. */
export function findPassword(entries: readonly Entry[], key: PasswordKey): Buffer | undefined {
  const wanted = [key.host, String(key.port), key.database, key.user].map((field) =>
    Buffer.from(field).toString('latin1'),
  );
  const local = isSocketDirectory(key.host) && DEFAULT_SOCKET_DIRECTORIES.has(key.host);
  const fits = ({ fields }: Entry): boolean =>
    fields.every(
      (field, at) =>
        field === undefined || field === wanted[at] || (at === 0 && local && field === 'localhost'),
    );
  const found = entries.find(fits);
  return found && Buffer.from(found.password, 'latin1');
}

/**
 * Four fields and the password, which a further colon ends; a backslash at the very end stands for
 * itself.
 */
const LINE =
  /^((?:\\.|[^:\\])*):((?:\\.|[^:\\])*):((?:\\.|[^:\\])*):((?:\\.|[^:\\])*):((?:\\.|[^:\\]|\\$)*)/s;

function parseLine(line: string): Entry[] {
  const match = line.startsWith('#') ? null : LINE.exec(line);
  if (!match) return [];
  const [host, port, database, user, password] = match.slice(1);
  return [
    {
      fields: [host, port, database, user].map(parseField),
      password: unescapeField(password ?? ''),
    },
  ];
}

function parseField(text: string | undefined): string | undefined {
  return text === undefined || text === '*' ? undefined : unescapeField(text);
}

function unescapeField(text: string): string {
  return text.replace(/\\(.)/gs, '$1');
}
