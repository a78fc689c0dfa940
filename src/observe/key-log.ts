/**
 * Logs and counts what happens to the keys of issuers. The log has what an operator may have to act
 * on; the rest is only counted.
 */
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';

/**
 * The listener of the key source. It has the shape of `KeyEvents` in keys/key-source.ts without
 * importing it, since this room imports only `lib`.
 */
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

  /**
   * A fetch has failed. The last good keys of the issuer stay in use; without any, its tokens are
   * refused.
   *
   * @param retryIn milliseconds until the next attempt
   * @param keysAge age of the last good keys in milliseconds; undefined if there are none
   */
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

  /** The file with the last good keys of an issuer could not be read or written. */
  notStored(issuer: string, reason: string): void {
    this.#log.warn(
      { event: 'keys', outcome: 'not_kept', issuer, reason },
      'last good keys in the data directory not usable',
    );
  }

  /** @param known whether the signature was verified for an earlier login */
  verified(known: boolean): void {
    this.#metrics.signature(known);
  }
}
