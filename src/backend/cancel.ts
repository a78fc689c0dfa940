/**
 * Forwards a client's CancelRequest to the backend. The key is the backend's own, so the front-end
 * keeps no state. With several hosts the request goes to each: a host that did not issue the key
 * ignores it. PostgreSQL closes the connection when the request is done. The front-end waits for
 * that, so that a client that waits does not have its next query cancelled.
 */
import { withDeadline } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import { dialHost } from './dial.ts';
import type { BackendTarget } from './target.ts';
import { type BackendHost, formatHost } from './url.ts';

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
 * Sends the request to every host of the backend and waits until each has closed the connection.
 * Never rejects: a CancelRequest has no answer.
 *
 * @param packet the whole packet, length included
 * @param timeout milliseconds
 */
export function forwardCancel(
  target: BackendTarget,
  packet: Buffer,
  signal: AbortSignal,
  timeout: number = CANCEL_TIMEOUT_MS,
): Promise<readonly CancelOutcome[]> {
  return Promise.all(
    target.url.hosts.map(async (host) => ({
      host: formatHost(host),
      failure: await cancelAt(target, host, packet, signal, timeout).then(
        () => undefined,
        errorText,
      ),
    })),
  );
}

async function cancelAt(
  target: BackendTarget,
  host: BackendHost,
  packet: Buffer,
  signal: AbortSignal,
  timeout: number,
): Promise<void> {
  await withDeadline(timeout, `not done within ${timeout} ms`, signal, async (within) => {
    const { channel } = await dialHost(target, host, within);
    try {
      await channel.write(packet, within);
      await channel.byte(within);
    } finally {
      channel.destroy();
    }
  });
}
