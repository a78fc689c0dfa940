/**
 * Booleans and durations: how operators write them in SQL, options and files, and how SHOW prints
 * them. The text is bounded and read once from left to right. The error of a bad value and the
 * quoting of an operator's text are here too, for all settings.
 */
import { PgError } from '../lib/errors.ts';

const MILLISECOND = 1;
const SECOND = 1000 * MILLISECOND;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Characters. No boolean or duration that a person writes is longer. */
const TEXT_LIMIT = 100;

const booleans: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['on', true],
  ['yes', true],
  ['1', true],
  // The text form of the type, which drivers send for a parameter (manual, 8.6).
  ['t', true],
  ['false', false],
  ['off', false],
  ['no', false],
  ['0', false],
  ['f', false],
]);

/**
 * The units of Go's time.ParseDuration and of PostgreSQL's interval (manual, 8.5.4). Months and
 * years are left out because their lengths vary. Units below a millisecond are left out because no
 * setting uses them.
 */
const units: ReadonlyMap<string, number> = new Map(
  Object.entries({
    [MILLISECOND]: 'ms msec msecs millisecond milliseconds',
    [SECOND]: 's sec secs second seconds',
    [MINUTE]: 'm min mins minute minutes',
    [HOUR]: 'h hr hrs hour hours',
    [DAY]: 'd day days',
  }).flatMap(([milliseconds, names]) =>
    names.split(' ').map((name) => [name, Number(milliseconds)] as const),
  ),
);

/** The error of a value that a setting does not take: 22023. */
export function invalidSetting(message: string, hint?: string): PgError {
  return new PgError({ code: 'invalid_setting_value', message, hint });
}

/**
 * An operator's text in a message: in double quotes, control characters escaped, cut after 100
 * characters.
 */
export function quote(text: string): string {
  return JSON.stringify(text.length > TEXT_LIMIT ? `${text.slice(0, TEXT_LIMIT)}…` : text);
}

/**
 * Parses a boolean of SQL, in any case: `true false on off yes no 1 0 t f`.
 *
 * @throws PgError 22023
 */
export function parseBoolean(text: string): boolean {
  const value = text.length > TEXT_LIMIT ? undefined : booleans.get(text.trim().toLowerCase());
  if (value === undefined) throw notParsed(text, 'bool', 'true, false, on, off, yes, no, 1 or 0');
  return value;
}

/**
 * Parses a whole number of at most nine digits.
 *
 * @throws PgError 22023
 */
export function parseInteger(text: string): number {
  const digits = text.length > TEXT_LIMIT ? '' : text.trim();
  if (!/^[+-]?\d{1,9}$/.test(digits)) throw notParsed(text, 'int', 'a whole number');
  return Number(digits);
}

/**
 * Parses a duration as CockroachDB and PostgreSQL do: `15s`, `1m30s`, `15 seconds`, `1 day`,
 * `00:00:15`, `1 day 02:00:00`. A number without a unit counts seconds, as in an interval; a
 * leading `-` makes the whole negative.
 *
 * @returns milliseconds, a whole number
 * @throws PgError 22023, also for a fraction of a millisecond
 */
export function parseDuration(text: string): number {
  const milliseconds =
    text.length > TEXT_LIMIT ? undefined : readDuration(text.trim().toLowerCase());
  if (milliseconds === undefined || !Number.isSafeInteger(milliseconds)) {
    throw notParsed(
      text,
      'interval',
      "whole milliseconds, such as 250ms, 15s, 1m30s, '15 seconds' or '00:00:15'",
    );
  }
  return milliseconds;
}

/**
 * Formats a duration of whole milliseconds as CockroachDB does: `15s`, `1m30s`, `24h0m0s`, `250ms`,
 * `0s`.
 */
export function formatDuration(milliseconds: number): string {
  const sign = milliseconds < 0 ? '-' : '';
  const size = Math.abs(milliseconds);
  if (size === 0) return '0s';
  if (size < SECOND) return `${sign}${size}ms`;
  const hours = Math.floor(size / HOUR);
  const minutes = Math.floor((size % HOUR) / MINUTE);
  const seconds = `${(size % MINUTE) / SECOND}s`;
  if (hours > 0) return `${sign}${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${sign}${minutes}m${seconds}` : `${sign}${seconds}`;
}

function notParsed(text: string, type: string, expected: string): PgError {
  return invalidSetting(`could not parse ${quote(text)} as type ${type}: expected ${expected}`);
}

function readDuration(text: string): number | undefined {
  const negative = text.startsWith('-');
  const start = negative ? 1 : 0;
  const part =
    /(?:(\d{1,9}):(\d{1,2})(?::(\d{1,2}(?:\.\d{1,6})?))?$|(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*))\s*/y;
  let total = 0;
  part.lastIndex = start;
  while (part.lastIndex < text.length) {
    const match = part.exec(text);
    if (match === null) return undefined;
    const [, hours, minutes, seconds = '0', amount, unit] = match;
    if (amount === undefined) {
      if (Number(minutes) > 59 || Number(seconds) >= 60) return undefined;
      total += Number(hours) * HOUR + Number(minutes) * MINUTE + toMilliseconds(seconds, SECOND);
      continue;
    }
    // Only a number that stands alone may be without a unit: `1 30s` is a typing error.
    const alone = unit === '' && match.index === start && part.lastIndex === text.length;
    const length = alone ? SECOND : units.get(unit ?? '');
    if (length === undefined) return undefined;
    total += toMilliseconds(amount, length);
  }
  if (text.length === start) return undefined;
  return negative ? 0 - total : total;
}

/** The amount in milliseconds. Whole milliseconds are exact: 1.001 s are 1001 ms. */
function toMilliseconds(amount: string, unit: number): number {
  const [whole = '', fraction = ''] = amount.split('.');
  return Number(whole) * unit + (Number(fraction) * unit) / 10 ** fraction.length;
}
