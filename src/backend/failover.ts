/**
 * Goes through the hosts of a backend until a login succeeds at one. What is about the host leads to the next one: it cannot be reached, it
 * is starting or stopping, the connection breaks, it is not what `target_session_attrs` wants. What is about the login, a refusal above
 * all, ends it: another host would say the same.
 */
import { errorText, PgError } from '../errors.ts';
import { BackendRefusal, isConnectionLost, unreachable } from './backend-errors.ts';
import { type BackendHost, formatHost, type TargetSessionAttrs } from './backend-url.ts';
import { UnfitSession } from './session-attributes.ts';
import type { BackendTarget } from './target.ts';

/** A host that could not be reached, or not in time. */
export class HostFailure extends Error {}

/** What a server says that is starting up, shutting down or recovering; libpq tries the next host on it, too. */
const CANNOT_CONNECT_NOW = '57P03';

/** How to go through the hosts. */
export interface FailoverOptions {
  readonly target: BackendTarget;
  /** A host to begin with, if it is one of those that did not fail lately. */
  readonly first: BackendHost | undefined;
  /** Whether the login can still be made at another host: not once somebody has answered for it. */
  readonly mayRepeat: () => boolean;
  readonly signal: AbortSignal;
}

/**
 * Tries the hosts in their order.
 *
 * @param attempt logs in at a host, or throws
 * @throws PgError 08001 with every host's reason for the log; what `attempt` throws about the login; the signal's reason
 */
export async function tryHosts<T>(
  { target, first, mayRepeat, signal }: FailoverOptions,
  attempt: (host: BackendHost, wanted: TargetSessionAttrs) => Promise<T>,
): Promise<T> {
  const { targetSessionAttrs, hosts: all } = target.url;
  const reasons: string[] = [];
  const unfit: BackendHost[] = [];
  let cause: unknown;
  const tryEach = async (hosts: readonly BackendHost[], wanted: TargetSessionAttrs): Promise<{ result: T } | undefined> => {
    for (const host of hosts) {
      try {
        const result = await attempt(host, wanted);
        target.hosts.succeeded(host);
        return { result };
      } catch (error) {
        signal.throwIfAborted();
        if (!isAboutHost(error)) throw error;
        target.hosts.failed(host);
        if (error instanceof UnfitSession) unfit.push(host);
        reasons.push(`${formatHost(host)}: ${errorText(error)}`);
        cause = error;
        if (error instanceof PgError && (all.length === 1 || !mayRepeat())) throw error;
        if (!mayRepeat()) throw unreachable(reasons, all.length, cause);
      }
    }
    return undefined;
  };
  const order = target.hosts.list();
  const begun = first && !target.hosts.isLast(first) ? [first, ...order.filter((host) => host !== first)] : order;
  const found = await tryEach(begun, targetSessionAttrs);
  if (found) return found.result;
  const anyway = targetSessionAttrs === 'prefer-standby' ? await tryEach([...unfit], 'any') : undefined;
  if (anyway) return anyway.result;
  throw unreachable(reasons, all.length, cause);
}

function isAboutHost(error: unknown): boolean {
  if (error instanceof BackendRefusal) return error.sqlstate === CANNOT_CONNECT_NOW;
  return error instanceof HostFailure || error instanceof UnfitSession || isConnectionLost(error);
}
