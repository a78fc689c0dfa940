/** What happens to keys, as it is told to whoever logs and counts. The decision itself needs nobody who listens. */

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
  /** @param retryIn milliseconds @param keysAge of the keys that serve meanwhile, in milliseconds; undefined when there are none */
  fetchFailed(issuer: string, failure: { reason: string; retryIn: number; keysAge: number | undefined }): void;
  keysChanged(issuer: string, change: KeyChange): void;
  /** An unknown key ID came too soon after another one, or while too many logins wait for new keys. */
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
