/**
 * A client's CancelRequest. It needs no login, so a stranger can send as many as it likes: what is
 * above the limit is dropped, as a backend without a free connection would drop it.
 */
import type { Routes } from '../backend/routes.ts';
import type { Log } from '../observe/log.ts';
import type { Limits } from './limits.ts';

/** What a cancel request needs of what sessions share. */
interface CancelServices {
  readonly limits: Limits;
  readonly routes: Pick<Routes, 'cancel'>;
  readonly log: Log;
}

/**
 * Forwards a CancelRequest to the backends. Resolves when they have dealt with it, or when it was
 * dropped. Nobody waits for an answer, so that a failure is only logged.
 */
export async function forwardCancel(
  packet: Buffer,
  client: string,
  address: string,
  { limits, routes, log }: CancelServices,
  signal: AbortSignal,
): Promise<void> {
  const permit = limits.enterCancel(address);
  if (!permit) return;
  try {
    for (const { host, failure } of await routes.cancel(packet, signal)) {
      const event = { event: 'cancel', client, backend: host };
      if (failure === undefined) log.debug(event, 'cancel request forwarded');
      else log.warn({ ...event, reason: failure }, 'cancel request not delivered');
    }
  } finally {
    permit.release();
  }
}
