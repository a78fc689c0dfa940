/**
 * The startup parameter `options`: command-line options for the server process, in one string
 * (manual 54.2.1 and 33.1.2 "options"). One of them, `crdb:jwt_auth_enabled`, is for the front-end
 * and is taken out; the rest stays as it is, to the byte, because its escaping is the client's
 * business. The text is handled as latin1, so that every byte survives.
 *
 * The grammar, after the server's pg_split_opts: words are separated by white space, a backslash
 * takes the next character literally.
 *
 *     options = "--crdb:jwt_auth_enabled=true -c geqo=off -csearch_path=a\ b"
 */
import { PgError } from '../lib/errors.ts';

/** A word of the options text: unescaped, with its place in the text as sent. */
interface Word {
  readonly text: string;
  readonly start: number;
}

/** A setting named by the options: `-c name=value`, `-cname=value` or `--name=value`. */
interface NamedOption {
  /** Folded: lower case, `-` as `_`, as the server's ParseLongOption and CockroachDB read it. */
  readonly name: string;
  readonly value: string | undefined;
  /**
   * Whether it stands behind `-c` or `--`; a word without is still recognised, to be named in an
   * error.
   */
  readonly prefixed: boolean;
  /** The words it takes up: indices of the first one and of the one behind the last. */
  readonly first: number;
  readonly end: number;
}

const JWT_OPTION = 'crdb:jwt_auth_enabled';

/** Go's strconv.ParseBool, which CockroachDB reads the option's value with. */
const TRUE_TEXTS: ReadonlySet<string> = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const FALSE_TEXTS: ReadonlySet<string> = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/**
 * Takes `crdb:jwt_auth_enabled` out of the options, from the text as sent or, if it is not there,
 * from the percent-decoded text, since some drivers encode twice.
 *
 * @returns enabled: the option's value, undefined without the option; rest: what goes on to the
 *   backend, empty when nothing is left
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
      message: `option "${words[end - 1]?.text}" is not of the form --${JWT_OPTION}=true or -c ${JWT_OPTION}=true`,
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
 * The options without those whose name matches. CockroachDB percent-decodes the whole text and
 * reads `+` as a space before it splits it; an option that only appears in that reading is removed
 * as well, with the word that hides it.
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

/**
 * Options of the server's command line that take an argument; PostgreSQL's
 * process_postgres_switches.
 */
const WITH_ARGUMENT: ReadonlySet<string> = new Set([...'BCcDdfhkNprStvW-']);

/**
 * The folded names of all settings that a backend may take from the options: PostgreSQL's getopt
 * lets flags stand in one word with an option (`-ecrole=x`), and CockroachDB decodes the text
 * first.
 */
export function optionNames(text: string): ReadonlySet<string> {
  const decoded = percentDecode(text);
  // Where the server's C library takes NEL and the no-break space for white space (BSD, macOS),
  // they separate words, too.
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

/** pg_split_opts of the server's postinit.c. */
function splitWords(text: string): Word[] {
  const words: Word[] = [];
  // The loop's pattern is one word; `s` is on so that an escaped newline belongs to it.
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

/** The text without the words of these options; everything else is left as it stands. */
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

/** Valid %XX become bytes, everything else stays; `+` is left alone. */
function percentDecode(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
