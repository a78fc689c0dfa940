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

/** Printable ASCII, which most texts are and which needs no look at character classes. */
const PLAIN = /^[ -~]*$/;

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

/**
 * The longest text that is composed, in UTF-16 units. NFC takes time that grows with the square of
 * the length. A longer text cannot fold to a SQL name: a name of 63 bytes has at most 63 units. A
 * unit decomposes to at most 4 (Unicode Standard Annex 15, section 12), so that the name's NFD,
 * which is that of the text, has at most 252. A character of the text has at most twice the units
 * of its NFD, as U+2F804 has, and lower case shortens none. That is at most 504 units.
 */
const FOLD_LIMIT = 8 * NAME_LIMIT;

/**
 * More marks in a row than a SQL name can come from. NFC sorts them, in time that grows with the
 * square of their number. It adds at most three to the letter before them, and what it makes of the
 * others has at least a byte for each of them: that is more than 63 bytes. The search begins only
 * where a row begins, and so takes time that grows with the length.
 */
const TOO_MANY_MARKS = /(?<!\p{M})\p{M}{67}/u;

/** A number of things, such as `1 key` and `2 keys`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Whether the text is valid Unicode, not empty, and free of invisible characters. */
export function isUsableText(text: string): boolean {
  return text !== '' && !UNPRINTABLE.test(text);
}

/**
 * The SQL name in lower case, whatever the locale, and in NFC. Folding twice changes nothing. Lower
 * case comes first because it can decompose a character (İ becomes i and a dot), and NFC never
 * restores an upper-case letter. Names are folded before they are checked or compared: `PG_MONITOR`
 * or a name with a Kelvin sign may fold to a name that means something to the backend. A text that
 * is too long to fold to a name is put in lower case only, and is no usable name.
 */
export function foldName(name: string): string {
  const lower = name.toLowerCase();
  const isTooLong = lower.length > FOLD_LIMIT || TOO_MANY_MARKS.test(lower);
  return isTooLong ? lower : lower.normalize('NFC');
}

/** Whether a name, folded if it is that of a user, has 1 to 63 bytes and no invisible character. */
export function isUsableName(name: string): boolean {
  return isUsableText(name) && Buffer.byteLength(name) <= NAME_LIMIT;
}

/**
 * The text for a message or the log, cut at 256 characters or at the given limit. Unprintable
 * characters are shown as the `\xNN` of their UTF-8 bytes.
 */
export function formatText(text: string, limit = TEXT_LIMIT): string {
  if (text.length <= limit && (PLAIN.test(text) || !UNPRINTABLE.test(text))) {
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

/**
 * The values for a list of the log, each as {@link formatText} shows it. After 16 values, one more
 * text tells how many there are in all.
 */
export function formatValues(values: readonly string[]): readonly string[] {
  const shown = values.slice(0, LIST_LIMIT).map((value) => formatText(value));
  return values.length > LIST_LIMIT ? [...shown, `… (${values.length} in all)`] : shown;
}

/** As PostgreSQL writes such bytes of `application_name` (pg_clean_ascii). */
function escapeBytes(character: string): string {
  return Array.from(
    Buffer.from(character),
    (byte) => `\\x${byte.toString(16).padStart(2, '0')}`,
  ).join('');
}
