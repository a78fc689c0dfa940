/**
 * JSON objects out of a token, read strictly. JSON.parse keeps the last of two members of one name
 * while another reader of the same token may keep the first; RFC 7519 section 4 leaves the choice,
 * and a token that says two things is refused here.
 */

/**
 * How deep objects and arrays may nest. Identity providers stay below ten; this keeps every later
 * walk shallow.
 */
const DEPTH_LIMIT = 32;

/** `ignoreBOM` keeps a byte order mark in the text, where it is no JSON: RFC 8259 section 8.1. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The members of an object. A map, since a name such as `__proto__` or `constructor` is one like
 * any other there.
 */
export type JsonObject = ReadonlyMap<string, unknown>;

/**
 * The members of the JSON object in `bytes`.
 * @throws Error whose message completes "it …", without a word of the text.
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
    // The engine's own message quotes the text.
    throw new Error('is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Error('is not a JSON object');
  }
  inspectStructure(text);
  return new Map(Object.entries(value));
}

/**
 * Refuses deep nesting and repeated members. `text` is known to be JSON, so that brackets match and
 * strings end.
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

/** The index behind the closing quote of the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (text[at] !== '"') {
    at += text[at] === '\\' ? 2 : 1;
  }
  return at + 1;
}

/** A string before a colon is a member's name: nowhere else in JSON does a colon follow one. */
function isMemberName(text: string, end: number): boolean {
  let at = end;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') {
    at++;
  }
  return text[at] === ':';
}

/** Names are compared as they read, not as they are spelled: `"\u0069ss"` is `iss`. */
function addMember(members: Set<string> | undefined, quoted: string): void {
  const name = String(JSON.parse(quoted));
  if (members?.has(name)) {
    throw new Error('names a member twice');
  }
  members?.add(name);
}

/*
 * JSON inside a setting. What is wrong with it is said by its place alone: the parser's own message
 * quotes the text, and the text may be a private key that somebody pasted by mistake.
 */

/** The parsed text, or where it stops to be JSON. */
export type JsonReading =
  | { readonly valid: true; readonly value: unknown }
  | { readonly valid: false; readonly problem: string };

/** Reads the text as JSON without throwing. */
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

/** A JSON object: neither an array nor null. */
export function isJsonObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
