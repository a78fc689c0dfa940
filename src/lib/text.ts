/**
 * Text out of a token, which a stranger wrote: which of it may be a name, and how the rest is
 * shown. A message, a log line or a terminal must neither be flooded by it nor obey it.
 */

/**
 * Control characters (C0, DEL, C1), lone surrogates, line and paragraph separators, and format
 * characters: zero-width, byte order mark, bidirectional overrides. The last can make two names
 * look alike, or a log line read backwards (CVE-2021-42574).
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

/** What one value may take up in a message, in characters, escapes included. */
const TEXT_LIMIT = 256;

/**
 * How many values of a list are shown. 16 values of 256 characters of at most 4 bytes are 16 kB: an
 * ErrorResponse before authentication must stay below the 30,000 bytes that libpq accepts
 * (MAX_ERRLEN in fe-connect.c).
 */
const LIST_LIMIT = 16;

/** Whether the text is valid Unicode, not empty, and free of characters that cannot be seen. */
export function isUsableText(text: string): boolean {
  return text !== '' && !UNPRINTABLE.test(text);
}

/**
 * The text for a message or the log: unprintable characters as the `\xNN` of their UTF-8 bytes, cut
 * at 256 characters.
 */
export function formatText(text: string): string {
  if (text.length <= TEXT_LIMIT && !UNPRINTABLE.test(text)) {
    return text;
  }
  let shown = '';
  let room = TEXT_LIMIT;
  for (const character of text) {
    const piece = UNPRINTABLE.test(character) ? escapeBytes(character) : character;
    room -= piece === character ? 1 : piece.length;
    if (room < 0) {
      break;
    }
    shown += piece;
  }
  return shown;
}

/** The same for a JSON value of any type. */
export function formatValue(value: unknown): string {
  return formatText(typeof value === 'string' ? value : JSON.stringify(value));
}

/**
 * The list as CockroachDB prints one, `[a b]`; from the seventeenth value on `…` stands for the
 * rest.
 */
export function formatList(values: readonly string[]): string {
  const shown = values.slice(0, LIST_LIMIT).map(formatText);
  if (values.length > LIST_LIMIT) {
    shown.push('…');
  }
  return `[${shown.join(' ')}]`;
}

/** Written as PostgreSQL writes what it strips from `application_name` (pg_clean_ascii). */
function escapeBytes(character: string): string {
  return Array.from(
    Buffer.from(character),
    (byte) => `\\x${byte.toString(16).padStart(2, '0')}`,
  ).join('');
}

/*
 * SQL user names as both sides of every comparison see them. Folding comes before the checks on
 * length and on reserved names, since `PG_MONITOR` or a Kelvin sign may fold to a name that means
 * something to the backend.
 */

/** NAMEDATALEN − 1. PostgreSQL cuts a longer name, and the cut name may be another role. */
const NAME_LIMIT = 63;

/**
 * The name in lower case, whatever the locale, and in NFC; folding twice changes nothing. Lower
 * case comes first because it can take a composed character apart (İ becomes i and a dot), and NFC
 * never brings an upper-case letter back.
 */
export function foldName(name: string): string {
  return name.toLowerCase().normalize('NFC');
}

/** Whether a folded name can be a SQL user: 1 to 63 bytes of UTF-8 without invisible characters. */
export function isUsableName(folded: string): boolean {
  return isUsableText(folded) && Buffer.byteLength(folded) <= NAME_LIMIT;
}
