/**
 * Where the keys of an issuer come from. The login decision asks through {@link KeySource} and
 * cannot tell a setting from a cache or an identity provider.
 */
import type { Fault } from '../lib/errors.ts';
import type { KeySet } from '../settings/jwks.ts';
import type { LoginSettings } from '../settings/snapshot.ts';

/**
 * Why the keys of an issuer cannot be had; a login is refused for it (check 4). The message is for
 * the log alone.
 */
export class KeysUnavailable extends Error {
  override readonly name = 'KeysUnavailable';
  readonly fault: Fault;

  constructor(found: string, fault: Fault) {
    super(found);
    this.fault = fault;
  }
}

/** What is known of an issuer's keys, for operators. */
export interface IssuerKeys {
  readonly issuer: string;
  /** Where they come from: the setting `jwks`, or the address that they are fetched from. */
  readonly source: string;
  readonly keyIds: readonly string[];
  /**
   * When they were fetched, in milliseconds since the epoch; undefined for keys that are not
   * fetched, or not yet.
   */
  readonly fetchedAt: number | undefined;
  /** Why they could not be had last time. */
  readonly lastError: string | undefined;
}

/** The key sets of the issuers. */
export interface KeySource {
  /**
   * The keys that may sign for an issuer, which is one of the configured ones.
   * @throws KeysUnavailable when they cannot be had; whatever the signal aborts with
   */
  keysFor(issuer: string, values: LoginSettings, signal: AbortSignal): Promise<KeySet>;
  /**
   * Asked at most once a login, when a token names a key that the set lacks: the issuer may have a
   * new one. Resolves to undefined when no newer set can be had, because there is none or because
   * it was asked for too recently.
   * @throws the same as `keysFor`
   */
  refresh(issuer: string, values: LoginSettings, signal: AbortSignal): Promise<KeySet | undefined>;
  /** Every configured issuer with what is known of its keys. */
  describe(values: LoginSettings): readonly IssuerKeys[];
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
    const keyIds = values['server.jwt_authentication.jwks'].map(({ kid }) => kid ?? '');
    return values['server.jwt_authentication.issuers.configuration'].issuers.map((issuer) => ({
      issuer,
      source: 'server.jwt_authentication.jwks',
      keyIds,
      fetchedAt: undefined,
      lastError: undefined,
    }));
  },
};

/**
 * The static keys or the fetched ones, as `server.jwt_authentication.jwks_auto_fetch.enabled` says
 * at each login.
 */
export function keysBySetting(fetched: KeySource): KeySource {
  const sourceFor = (values: LoginSettings): KeySource =>
    values['server.jwt_authentication.jwks_auto_fetch.enabled'] ? fetched : staticKeys;
  return {
    keysFor: (issuer, values, signal) => sourceFor(values).keysFor(issuer, values, signal),
    refresh: (issuer, values, signal) => sourceFor(values).refresh(issuer, values, signal),
    describe: (values) => sourceFor(values).describe(values),
  };
}

/*
 * What happens to keys, as it is told to whoever logs and counts. The decision itself needs nobody
 * who listens.
 */

/** How a change of an issuer's keys is told. */
export interface KeyChange {
  /** Key IDs; `(no kid)` for a key without. */
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** One phrase for each key of the set that cannot be used. */
  readonly skipped: readonly string[];
}

/** Called as things happen. An implementation does not throw. */
export interface KeyEvents {
  fetched(issuer: string): void;
  /**
   * @param retryIn milliseconds @param keysAge of the keys that serve meanwhile, in milliseconds;
   * undefined when there are none
   */
  fetchFailed(
    issuer: string,
    failure: { reason: string; retryIn: number; keysAge: number | undefined },
  ): void;
  keysChanged(issuer: string, change: KeyChange): void;
  /**
   * An unknown key ID came too soon after another one, or while too many logins wait for new keys.
   */
  refetchRefused(issuer: string): void;
  /** The last good keys could not be kept, or read back. */
  notKept(issuer: string, reason: string): void;
  /** Whether a token had been verified before. */
  verified(before: boolean): void;
}

/** For a decision that nobody listens to. */
export const noEvents: KeyEvents = {
  fetched: () => undefined,
  fetchFailed: () => undefined,
  keysChanged: () => undefined,
  refetchRefused: () => undefined,
  notKept: () => undefined,
  verified: () => undefined,
};
