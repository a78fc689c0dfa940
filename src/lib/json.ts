/**
 * Reads JSON that others wrote: strictly from tokens, and from settings without repeating the text
 * in an error, since it may hold a secret.
 */

/**
 * How deep objects and arrays may nest. Identity providers stay below ten. The limit keeps every
 * later walk shallow.
 */
const DEPTH_LIMIT = 32;

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
  inspectStructure(text);
  return new Map(Object.entries(value));
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
 * Refuses deep nesting and repeated members. The text is known to be valid JSON, so brackets match
 * and strings end.
 */
function inspectStructure(text: string): void {
  const open: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '{':
      case '[':
        open.push(new Set());
        if (open.length > DEPTH_LIMIT) {
          throw new Error(`is nested deeper than ${DEPTH_LIMIT} levels`);
        }
        break;
      case '}':
      case ']':
        open.pop();
        break;
      case '"': {
        const end = endOfString(text, at);
        if (isMemberName(text, end)) {
          addMember(open.at(-1), text.slice(at, end));
        }
        at = end - 1;
        break;
      }
    }
  }
}

/** The index after the closing quote of the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (text[at] !== '"') {
    at += text[at] === '\\' ? 2 : 1;
  }
  return at + 1;
}

/** A string is a member's name if, and only if, a colon follows. */
function isMemberName(text: string, end: number): boolean {
  let at = end;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') {
    at++;
  }
  return text[at] === ':';
}

/** Names are compared after unescaping: `"\u0069ss"` is `iss`. */
function addMember(members: Set<string> | undefined, quoted: string): void {
  const name = String(JSON.parse(quoted));
  if (members?.has(name)) {
    throw new Error('names a member twice');
  }
  members?.add(name);
}
