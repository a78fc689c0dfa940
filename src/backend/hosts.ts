/**
 * The order in which the hosts of a backend are tried: as they are written, or at random (libpq's
 * `load_balance_hosts`), but one that failed lately comes last, so that a host which is down costs
 * one login its connect timeout and not every login.
 */
import type { BackendSession } from './leg.ts';
import type { BackendHost, BackendUrl, TargetSessionAttrs } from './url.ts';

/**
 * How long a host that failed is tried last, in ms: long enough to pass over a restart, short
 * enough to come back to a primary.
 */
const LAST_FOR = 30_000;

/** The hosts of one backend, and which of them failed. */
export class HostOrder {
  readonly #url: BackendUrl;
  readonly #now: () => number;
  /** Host → when it failed, in ms. */
  readonly #failedAt = new Map<BackendHost, number>();

  /** @param now milliseconds on a clock that does not jump */
  constructor(url: BackendUrl, now: () => number) {
    this.#url = url;
    this.#now = now;
  }

  /** All hosts, in the order in which the next login is to try them. */
  list(): readonly BackendHost[] {
    const { hosts, loadBalanceHosts } = this.#url;
    if (hosts.length === 1) return hosts;
    const order = loadBalanceHosts === 'random' ? shuffle(hosts) : hosts;
    return [
      ...order.filter((host) => !this.isLast(host)),
      ...order.filter((host) => this.isLast(host)),
    ];
  }

  /** Whether the host failed lately. */
  isLast(host: BackendHost): boolean {
    const failedAt = this.#failedAt.get(host);
    return failedAt !== undefined && this.#now() - failedAt < LAST_FOR;
  }

  /** The host could not be reached, or is not what `target_session_attrs` wants. */
  failed(host: BackendHost): void {
    this.#failedAt.set(host, this.#now());
  }

  /** A login has succeeded there. */
  succeeded(host: BackendHost): void {
    this.#failedAt.delete(host);
  }
}

/** Fisher and Yates. */
function shuffle<T>(items: readonly T[]): T[] {
  const left = [...items];
  return items.flatMap(() => left.splice(Math.floor(Math.random() * left.length), 1));
}

/*
 * libpq's `target_session_attrs`, decided from what the server reports with each login since
 * PostgreSQL 14: `in_hot_standby` and `default_transaction_read_only` (manual 54.2.7). Nothing is
 * asked on the client's connection.
 */

/** A session on a host that is not what `target_session_attrs` wants. */
export class UnfitSession extends Error {}

/**
 * Checks a session that has just begun. `prefer-standby` asks for a standby here; that it takes any
 * other if there is none is the business of whoever goes through the hosts.
 *
 * @throws UnfitSession
 */
export function checkSession({ reported }: BackendSession, wanted: TargetSessionAttrs): void {
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
  const found = `${isStandby ? 'a standby' : 'a primary'}, ${isReadOnly ? 'read-only' : 'read-write'}`;
  throw new UnfitSession(`the session is on ${found}; target_session_attrs is ${wanted}`);
}
