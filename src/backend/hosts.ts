/**
 * Which host of a backend a login uses. The hosts are tried in the order of the URL, or at random
 * (libpq's `load_balance_hosts`); a host that failed lately comes last, so that a host which is
 * down delays one login by the connect timeout and not every login. A session must then fit
 * libpq's `target_session_attrs`.
 */
import type { BackendHost, BackendUrl, TargetSessionAttrs } from './url.ts';

/**
 * How long a host that failed is tried last: longer than a restart takes, but short enough that
 * logins soon return to a primary.
 */
const FAILED_FOR_MS = 30_000;

/** The hosts of one backend, and which of them failed lately. */
export class HostOrder {
  readonly #url: BackendUrl;
  readonly #now: () => number;
  /** By host, when it failed, in ms. */
  readonly #failedAt = new Map<BackendHost, number>();

  /** @param now milliseconds on a clock that does not jump */
  constructor(url: BackendUrl, now: () => number) {
    this.#url = url;
    this.#now = now;
  }

  /** All hosts, in the order in which the next login tries them. */
  list(): readonly BackendHost[] {
    const { hosts, loadBalanceHosts } = this.#url;
    if (hosts.length === 1) return hosts;
    const order = loadBalanceHosts === 'random' ? shuffle(hosts) : hosts;
    return [
      ...order.filter((host) => !this.failedLately(host)),
      ...order.filter((host) => this.failedLately(host)),
    ];
  }

  /** Whether the host failed within the last 30 seconds. */
  failedLately(host: BackendHost): boolean {
    const failedAt = this.#failedAt.get(host);
    return failedAt !== undefined && this.#now() - failedAt < FAILED_FOR_MS;
  }

  /** Records that the host could not be reached or does not fit `target_session_attrs`. */
  failed(host: BackendHost): void {
    this.#failedAt.set(host, this.#now());
  }

  /** Records that a login has succeeded at the host. */
  succeeded(host: BackendHost): void {
    this.#failedAt.delete(host);
  }
}

/** The shuffle of Fisher and Yates. */
function shuffle<T>(items: readonly T[]): T[] {
  const left = [...items];
  return items.flatMap(() => left.splice(Math.floor(Math.random() * left.length), 1));
}

/** A session on a host that does not fit `target_session_attrs`. */
export class UnfitSession extends Error {}

/**
 * Checks a new session against `target_session_attrs`. It is decided from `in_hot_standby` and
 * `default_transaction_read_only`, which servers report since PostgreSQL 14 (manual 54.2.7); no
 * query runs on the client's connection. `prefer-standby` wants a standby here, and the caller
 * accepts another host if there is none.
 *
 * @throws UnfitSession if it does not fit, or if the server does not report
 */
export function checkSession(
  { reported }: { readonly reported: ReadonlyMap<string, string> },
  wanted: TargetSessionAttrs,
): void {
  if (wanted === 'any') return;
  const standby = reported.get('in_hot_standby');
  const readOnly = reported.get('default_transaction_read_only');
  if (standby === undefined || readOnly === undefined) {
    throw new UnfitSession(
      `the server does not report whether it is a standby; target_session_attrs is ${wanted}`,
    );
  }
  const isStandby = standby === 'on';
  const isReadOnly = isStandby || readOnly === 'on';
  const fits = {
    'read-write': !isReadOnly,
    'read-only': isReadOnly,
    primary: !isStandby,
    standby: isStandby,
    'prefer-standby': isStandby,
  }[wanted];
  if (fits) return;
  const role = isStandby ? 'a standby' : 'a primary';
  const mode = isReadOnly ? 'read-only' : 'read-write';
  throw new UnfitSession(`the session is on ${role}, ${mode}; target_session_attrs is ${wanted}`);
}
