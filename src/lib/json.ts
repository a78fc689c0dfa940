/**
 * Reads JSON that others wrote: strictly from tokens, and from settings without repeating the text
 * in an error, since it may hold a secret.
 */

/**
 * How deep objects and arrays may nest. Identity providers stay below ten. The limit keeps every
 * later walk shallow.
 */
const DEPTH_LIMIT = 32;

/**
 * How many values there may be in all. A token may name 1000 groups, which is what a login takes,
 * and as much beside them.
 */
const VALUE_LIMIT = 2000;

/**
 * How many members there may be in all objects. Each costs about a microsecond. Tokens of Keycloak
 * have the most, two for each client that the user has roles of; 500 are more than 200 clients.
 */
const NAME_LIMIT = 500;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** `ignoreBOM` keeps a byte order mark, which is not allowed in JSON (RFC 8259 section 8.1). */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The members of an object. In a map, names such as `__proto__` or `constructor` are harmless. */
export type JsonObject = ReadonlyMap<string, unknown>;

/** The parsed text, or the position of the error. */
export type JsonReading =
  | { readonly valid: true; readonly value: unknown }
  | { readonly valid: false; readonly problem: string };

/**
 * The members of the JSON object in `bytes`. Two members of one name are refused: JSON.parse takes
 * the last, another reader of the same token may take the first, and RFC 7519 section 4 allows
 * both.
 *
 * @throws Error whose message continues "it …" and repeats nothing of the text
 */
export function parseJsonObject(bytes: Buffer): JsonObject {
  const names = countNames(bytes);
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new Error('is not UTF-8');
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The message of JSON.parse quotes the text.
    throw new Error('is not JSON');
  }
  if (!isJsonObject(value)) {
    throw new Error('is not a JSON object');
  }
  // JSON.parse keeps one member of each name, whatever the spelling: "\u0069ss" is "iss".
  const members = Object.entries(value);
  const inner = members.reduce((sum, [, part]) => sum + countMembers(part), 0);
  if (members.length + inner !== names) {
    throw new Error('names a member twice');
  }
  return new Map(members);
}

/**
 * Parses text as JSON without throwing. An error names only the position: the message of JSON.parse
 * quotes the text, which may be a private key that was pasted by mistake.
 */
export function readJson(text: string): JsonReading {
  try {
    return { valid: true, value: JSON.parse(text) };
  } catch (error) {
    const position =
      error instanceof SyntaxError ? /at position (\d+)/.exec(error.message)?.[1] : undefined;
    return {
      valid: false,
      problem:
        position === undefined
          ? 'it is not JSON'
          : `it is not JSON from character ${Number(position) + 1}`,
    };
  }
}

/** Whether the value is a JSON object, that is, neither an array nor null. */
export function isJsonObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The number of member names in JSON text. It looks at each byte once and decodes nothing. In text
 * that is not JSON the number means nothing, and JSON.parse refuses the text. All bytes of a
 * character beyond ASCII are above those that count here.
 *
 * @throws Error for what is too deep or too much, before it is parsed
 */
function countNames(bytes: Buffer): number {
  let names = 0;
  let values = 0;
  let depth = 0;
  for (let at = 0; at < bytes.length; at++) {
    switch (bytes[at]) {
      case QUOTE:
        at = lastOfString(bytes, at);
        break;
      case COLON:
        names++;
        break;
      case OPEN_BRACE:
      case OPEN_BRACKET:
        depth++;
        values++;
        break;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        depth--;
        break;
      case COMMA:
        values++;
        break;
    }
    if (depth > DEPTH_LIMIT) throw new Error(`is nested deeper than ${DEPTH_LIMIT} levels`);
    if (values > VALUE_LIMIT) throw new Error(`has more than ${VALUE_LIMIT} values`);
    if (names > NAME_LIMIT) throw new Error(`has more than ${NAME_LIMIT} members`);
  }
  return names;
}

/** The index of the closing quote of the string that begins at `start`. */
function lastOfString(bytes: Buffer, start: number): number {
  let at = start + 1;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}

/** The number of members of all objects in a value whose depth and size are bounded. */
function countMembers(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const parts: readonly unknown[] = Object.values(value);
  const inner = parts.reduce<number>((sum, part) => sum + countMembers(part), 0);
  return Array.isArray(value) ? inner : inner + parts.length;
}
