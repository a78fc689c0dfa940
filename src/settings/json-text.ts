/**
 * JSON inside a setting. What is wrong with it is said by its place alone: the parser's own message quotes the text, and the text
 * may be a private key that somebody pasted by mistake.
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
    const position = error instanceof SyntaxError ? /at position (\d+)/.exec(error.message)?.[1] : undefined;
    return {
      valid: false,
      problem: position === undefined ? 'it is not JSON' : `it is not JSON from character ${Number(position) + 1}`,
    };
  }
}

/** A JSON object: neither an array nor null. */
export function isJsonObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
