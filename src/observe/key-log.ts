/**
 * What happens to the keys of issuers, as one line in the log for what an operator may have to act
 * on, and as counts.
 */
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';

/** Logs and counts. Its methods are those that the key source calls. */
export class KeyLog {
  readonly #log: Log;
  readonly #metrics: Metrics;

  constructor(log: Log, metrics: Metrics) {
    this.#log = log;
    this.#metrics = metrics;
  }

  fetched(issuer: string): void {
    this.#metrics.keyFetch(issuer, 'ok');
  }

  /** An issuer is away: its last good keys serve, or nobody of it gets in. */
  fetchFailed(
    issuer: string,
    { reason, retryIn, keysAge }: { reason: string; retryIn: number; keysAge: number | undefined },
  ): void {
    this.#metrics.keyFetch(issuer, 'failed');
    const times = {
      retryInMs: Math.round(retryIn),
      ...(keysAge !== undefined && { keysAgeMs: keysAge }),
    };
    const consequence =
      keysAge === undefined
        ? 'there are none'
        : 'the last good ones serve up to pgsso.jwks_max_age';
    this.#log.warn(
      { event: 'keys', outcome: 'failed', issuer, reason, ...times },
      `keys not fetched: ${consequence}`,
    );
  }

  keysChanged(
    issuer: string,
    change: {
      readonly added: readonly string[];
      readonly removed: readonly string[];
      readonly skipped: readonly string[];
    },
  ): void {
    this.#log.info({ event: 'keys', outcome: 'changed', issuer, ...change }, 'keys of an issuer');
  }

  refetchRefused(issuer: string): void {
    this.#metrics.keyRefetchRefused(issuer);
  }

  notStored(issuer: string, reason: string): void {
    this.#log.warn(
      { event: 'keys', outcome: 'not_kept', issuer, reason },
      'last good keys in the data directory not usable',
    );
  }

  verified(before: boolean): void {
    this.#metrics.signature(before);
  }
}
