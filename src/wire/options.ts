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

/** A word of the options: its text without escapes, and its place in the text as sent. */
interface Word {
  readonly text: string;
  readonly start: number;
}

/** A setting in the options: `-c name=value`, `-cname=value` or `--name=value`. */
interface NamedOption {
  /**
   * In lower case and with `_` for `-`, as the server's ParseLongOption and CockroachDB read it.
   */
  readonly name: string;
  readonly value: string | undefined;
  /** Whether it follows `-c` or `--`. A word without them is recognised only for an error. */
  readonly prefixed: boolean;
  /** The words that it consists of: index of the first, and of the one behind the last. */
  readonly first: number;
  readonly end: number;
}

const JWT_OPTION = 'crdb:jwt_auth_enabled';

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
 *   `-c` or `--`
 */
export function takeJwtOption(text: string): { enabled: boolean | undefined; rest: string } {
  const asSent = takeFrom(text);
  if (asSent.enabled !== undefined || !/%[0-9a-f]{2}/i.test(text)) return asSent;
  const decoded = takeFrom(percentDecode(text));
  return decoded.enabled === undefined ? asSent : decoded;
}

function takeFrom(text: string): { enabled: boolean | undefined; rest: string } {
  const words = splitWords(text);
  const ours = namedOptions(words).filter((option) => option.name === JWT_OPTION);
  return {
    enabled: ours.map((option) => parseJwtOption(option, words)).at(-1),
    rest: without(text, words, ours),
  };
}

function parseJwtOption({ value, prefixed, end }: NamedOption, words: readonly Word[]): boolean {
  if (value === undefined || !prefixed) {
    throw new PgError({
      code: 'malformed_option',
      message:
        `option "${words[end - 1]?.text}" is not of the form ` +
        `--${JWT_OPTION}=true or -c ${JWT_OPTION}=true`,
    });
  }
  if (TRUE_TEXTS.has(value)) return true;
  if (FALSE_TEXTS.has(value)) return false;
  throw new PgError({
    code: 'invalid_option_value',
    message: `invalid value for ${JWT_OPTION}: "${value}"`,
    hint: 'Allowed are true and false, t and f, 1 and 0.',
  });
}

/**
 * The options without those whose name matches. CockroachDB decodes the percent escapes of the
 * whole text and reads `+` as a space before it splits the text. An option that appears only in
 * that reading is removed too, with the whole word that hides it.
 */
export function dropOptions(text: string, matches: (name: string) => boolean): string {
  const words = splitWords(text);
  const hides = (word: Word | undefined): boolean => {
    if (!word || !/[%+]/.test(word.text)) return false;
    const decoded = namedOptions(splitWords(percentDecode(word.text).replaceAll('+', ' ')));
    return decoded.some((option) => matches(option.name));
  };
  const dropped = namedOptions(words).filter(
    (option) => matches(option.name) || hides(words[option.end - 1]),
  );
  return without(text, words, dropped);
}

/** Options that take an argument, from PostgreSQL's process_postgres_switches. */
const WITH_ARGUMENT: ReadonlySet<string> = new Set([...'BCcDdfhkNprStvW-']);

/**
 * The names, in lower case and with `_` for `-`, of all settings that a backend may find in the
 * options. PostgreSQL's getopt allows flags in one word with an option (`-ecrole=x`), and
 * CockroachDB decodes the text first.
 */
export function optionNames(text: string): ReadonlySet<string> {
  const decoded = percentDecode(text);
  // NEL and the no-break space separate words if the server's C library calls them white space
  // (BSD, macOS).
  const readings = new Set([
    text,
    text.replace(/[\x85\xa0]/g, ' '),
    decoded,
    decoded.replaceAll('+', ' '),
  ]);
  return new Set([...readings].flatMap((reading) => getoptNames(splitWords(reading))));
}

function getoptNames(words: readonly Word[]): string[] {
  const names: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at]?.text ?? '';
    if (!word.startsWith('-') || word === '--') continue;
    for (let letter = 1; letter < word.length; letter++) {
      const option = word.charAt(letter);
      if (!WITH_ARGUMENT.has(option)) continue;
      const argument =
        letter + 1 < word.length ? word.slice(letter + 1) : (words[++at]?.text ?? '');
      if (option === 'c' || option === '-') names.push(parseAssignment(argument).name);
      break;
    }
  }
  return names;
}

/** As pg_split_opts of the server's postinit.c. */
function splitWords(text: string): Word[] {
  const words: Word[] = [];
  // The flag `s` makes an escaped newline part of the word.
  for (const match of text.matchAll(/(?:\\.|\\$|[^\\ \t\n\v\f\r])+/gs)) {
    words.push({ text: match[0].replace(/\\(.?)/gs, '$1'), start: match.index });
  }
  return words;
}

function namedOptions(words: readonly Word[]): NamedOption[] {
  const options: NamedOption[] = [];
  for (let first = 0; first < words.length; first++) {
    const word = words[first]?.text ?? '';
    const next = words[first + 1];
    if (word === '-c' && next) {
      options.push({ ...parseAssignment(next.text), prefixed: true, first, end: first + 2 });
      first++;
    } else if (/^(--|-c)./s.test(word) && !fold(word).startsWith(`_${JWT_OPTION}`)) {
      options.push({ ...parseAssignment(word.slice(2)), prefixed: true, first, end: first + 1 });
    } else {
      options.push({
        ...parseAssignment(word.replace(/^-+/, '')),
        prefixed: false,
        first,
        end: first + 1,
      });
    }
  }
  return options;
}

function parseAssignment(text: string): { name: string; value: string | undefined } {
  const equals = text.indexOf('=');
  return equals < 0
    ? { name: fold(text), value: undefined }
    : { name: fold(text.slice(0, equals)), value: text.slice(equals + 1) };
}

function fold(name: string): string {
  return name.toLowerCase().replaceAll('-', '_');
}

/** The text without the words of these options; all other bytes stay. */
function without(text: string, words: readonly Word[], options: readonly NamedOption[]): string {
  const dropped = new Set(
    options.flatMap(({ first, end }) => Array.from({ length: end - first }, (_, i) => first + i)),
  );
  if (dropped.size === words.length) return '';
  let rest = text.slice(0, words[0]?.start);
  words.forEach(({ start }, index) => {
    if (!dropped.has(index)) rest += text.slice(start, words[index + 1]?.start);
  });
  return rest;
}

/** Valid %XX become bytes. Everything else stays, `+` too. */
function percentDecode(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
