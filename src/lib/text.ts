/**
 * Text from tokens and clients, which anybody may have written: whether it can be a name, how it is
 * shown, and how SQL user names are folded. Such text must not flood a message, a log line or a
 * terminal, or control it.
 */

/**
 * Control characters (C0, DEL, C1), lone surrogates, line and paragraph separators, and format
 * characters: zero-width characters, byte order mark, bidirectional overrides. Format characters
 * can make two names look alike, or a log line read backwards (CVE-2021-42574).
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

/** How much of one value a message shows, in characters, escapes included. */
const TEXT_LIMIT = 256;

/**
 * How many values of a list are shown. 16 values of 256 characters of at most 4 bytes are 16 kB. An
 * ErrorResponse before authentication must stay below the 30,000 bytes that libpq accepts
 * (MAX_ERRLEN in fe-connect.c).
 */
const LIST_LIMIT = 16;

/** NAMEDATALEN − 1. PostgreSQL cuts a longer name, and the cut name may be another role. */
const NAME_LIMIT = 63;

/** Whether the text is valid Unicode, not empty, and free of invisible characters. */
export function isUsableText(text: string): boolean {
  return text !== '' && !UNPRINTABLE.test(text);
}

/**
 * The SQL name in lower case, whatever the locale, and in NFC. Folding twice changes nothing. Lower
 * case comes first because it can decompose a character (İ becomes i and a dot), and NFC never
 * restores an upper-case letter. Names are folded before they are checked or compared: `PG_MONITOR`
 * or a name with a Kelvin sign may fold to a name that means something to the backend.
 */
export function foldName(name: string): string {
  return name.toLowerCase().normalize('NFC');
}

/** Whether a folded name can be a SQL user: 1 to 63 bytes of UTF-8 without invisible characters. */
export function isUsableName(folded: string): boolean {
  return isUsableText(folded) && Buffer.byteLength(folded) <= NAME_LIMIT;
}

/**
 * The text for a message or the log, cut at 256 characters or at the given limit. Unprintable
 * characters are shown as the `\xNN` of their UTF-8 bytes.
 */
export function formatText(text: string, limit = TEXT_LIMIT): string {
  if (text.length <= limit && !UNPRINTABLE.test(text)) {
    return text;
  }
  let shown = '';
  let room = limit;
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

/** A JSON value of any type, for a message or the log. */
export function formatValue(value: unknown): string {
  return formatText(typeof value === 'string' ? value : JSON.stringify(value));
}

/** The list as CockroachDB shows one: `[a b]`. After 16 values, `…` stands for the rest. */
export function formatList(values: readonly string[]): string {
  const shown = values.slice(0, LIST_LIMIT).map((value) => formatText(value));
  if (values.length > LIST_LIMIT) {
    shown.push('…');
  }
  return `[${shown.join(' ')}]`;
}

/** As PostgreSQL writes such bytes of `application_name` (pg_clean_ascii). */
function escapeBytes(character: string): string {
  return Array.from(
    Buffer.from(character),
    (byte) => `\\x${byte.toString(16).padStart(2, '0')}`,
  ).join('');
}
