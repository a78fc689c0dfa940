/**
 * The values of options and environment variables. Each parser throws commander's
 * InvalidArgumentError with what is allowed. Commander adds the name of the option and where the
 * value came from.
 */
import { isIP } from 'node:net';
import { availableParallelism } from 'node:os';
import { type Command, InvalidArgumentError } from 'commander';
import type { OptionSource } from '../backend/url.ts';
import type { ListenAddress } from '../session/listener.ts';
import { parseDuration } from '../settings/values.ts';

/** Parses `HOST:PORT`, with an IPv6 address in brackets. Port 0 takes a free one. */
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

/** Parses an address without a port. */
export function parseAddress(text: string): string {
  if (isIP(text) !== 0) return text;
  throw new InvalidArgumentError('Give an address, such as 10.1.2.3 or 2001:db8::1.');
}

/** Parses the port of a socket. */
export function parsePort(digits: string): number {
  const port = /^\d{1,5}$/.test(digits) ? Number(digits) : 0;
  if (port < 1 || port > 65_535) throw new InvalidArgumentError('Give a port from 1 to 65535.');
  return port;
}

/** Parses a whole number of at least 1. */
export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new InvalidArgumentError('Give a whole number from 1 to 999999999.');
  return Number(text);
}

/** Parses a whole number of at least 0. */
export function parseSize(text: string): number {
  if (!/^\d{1,4}$/.test(text))
    throw new InvalidArgumentError('Give a whole number from 0 to 9999.');
  return Number(text);
}

/** More than one for each processor is of no use, and limits are divided among them. */
const WORKER_LIMIT = 32;

/** Parses a number of worker processes; `auto` is one for each processor. */
export function parseWorkers(text: string): number {
  if (text === 'auto') return Math.min(WORKER_LIMIT, availableParallelism());
  if (/^[1-9]\d?$/.test(text) && Number(text) <= WORKER_LIMIT) return Number(text);
  throw new InvalidArgumentError(`Give auto, or a whole number from 1 to ${WORKER_LIMIT}.`);
}

/**
 * Parses a duration such as `30s` or `1m30s` of at most a day, which every timer can take.
 *
 * @returns milliseconds
 */
export function parseTimeout(text: string): number {
  const milliseconds = readDuration(text);
  if (milliseconds > 0) return milliseconds;
  throw new InvalidArgumentError('Give a duration from 1ms to 24h, such as 30s or 1m30s.');
}

/** The same, where 0 is a duration too. */
export function parseDelay(text: string): number {
  const milliseconds = readDuration(text);
  if (milliseconds >= 0) return milliseconds;
  throw new InvalidArgumentError('Give a duration from 0 to 24h, such as 30s or 1m30s.');
}

/** NaN for what is no duration, or too long for a timer. */
function readDuration(text: string): number {
  try {
    const milliseconds = parseDuration(text);
    return milliseconds <= 24 * 3600 * 1000 ? milliseconds : Number.NaN;
  } catch {
    return Number.NaN;
  }
}

/**
 * Makes a parser for an option that may be repeated. Its environment variable holds a list that is
 * separated by commas.
 */
export function repeatable<T>(
  parse: (text: string) => T,
): (text: string, before: readonly T[] | undefined) => readonly T[] {
  return (text, before) => [
    ...(before ?? []),
    ...text.split(',').map((item) => parse(item.trim())),
  ];
}

/** Parses an option that may be repeated and whose values may hold commas. */
export function collect(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), text];
}

/** The same, with a value on each line of the environment variable. */
export function collectLines(
  text: string,
  before: readonly string[] | undefined,
): readonly string[] {
  return [...(before ?? []), ...text.split('\n').filter((line) => line.trim() !== '')];
}

/** Parses the name of a SQL user. */
export function parseUserName(text: string): string {
  if (text === '') throw new InvalidArgumentError('Give the name of a SQL user.');
  return text;
}

/** Where the text of an option was. */
export function sourceOf(command: Command, option: string): OptionSource {
  return command.getOptionValueSource(option) === 'cli' ? 'flag' : 'environment';
}
