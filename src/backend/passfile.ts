/**
 * libpq's password file (manual 32.16), by its rules: `host:port:database:user:password`, `*` for
 * anything, a backslash before `:` and `\`, `#` for a comment. The first matching line wins, and a
 * file with access for others is not used. The file is read at the start and on request, so a login
 * reads no file.
 */
import { readPrivateFile } from '../lib/files.ts';
import { isSocketDirectory } from './url.ts';

/** What a password is looked up by. */
export interface PasswordKey {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
}

/** A line of the file. Text is latin1, so that no byte of a password changes. */
interface Entry {
  /** Host, port, database and user. Undefined is `*`. */
  readonly fields: readonly (string | undefined)[];
  readonly password: string;
}

/**
 * A socket in a default directory is also found as `localhost`: the directory of PostgreSQL, and
 * those of Debian and Red Hat.
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
   * @param name names the file in errors: the option or parameter that it was given with
   * @throws PgError F0000 if it cannot be read, is no plain file, or if group or others have access
   *   to it
   */
  static async open(path: string, name = 'password file'): Promise<PasswordFile> {
    const file = new PasswordFile(path, name);
    await file.reload();
    return file;
  }

  /** Reads the file again. Throws as open does; the passwords read before then stay in use. */
  async reload(): Promise<void> {
    this.#entries = parsePasswordFile(
      (await readPrivateFile(this.#name, this.#path)).toString('latin1'),
    );
  }

  /** The password of the first matching line; undefined if there is none. */
  find(key: PasswordKey): Buffer | undefined {
    return findPassword(this.#entries, key);
  }
}

/**
 * The lines of a password file, which is given as latin1. A line of fewer than five fields never
 * matches, as in libpq.
 */
export function parsePasswordFile(text: string): readonly Entry[] {
  return text.split('\n').flatMap((line) => parseLine(line.replace(/\r$/, '')));
}

/** The password for a login; undefined if no line matches. */
export function findPassword(entries: readonly Entry[], key: PasswordKey): Buffer | undefined {
  const wanted = [key.host, String(key.port), key.database, key.user].map((field) =>
    Buffer.from(field).toString('latin1'),
  );
  const local = isSocketDirectory(key.host) && DEFAULT_SOCKET_DIRECTORIES.has(key.host);
  const matches = ({ fields }: Entry): boolean =>
    fields.every(
      (field, at) =>
        field === undefined || field === wanted[at] || (at === 0 && local && field === 'localhost'),
    );
  const found = entries.find(matches);
  return found && Buffer.from(found.password, 'latin1');
}

/**
 * Four fields and the password, which ends at a further colon. A backslash at the end is literal.
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
