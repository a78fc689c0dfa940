/**
 * The values of options and environment variables: text to value. Each throws commander's
 * InvalidArgumentError with what is allowed; commander adds the option's name and where the value
 * came from.
 */

import { InvalidArgumentError } from 'commander';
import type { ListenAddress } from '../session/listener.ts';
import { parseDuration } from '../settings/values.ts';

/** `HOST:PORT`, an IPv6 address in brackets; port 0 takes a free one. */
export function parseListenAddress(text: string): ListenAddress {
  const [, bracketed, plain, digits] =
    /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]/\s]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host === undefined || port > 65_535) {
    throw new InvalidArgumentError('Give HOST:PORT, such as 127.0.0.1:26257 or [::]:5432.');
  }
  return { host, port };
}

/** A number of at least 1 without a sign. */
export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new InvalidArgumentError('Give a whole number from 1 to 999999999.');
  return Number(text);
}

/** How many of something there may be, none included. */
export function parseSize(text: string): number {
  if (!/^\d{1,4}$/.test(text))
    throw new InvalidArgumentError('Give a whole number from 0 to 9999.');
  return Number(text);
}

/**
 * A duration such as `30s` or `1m30s`, longer than nothing and shorter than a timer's longest; in
 * milliseconds.
 */
export function parseTimeout(text: string): number {
  let milliseconds: number;
  try {
    milliseconds = parseDuration(text);
  } catch {
    milliseconds = Number.NaN;
  }
  if (!(milliseconds > 0 && milliseconds <= 24 * 3600 * 1000)) {
    throw new InvalidArgumentError('Give a duration from 1ms to 24h, such as 30s or 1m30s.');
  }
  return milliseconds;
}

/**
 * For an option that may be given several times, and whose environment variable holds a list
 * separated by commas: adds what was given to what came before.
 */
export function repeatable<T>(
  parse: (text: string) => T,
): (text: string, before: readonly T[] | undefined) => readonly T[] {
  return (text, before) => [
    ...(before ?? []),
    ...text.split(',').map((item) => parse(item.trim())),
  ];
}

/** For an option that may be given several times and whose values may hold commas. */
export function collect(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), text];
}

/** The name of a SQL user. */
export function parseUserName(text: string): string {
  if (text === '') throw new InvalidArgumentError('Give the name of a SQL user.');
  return text;
}
