/**
 * Bounds the fields of an event, so that no text of a client, a token or an issuer can fill the
 * disk, and takes out secrets. Messages cut such text where they are made, and no event has a field
 * for a secret. This is the second guard, for what was forgotten there.
 */
import { formatText } from '../lib/text.ts';

/** Characters of a field, escapes included. A message or reason holds a few values of 256. */
const TEXT_LIMIT = 1024;

/** A reason may list what is accepted: 16 values of 256 characters. */
const REASON_LIMIT = 8192;

/** Lines of a stack, each of 256 characters. Node.js collects 10 frames. */
const STACK_LINES = 16;

/** Entries of a list or an object. An event has about 25 fields. */
const LIST_LIMIT = 16;
const FIELD_LIMIT = 64;

/** Levels of lists and objects. An event has a list at most. */
const DEPTH_LIMIT = 4;

/** Names of fields that are redacted, at every level. */
const SECRETS: ReadonlySet<string> = new Set([
  'token',
  'password',
  'secret',
  'privateKey',
  'authorization',
]);

const REDACTED = '<redacted>';

/** Returns the fields of an event, or its message, with bounded texts and lists. */
export function boundEvent(event: unknown): unknown {
  return bound(event, '', DEPTH_LIMIT);
}

function boundText(text: string, name: string): string {
  if (name === 'stack') return boundStack(text);
  return formatText(text, name === 'reason' ? REASON_LIMIT : TEXT_LIMIT);
}

function bound(value: unknown, name: string, levels: number): unknown {
  if (typeof value === 'string') return boundText(value, name);
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Error) return { message: bound(value.message, '', 1), ...stackOf(value) };
  if (levels === 0) return '…';
  return Array.isArray(value) ? boundList(value, levels - 1) : boundFields(value, levels - 1);
}

/** Two of these are made for each login, so the object is built in one pass. */
function boundFields(fields: object, levels: number): object {
  const shown: Record<string, unknown> = {};
  let left = FIELD_LIMIT;
  for (const name of Object.keys(fields)) {
    if (left-- === 0) break;
    const value = (fields as Record<string, unknown>)[name];
    if (value === undefined) continue;
    shown[formatText(name)] = SECRETS.has(name) ? REDACTED : bound(value, name, levels);
  }
  return shown;
}

/** After 16 entries there is one with the number of all. */
function boundList(list: readonly unknown[], levels: number): unknown[] {
  const shown = list.slice(0, LIST_LIMIT).map((entry) => bound(entry, '', levels));
  if (list.length > LIST_LIMIT) shown.push(`… ${list.length} in all`);
  return shown;
}

function stackOf({ stack }: Error): { readonly stack?: string } {
  return stack === undefined ? {} : { stack: boundStack(stack) };
}

/** The lines stay apart, so that a stack is readable. */
function boundStack(stack: string): string {
  return stack
    .split('\n', STACK_LINES)
    .map((line) => formatText(line))
    .join('\n');
}
