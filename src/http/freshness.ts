/** How long an answer may be used without asking again, by its own words (RFC 9111). */
import type { JsonAnswer } from './json-client.ts';

/**
 * The freshness lifetime that is left, in milliseconds (RFC 9111, 4.2): `max-age`, or else `Expires`, less the time that the answer has
 * spent in caches. 0 for one that must not be stored or used again; undefined when it does not say.
 *
 * @param now milliseconds since the epoch
 */
export function remainingFreshness(headers: JsonAnswer['headers'], now: number): number | undefined {
  const directives = String(headers['cache-control'] ?? '').toLowerCase();
  if (/(^|[\s,])no-(store|cache)\s*(,|$)/.test(directives)) return 0;
  const [, seconds] = /(?:^|[\s,])max-age="?(\d{1,10})"?\s*(?:,|$)/.exec(directives) ?? [];
  const lifetime = seconds === undefined ? untilExpires(headers, now) : Number(seconds) * 1000;
  return lifetime === undefined ? undefined : Math.max(0, lifetime - age(headers));
}

/** Counted from the server's own clock when it tells: what matters is the distance of the two dates. */
function untilExpires({ expires, date }: JsonAnswer['headers'], now: number): number | undefined {
  if (expires === undefined) return undefined;
  const end = Date.parse(String(expires));
  const start = Date.parse(String(date));
  // RFC 9111, 5.3: a date that is none, such as 0, is in the past.
  return Number.isNaN(end) ? 0 : end - (Number.isNaN(start) ? now : start);
}

function age({ age }: JsonAnswer['headers']): number {
  return /^\d{1,10}$/.test(String(age)) ? Number(age) * 1000 : 0;
}
