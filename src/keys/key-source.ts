/**
 * Where the keys of an issuer come from, and the events that are reported about them. The login
 * decision asks a {@link KeySource}, which may be a setting or the identity providers.
 */
import type { Fault } from '../lib/errors.ts';
import { formatValues } from '../lib/text.ts';
import type { KeySet } from '../settings/jwks.ts';
import { nameInForce, waysToLogIn } from '../settings/oauthbearer.ts';
import type { LoginSettings } from '../settings/snapshot.ts';

/**
 * The keys of an issuer are not available. The login is refused by check 4. The message is for the
 * log only.
 */
export class KeysUnavailable extends Error {
  override readonly name = 'KeysUnavailable';
  readonly fault: Fault;

  constructor(found: string, fault: Fault) {
    super(found);
    this.fault = fault;
  }
}

/** What is known about an issuer's keys, for operators. */
export interface IssuerState {
  readonly issuer: string;
  /** The setting `jwks`, or the address that the keys are fetched from. */
  readonly source: string;
  readonly keyCount: number;
  /** At most 16, each cut, and a word about the rest. */
  readonly keyIds: readonly string[];
  /**
   * When the keys were fetched, in milliseconds since the epoch. Undefined if they have not been
   * fetched.
   */
  readonly fetchedAt: number | undefined;
  /** Why the last fetch failed. Undefined if it did not. */
  readonly lastError: string | undefined;
}

/** The key sets of the issuers. */
export interface KeySource {
  /**
   * The keys that may sign for an issuer, which must be a configured one.
   *
   * @throws KeysUnavailable; the signal's reason
   */
  keysFor(issuer: string, values: LoginSettings, signal: AbortSignal): Promise<KeySet>;
  /**
   * A newer set, for a token with a key ID that is not in the set: the issuer may have a new key.
   * A login calls this at most once.
   *
   * @returns undefined if there is no newer set, or if the last such call was too recent
   * @throws KeysUnavailable; the signal's reason
   */
  refresh(issuer: string, values: LoginSettings, signal: AbortSignal): Promise<KeySet | undefined>;
  /** Every configured issuer with what is known about its keys. */
  describe(values: LoginSettings): readonly IssuerState[];
}

/** How an issuer's keys changed. */
export interface KeyChange {
  /** As `formatValues` shows key IDs. A key without one is `(no kid)`. */
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** One phrase for each key of the set that cannot be used. */
  readonly skipped: readonly string[];
}

/** Receives what happens to keys, for logs and metrics. The methods must not throw. */
export interface KeyEvents {
  fetched(issuer: string): void;
  /**
   * A fetch failed. `retryIn` is in milliseconds, and so is `keysAge`, the age of the keys that are
   * used meanwhile. `keysAge` is undefined if there are none.
   */
  fetchFailed(
    issuer: string,
    failure: { reason: string; retryIn: number; keysAge: number | undefined },
  ): void;
  keysChanged(issuer: string, change: KeyChange): void;
  /** An unknown key ID came too soon after another, or while too many logins wait for new keys. */
  refetchRefused(issuer: string): void;
  /** The last good keys could not be stored, or what was stored could not be read. */
  notStored(issuer: string, reason: string): void;
  /** A token is about to be verified, unless it was verified `before`. */
  verified(before: boolean): void;
}

/**
 * The keys in the setting `server.jwt_authentication.jwks`, each of which may sign for every
 * configured issuer.
 */
export const staticKeys: KeySource = {
  async keysFor(_issuer, values) {
    return values['server.jwt_authentication.jwks'];
  },
  async refresh() {
    return undefined;
  },
  describe(values) {
    const keys = values['server.jwt_authentication.jwks'];
    const keyIds = formatValues(keys.map(({ kid }) => kid ?? ''));
    return values['server.jwt_authentication.issuers.configuration'].issuers.map((issuer) => ({
      issuer,
      source: nameInForce(values, 'server.jwt_authentication.jwks'),
      keyCount: keys.length,
      keyIds,
      fetchedAt: undefined,
      lastError: undefined,
    }));
  },
};

/**
 * The static keys or the fetched ones, as `server.jwt_authentication.jwks_auto_fetch.enabled` of
 * each login's settings says.
 */
export function keysBySetting(fetched: KeySource): KeySource {
  const sourceFor = (values: LoginSettings): KeySource =>
    values['server.jwt_authentication.jwks_auto_fetch.enabled'] ? fetched : staticKeys;
  return {
    keysFor: (issuer, values, signal) => sourceFor(values).keysFor(issuer, values, signal),
    refresh: (issuer, values, signal) => sourceFor(values).refresh(issuer, values, signal),
    describe(values) {
      const states = waysToLogIn(values).flatMap((way) => sourceFor(way).describe(way));
      // The same issuer may be there for each way to log in, and its keys from the same source.
      const distinct = new Map(states.map((state) => [`${state.source} ${state.issuer}`, state]));
      return [...distinct.values()];
    },
  };
}

/** Ignores all events. */
export const noEvents: KeyEvents = {
  fetched: () => undefined,
  fetchFailed: () => undefined,
  keysChanged: () => undefined,
  refetchRefused: () => undefined,
  notStored: () => undefined,
  verified: () => undefined,
};
