/**
 * The startup parameter `options`: command-line options for the server process in one string
 * (manual 54.2.1 and 32.1.2). The option `crdb:jwt_auth_enabled` is for the front-end and is taken
 * out. The rest keeps its bytes and its escapes; text is handled as latin1 so that no byte changes.
 *
 * The grammar is that of the server's pg_split_opts: white space separates words, and a backslash
 * takes the next character literally.
 *
 *     options = "--crdb:jwt_auth_enabled=true -c geqo=off -csearch_path=a\ b"
 */
import { PgError } from '../lib/errors.ts';
import { formatText } from '../lib/text.ts';

/** A word of the options. Its text without escapes is the bytes from `from` to `to`. */
interface Word {
  readonly bytes: Uint8Array;
  readonly from: number;
  readonly to: number;
  /** Its place in the text as sent. */
  readonly start: number;
}

/** A setting in the options: `-c name=value`, `-cname=value` or `--name=value`. */
interface NamedOption {
  /** The word that has the name, and where the name begins in its bytes. */
  readonly word: Word;
  readonly at: number;
  /** Whether it follows `-c` or `--`. A word without them is recognised only for an error. */
  readonly prefixed: boolean;
  /** The words that it consists of: index of the first, and of the one behind the last. */
  readonly first: number;
  readonly end: number;
}

/** The option with which a client says that its password is a token. */
export const JWT_OPTION = 'crdb:jwt_auth_enabled';

/**
 * Words of the options, and of each decoded reading of them. The work of a login grows with them,
 * and a packet has room for 4,900. Drivers send fewer than ten. For very many settings there is
 * ALTER ROLE.
 */
const WORD_LIMIT = 128;

/** The texts of Go's strconv.ParseBool, with which CockroachDB reads the value. */
const TRUE_TEXTS: ReadonlySet<string> = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const FALSE_TEXTS: ReadonlySet<string> = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/**
 * Takes `crdb:jwt_auth_enabled` out of the options. If the text as sent does not have it, the
 * percent-decoded text is searched, because some drivers encode twice.
 *
 * @returns enabled: the value of the option, undefined without the option; rest: the options for
 *   the backend, empty when nothing is left
 * @throws PgError 22023 for a value that is no boolean; 08P01 for the option without `=` or without
 *   `-c` or `--`, and for too many words
 */
export function takeJwtOption(text: string): { enabled: boolean | undefined; rest: string } {
  const asSent = takeFrom(text);
  if (asSent.enabled !== undefined || !/%[0-9a-f]{2}/i.test(text)) return asSent;
  const decoded = takeFrom(percentDecode(bytesOf(text)).toString('latin1'));
  return decoded.enabled === undefined ? asSent : decoded;
}

/**
 * Names that were meant to be {@link JWT_OPTION}: a part of it, or another one with CockroachDB's
 * prefix, which no setting of a database has.
 */
const NEARLY_JWT_OPTION = /jwt[^a-z]?auth|crdb:/i;

/**
 * The name of a setting that seems to be a misspelling of {@link JWT_OPTION}.
 *
 * @param names of startup parameters
 * @returns undefined if there is none
 * @throws PgError 08P01 for too many words
 */
export function misspeltJwtOption(names: readonly string[], text: string): string | undefined {
  const words = splitWords(percentDecode(bytesOf(text))).map(({ bytes, from, to }) =>
    Buffer.from(bytes.subarray(from, to)).toString(),
  );
  const [found] = [...names, ...words]
    .flatMap((word) => word.split('=', 1))
    .filter((name) => NEARLY_JWT_OPTION.test(name));
  return found;
}

function takeFrom(text: string): { enabled: boolean | undefined; rest: string } {
  const words = splitWords(bytesOf(text));
  const ours = namedOptions(words).filter((option) => isNamed(option, JWT_OPTION));
  return { enabled: ours.map(parseJwtOption).at(-1), rest: without(text, words, ours) };
}

function parseJwtOption({ word, at, prefixed }: NamedOption): boolean {
  const behind = at + JWT_OPTION.length;
  if (behind === word.to || !prefixed) {
    throw new PgError({
      code: 'malformed_option',
      message:
        `option "${shown(word)}" is not of the form ` +
        `--${JWT_OPTION}=true or -c ${JWT_OPTION}=true`,
    });
  }
  return parseJwtValue(word.bytes.subarray(behind + 1, word.to));
}

/**
 * Reads the value of {@link JWT_OPTION}.
 *
 * @throws PgError 22023 for a value that is no boolean
 */
export function parseJwtValue(bytes: Uint8Array): boolean {
  const value = Buffer.from(bytes);
  const text = value.toString('latin1');
  if (TRUE_TEXTS.has(text)) return true;
  if (FALSE_TEXTS.has(text)) return false;
  throw new PgError({
    code: 'invalid_option_value',
    message: `invalid value for ${JWT_OPTION}: "${formatText(value.toString())}"`,
    hint: 'Allowed are true and false, t and f, 1 and 0.',
  });
}

/** A stranger's text for a message: cut and made printable. */
function shown({ bytes, from, to }: Word): string {
  return formatText(Buffer.from(bytes.subarray(from, to)).toString());
}

/**
 * The options without those of these names. CockroachDB decodes the percent escapes of the whole
 * text and reads `+` as a space before it splits the text. An option that appears only in that
 * reading is removed too, with the whole word that hides it.
 *
 * @param names in lower case and with `_` for `-`. One that ends with a dot stands for all names
 *   that begin with it
 * @throws PgError 08P01 for too many words
 */
export function dropOptions(text: string, names: readonly string[]): string {
  const isDropped = (option: NamedOption): boolean => names.some((name) => isNamed(option, name));
  const hides = ({ bytes, from, to }: Word | undefined = NO_WORD): boolean => {
    const own = bytes.subarray(from, to);
    if (!own.includes(PERCENT) && !own.includes(PLUS)) return false;
    return namedOptions(splitWords(asCockroachReads(own))).some(isDropped);
  };
  const words = splitWords(bytesOf(text));
  const dropped = namedOptions(words).filter(
    (option) => isDropped(option) || hides(words[option.end - 1]),
  );
  return without(text, words, dropped);
}

/**
 * Whether a backend may find one of these settings in the options. PostgreSQL's getopt allows flags
 * in one word with an option (`-ecrole=x`), and CockroachDB decodes the text first.
 *
 * @param names as for {@link dropOptions}
 * @throws PgError 08P01 for too many words
 */
export function namesSetting(text: string, names: readonly string[]): boolean {
  const readings = [bytesOf(text)];
  // NEL and the no-break space separate words if the server's C library calls them white space
  // (BSD, macOS).
  if (/[\x85\xa0]/.test(text)) readings.push(bytesOf(text.replace(/[\x85\xa0]/g, ' ')));
  if (text.includes('%')) readings.push(percentDecode(bytesOf(text)));
  if (/\+|%2b/i.test(text)) readings.push(asCockroachReads(bytesOf(text)));
  return readings.some((reading) =>
    getoptSettings(splitWords(reading)).some((setting) =>
      names.some((name) => isNamed(setting, name)),
    ),
  );
}

/** Options that take an argument, from PostgreSQL's process_postgres_switches. */
const WITH_ARGUMENT: Uint8Array = Uint8Array.from({ length: 256 }, (_, byte) =>
  'BCcDdfhkNprStvW-'.includes(String.fromCharCode(byte)) ? 1 : 0,
);

/** The settings that getopt finds. */
function getoptSettings(words: readonly Word[]): Pick<NamedOption, 'word' | 'at'>[] {
  const settings: Pick<NamedOption, 'word' | 'at'>[] = [];
  for (let index = 0; index < words.length; index++) {
    const { bytes, from, to } = words[index] ?? NO_WORD;
    const isDashes = to - from === 2 && bytes[from + 1] === DASH;
    if (bytes[from] !== DASH || isDashes) continue;
    let letter = from + 1;
    while (letter < to && !WITH_ARGUMENT[bytes[letter] ?? 0]) letter++;
    if (letter === to) continue;
    const inWord = letter + 1 < to;
    const word = inWord ? words[index] : words[++index];
    const isSetting = bytes[letter] === LETTER_C || bytes[letter] === DASH;
    if (word && isSetting) settings.push({ word, at: inWord ? letter + 1 : word.from });
  }
  return settings;
}

const PERCENT = 0x25;
const PLUS = 0x2b;
const DASH = 0x2d;
const EQUALS = 0x3d;
const LETTER_C = 0x63;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
const UNDERSCORE = 0x5f;

const NO_WORD: Word = { bytes: new Uint8Array(), from: 0, to: 0, start: 0 };

/** White space of the C locale: space, tab, newline, vertical tab, form feed, carriage return. */
const IS_SPACE: Uint8Array = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte === SPACE || (byte >= 0x09 && byte <= 0x0d) ? 1 : 0,
);

/**
 * As pg_split_opts of the server's postinit.c. The bytes then belong to the words: a word is never
 * longer than its escaped form, and is unescaped in place.
 *
 * @throws PgError 08P01 for too many words
 */
function splitWords(bytes: Uint8Array): Word[] {
  const words: Word[] = [];
  const { length } = bytes;
  for (let at = 0; at < length; at++) {
    if (IS_SPACE[bytes[at] ?? 0]) continue;
    if (words.length === WORD_LIMIT) throw tooManyWords();
    const start = at;
    let to = at;
    for (; at < length; at++) {
      let byte = bytes[at] ?? 0;
      if (IS_SPACE[byte]) break;
      if (byte === BACKSLASH) {
        if (++at === length) break;
        byte = bytes[at] ?? 0;
      }
      bytes[to++] = byte;
    }
    words.push({ bytes, from: start, to, start });
  }
  return words;
}

function tooManyWords(): PgError {
  return new PgError({
    code: 'too_many_options',
    message: 'too many words in options',
    reason: `the startup parameter options has more than ${WORD_LIMIT} words`,
  });
}

function namedOptions(words: readonly Word[]): NamedOption[] {
  const options: NamedOption[] = [];
  for (let first = 0; first < words.length; first++) {
    const word = words[first] ?? NO_WORD;
    const { bytes, from, to } = word;
    const next = words[first + 1];
    const second = bytes[from] === DASH && from + 1 < to ? bytes[from + 1] : undefined;
    const isPrefixed = second === DASH || second === LETTER_C;
    if (second === LETTER_C && to - from === 2 && next) {
      options.push({ word: next, at: next.from, prefixed: true, first, end: first + 2 });
      first++;
    } else if (isPrefixed && to - from > 2 && !beginsWith(bytes, from, to, `_${JWT_OPTION}`)) {
      options.push({ word, at: from + 2, prefixed: true, first, end: first + 1 });
    } else {
      let at = from;
      while (at < to && bytes[at] === DASH) at++;
      options.push({ word, at, prefixed: false, first, end: first + 1 });
    }
  }
  return options;
}

/** Whether the option has this name, or a name that begins so if it ends with a dot. */
function isNamed({ word, at }: Pick<NamedOption, 'word' | 'at'>, name: string): boolean {
  if (!beginsWith(word.bytes, at, word.to, name)) return false;
  const behind = at + name.length;
  return name.endsWith('.') || behind === word.to || word.bytes[behind] === EQUALS;
}

/**
 * Whether the name is at this place: in any case and with `-` or `_`, as the server's
 * ParseLongOption and CockroachDB read it.
 */
function beginsWith(bytes: Uint8Array, at: number, to: number, name: string): boolean {
  if (to - at < name.length) return false;
  for (let index = 0; index < name.length; index++) {
    const byte = bytes[at + index] ?? 0;
    const isUpper = byte >= 0x41 && byte <= 0x5a;
    const folded = isUpper ? byte | 0x20 : byte === DASH ? UNDERSCORE : byte;
    if (folded !== name.charCodeAt(index)) return false;
  }
  return true;
}

/** The text without the words of these options; all other bytes stay. */
function without(text: string, words: readonly Word[], options: readonly NamedOption[]): string {
  const dropped = new Set<number>();
  for (const { first, end } of options) {
    for (let index = first; index < end; index++) dropped.add(index);
  }
  if (dropped.size === words.length) return '';
  if (dropped.size === 0) return text;
  let rest = text.slice(0, words[0]?.start);
  words.forEach(({ start }, index) => {
    if (!dropped.has(index)) rest += text.slice(start, words[index + 1]?.start);
  });
  return rest;
}

/** The bytes of a text, for {@link splitWords}. */
function bytesOf(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** Percent escapes are decoded, and then `+` is a space. */
function asCockroachReads(bytes: Uint8Array): Buffer {
  const decoded = percentDecode(bytes);
  for (let at = 0; at < decoded.length; at++) if (decoded[at] === PLUS) decoded[at] = SPACE;
  return decoded;
}

/** Valid %XX become bytes. Everything else stays, `+` too. */
function percentDecode(bytes: Uint8Array): Buffer {
  const decoded = Buffer.allocUnsafe(bytes.length);
  let to = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    const high = byte === PERCENT ? hexDigit(bytes[at + 1]) : -1;
    const low = high < 0 ? -1 : hexDigit(bytes[at + 2]);
    if (low >= 0) at += 2;
    decoded[to++] = low < 0 ? byte : high * 16 + low;
  }
  return decoded.subarray(0, to);
}

/** The value of a hexadecimal digit; -1 for any other byte. */
function hexDigit(byte = 0): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1;
}
