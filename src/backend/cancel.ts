/**
 * A client's CancelRequest on its way to the backend. The key is the backend's own, so that no
 * state is needed here, and with several hosts it goes to each: one that did not issue it ignores
 * it. PostgreSQL closes such a connection when the request is done, and a client that waits for
 * that has to wait here, too, lest its next query be hit.
 */
import { withDeadline } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import { dialHost } from './dial.ts';
import type { BackendTarget } from './target.ts';
import { type BackendHost, formatHost } from './url.ts';

/** How it went at one host; for the log. */
export interface CancelOutcome {
  /** Host and port. */
  readonly host: string;
  /** Why the request may not have been delivered; undefined when it was. */
  readonly failure: string | undefined;
}

/**
 * Milliseconds that a cancel request may take in all: somebody waits for it, and a backend that is
 * slower than that is not going to do it.
 */
const CANCEL_TIMEOUT = 5_000;

/**
 * Sends the packet, length included, to every host of the backend and waits until each has dealt
 * with it. Never rejects: nobody waits for an answer.
 *
 * @param timeout milliseconds
 */
export function forwardCancel(
  target: BackendTarget,
  packet: Buffer,
  signal: AbortSignal,
  timeout: number = CANCEL_TIMEOUT,
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
