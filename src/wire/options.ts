/**
 * The startup parameter `options`: command-line options for the server process in one string
 * (manual 54.2.1 and 32.1.2). `crdb:jwt_auth_enabled` and `pgsso:device_login` are taken
 * out: they are for the front-end. The rest keeps its bytes and its escapes; text is handled as
 * latin1 so that no byte changes.
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
  readonly bytes: Buffer;
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
 * Words of the options, and of each decoded reading of them; also of what all words hide. The work
 * of a login grows with them, and a packet has room for 4,900. Drivers send fewer than ten. For
 * very many settings there is ALTER ROLE.
 */
const WORD_LIMIT = 128;

/** The option with which a client asks to be told where to sign in. */
export const DEVICE_OPTION = 'pgsso:device_login';

/** The texts of Go's strconv.ParseBool, with which CockroachDB reads the value. */
const TRUE_TEXTS: ReadonlySet<string> = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const FALSE_TEXTS: ReadonlySet<string> = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/** What the options of a startup packet say. */
export interface LoginOptions {
  /** The value of {@link JWT_OPTION}; undefined without the option. */
  readonly enabled: boolean | undefined;
  /** The value of {@link DEVICE_OPTION}; undefined without the option. */
  readonly device: boolean | undefined;
  /** The options for the backend; empty when nothing is left. */
  readonly forwarded: string;
  /** Whether a backend may find one of the wanted settings in them. */
  readonly namesSetting: boolean;
  /** What seems to be a misspelt {@link JWT_OPTION}; undefined if there is the right one. */
  readonly misspelt: string | undefined;
}

/**
 * Names that were meant to be {@link JWT_OPTION}: a part of it, or another one with CockroachDB's
 * prefix, which no setting of a database has.
 */
const NEARLY_JWT_OPTION = /jwt[^a-z]?auth|crdb:/i;

/** Whether the name of a setting seems to be a misspelling of {@link JWT_OPTION}. */
export function resemblesJwtOption(name: string): boolean {
  return NEARLY_JWT_OPTION.test(name);
}

/** Options in one of their readings. */
interface Reading {
  readonly text: string;
  readonly words: readonly Word[];
}

/**
 * Takes the options for the front-end and the withheld ones out of the options, and looks for
 * settings. If the text as sent has none for the front-end, the percent-decoded text is searched,
 * because some drivers encode twice.
 *
 * CockroachDB decodes the percent escapes of the whole text and reads `+` as a space before it
 * splits the text. An option that appears only in that reading is withheld too, with the whole word
 * that hides it.
 *
 * @param withheld names in lower case and with `_` for `-`. One that ends with a dot stands for all
 *   names that begin with it
 * @param wanted the settings to look for, in the same form
 * @throws PgError 22023 for a value that is no boolean; 08P01 for an option for the front-end
 *   without `=` or without `-c` or `--`, and for too many words
 */
export function readOptions(
  text: string,
  withheld: readonly string[],
  wanted: readonly string[],
): LoginOptions {
  if (text === '') return NO_OPTIONS;
  const asSent = read(text, bytesOf(text));
  const isPlain = hasOwnOption(asSent) || !VALID_ESCAPE.test(text);
  const decoded = isPlain ? undefined : decode(text);
  const source = decoded && hasOwnOption(decoded) ? decoded : asSent;

  const options = namedOptions(source.words);
  const enabled = lastValue(options, JWT_OPTION);
  const device = lastValue(options, DEVICE_OPTION);
  const isWithheld = (option: NamedOption): boolean =>
    withheld.some((name) => isNamed(option, name));
  let limit = WORD_LIMIT;
  const hides = (word: Word = NO_WORD): boolean => {
    const hidden = hiddenWords(word, limit);
    limit -= hidden.length;
    return namedOptions(hidden).some(isWithheld);
  };
  const dropped = options.filter(
    (option) => isOwn(option) || isWithheld(option) || hides(source.words[option.end - 1]),
  );
  const forwarded = without(source, dropped);
  const names = (words: readonly Word[]): boolean =>
    getoptSettings(words).some((setting) => wanted.some((name) => isNamed(setting, name)));
  const { plain, readings } = readingsOf(forwarded, asSent, decoded);
  return {
    enabled,
    device,
    forwarded: forwarded.text,
    namesSetting: readings.some(names),
    misspelt: enabled === undefined ? plain.map(nameIn).find(resemblesJwtOption) : undefined,
  };
}

const NO_OPTIONS: LoginOptions = {
  enabled: undefined,
  device: undefined,
  forwarded: '',
  namesSetting: false,
  misspelt: undefined,
};

/** What stands before the `=` of a word. */
function nameIn({ bytes, from, to }: Word): string {
  const word = bytes.subarray(from, to);
  const equals = word.indexOf(EQUALS);
  return word.toString('utf8', 0, equals < 0 ? word.length : equals);
}

function read(text: string, bytes: Buffer): Reading {
  return { text, words: splitWords(bytes) };
}

const VALID_ESCAPE = /%[0-9a-f]{2}/i;

/** The percent-decoded reading. */
function decode(text: string): Reading {
  const bytes = percentDecode(bytesOf(text));
  return read(bytes.toString('latin1'), bytes);
}

/** Whether an option is for the front-end. */
function isOwn(option: NamedOption): boolean {
  return isNamed(option, JWT_OPTION) || isNamed(option, DEVICE_OPTION);
}

function hasOwnOption({ words }: Reading): boolean {
  return namedOptions(words).some(isOwn);
}

/** The words that CockroachDB finds in a word. */
function hiddenWords({ bytes, from, to }: Word, limit: number): readonly Word[] {
  const own = bytes.subarray(from, to);
  if (!own.includes(PERCENT) && !own.includes(PLUS)) return [];
  return splitWords(spaceForPlus(percentDecode(own)), IS_SPACE, limit);
}

/**
 * The words of the options in the ways in which backends read them. PostgreSQL's getopt allows
 * flags in one word with an option (`-ecrole=x`), and CockroachDB decodes the text first.
 *
 * @param asSent and `decoded`: readings of the text before options were taken out of it
 * @returns all of them; plain: the percent-decoded one
 */
function readingsOf(
  forwarded: Reading,
  asSent: Reading,
  decoded: Reading | undefined,
): { readonly plain: readonly Word[]; readonly readings: readonly (readonly Word[])[] } {
  const { text } = forwarded;
  const readings = [forwarded.words];
  // NEL and the no-break space separate words if the server's C library calls them white space
  // (BSD, macOS).
  if (/[\x85\xa0]/.test(text)) readings.push(splitWords(bytesOf(text), IS_WIDE_SPACE));
  let plain = forwarded;
  if (text === asSent.text) plain = decoded ?? forwarded;
  else if (VALID_ESCAPE.test(text)) plain = decode(text);
  if (plain !== forwarded) readings.push(plain.words);
  if (plain.text.includes('+')) readings.push(splitWords(spaceForPlus(bytesOf(plain.text))));
  return { plain: plain.words, readings };
}

/** The value of an option, of which the last counts. Undefined without it. */
function lastValue(options: readonly NamedOption[], name: string): boolean | undefined {
  return options
    .filter((option) => isNamed(option, name))
    .map((option) => parseOption(option, name))
    .at(-1);
}

function parseOption({ word, at, prefixed }: NamedOption, name: string): boolean {
  const behind = at + name.length;
  if (behind === word.to || !prefixed) {
    throw new PgError({
      code: 'malformed_option',
      message: `option "${shown(word)}" is not of the form --${name}=true or -c ${name}=true`,
    });
  }
  return parseOptionValue(word.bytes.subarray(behind + 1, word.to), name);
}

/**
 * Reads the value of an option for the front-end.
 *
 * @throws PgError 22023 for a value that is no boolean
 */
export function parseOptionValue(bytes: Uint8Array, name: string): boolean {
  const value = Buffer.from(bytes);
  const text = value.toString('latin1');
  if (TRUE_TEXTS.has(text)) return true;
  if (FALSE_TEXTS.has(text)) return false;
  throw new PgError({
    code: 'invalid_option_value',
    message: `invalid value for ${name}: "${formatText(value.toString())}"`,
    hint: 'Allowed are true and false, t and f, 1 and 0.',
  });
}

/** A stranger's text for a message: cut and made printable. */
function shown({ bytes, from, to }: Word): string {
  return formatText(Buffer.from(bytes.subarray(from, to)).toString());
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

const NO_WORD: Word = { bytes: Buffer.alloc(0), from: 0, to: 0, start: 0 };

/** White space of the C locale: space, tab, newline, vertical tab, form feed, carriage return. */
const IS_SPACE: Uint8Array = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte === SPACE || (byte >= 0x09 && byte <= 0x0d) ? 1 : 0,
);

/** The same with NEL and the no-break space. */
const IS_WIDE_SPACE: Uint8Array = Uint8Array.from(IS_SPACE, (isSpace, byte) =>
  byte === 0x85 || byte === 0xa0 ? 1 : isSpace,
);

/**
 * As pg_split_opts of the server's postinit.c. The bytes then belong to the words: a word is never
 * longer than its escaped form, and is unescaped in place.
 *
 * @throws PgError 08P01 for too many words
 */
function splitWords(bytes: Buffer, isSpace = IS_SPACE, limit = WORD_LIMIT): Word[] {
  const words: Word[] = [];
  const { length } = bytes;
  for (let at = 0; at < length; at++) {
    if (isSpace[bytes[at] ?? 0]) continue;
    if (words.length >= limit) throw tooManyWords();
    const start = at;
    let to = at;
    for (; at < length; at++) {
      let byte = bytes[at] ?? 0;
      if (isSpace[byte]) break;
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

/** The reading without the words of these options; all other bytes stay. */
function without({ text, words }: Reading, options: readonly NamedOption[]): Reading {
  if (options.length === 0) return { text: words.length === 0 ? '' : text, words };
  const dropped = new Set<Word | undefined>();
  for (const { first, end } of options) {
    for (let index = first; index < end; index++) dropped.add(words[index]);
  }
  const left = words.filter((word) => !dropped.has(word));
  if (left.length === 0) return { text: '', words: [] };
  let rest = text.slice(0, words[0]?.start);
  words.forEach((word, index) => {
    if (!dropped.has(word)) rest += text.slice(word.start, words[index + 1]?.start);
  });
  return { text: rest, words: left };
}

/** The bytes of a text, for {@link splitWords}. */
function bytesOf(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** As CockroachDB reads a text after it has decoded the percent escapes. */
function spaceForPlus(decoded: Buffer): Buffer {
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
