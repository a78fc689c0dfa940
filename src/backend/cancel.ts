/**
 * Sends CancelRequests to backends: those of clients, which are forwarded, and those of the
 * front-end for its own sessions. The key is the backend's own. A host that did not issue the key
 * ignores the request. PostgreSQL closes the connection when the request is done. The front-end
 * waits for that, so that a client that waits does not have its next query cancelled.
 */
import { withDeadline } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import { formatCancel } from '../wire/startup.ts';
import type { BackendSession } from './connection.ts';
import { dialHost } from './dial.ts';
import type { BackendTarget } from './target.ts';
import { type BackendHost, formatHost } from './url.ts';

/** A host that a request goes to. A session has both members. */
export interface CancelDestination {
  readonly target: BackendTarget;
  readonly address: BackendHost;
}

/** The outcome at one host, for the log. */
export interface CancelOutcome {
  /** Host and port. */
  readonly host: string;
  /** Why the request may not have been delivered; undefined if it was. */
  readonly failure: string | undefined;
}

/** For the whole request: the user waits, and a backend that is slower will not answer at all. */
const CANCEL_TIMEOUT_MS = 5_000;

/**
 * Sends the request to the hosts, once each, and waits until each has closed the connection. Never
 * rejects: a CancelRequest has no answer.
 *
 * @param packet the whole packet, length included
 */
export function forwardCancel(
  destinations: readonly CancelDestination[],
  packet: Buffer,
  signal: AbortSignal,
): Promise<readonly CancelOutcome[]> {
  const byHost = new Map(
    destinations.map((destination) => [formatHost(destination.address), destination]),
  );
  return Promise.all(
    Array.from(byHost, async ([host, destination]) => ({
      host,
      failure: await cancelAt(destination, packet, signal).then(() => undefined, errorText),
    })),
  );
}

/** All hosts of a backend. */
export function allHosts(target: BackendTarget): CancelDestination[] {
  return target.url.hosts.map((address) => ({ target, address }));
}

/**
 * Cancels the query that a session runs, before the session is closed: a backend notices the end of
 * a connection only when its query is done. Never rejects.
 *
 * @param signal ends the wait for a frozen backend
 * @returns undefined if the backend has issued no key
 */
export async function cancelQuery(
  session: CancelDestination & Pick<BackendSession, 'cancelKey'>,
  signal: AbortSignal,
): Promise<CancelOutcome | undefined> {
  const { cancelKey } = session;
  if (!cancelKey) return undefined;
  const [outcome] = await forwardCancel([session], formatCancel(cancelKey), signal);
  return outcome;
}

async function cancelAt(
  { target, address }: CancelDestination,
  packet: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const text = `not done within ${CANCEL_TIMEOUT_MS} ms`;
  await withDeadline(CANCEL_TIMEOUT_MS, text, signal, async (within) => {
    const { channel } = await dialHost(target, address, within);
    try {
      await channel.write(packet, within);
      await channel.byte(within);
    } finally {
      channel.destroy();
    }
  });
}
