/**
 * Bounds the fields of an event, so that no text of a client, a token or an issuer can fill the
 * disk. Messages cut such text where they are made. This is the second guard, for a text that was
 * forgotten there.
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
  if (Array.isArray(value)) return boundList(value, levels - 1);
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, FIELD_LIMIT)
      .map(([key, field]) => [formatText(key), bound(field, key, levels - 1)]),
  );
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
