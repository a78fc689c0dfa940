/**
 * Whether a backend lets the front-end in without the credential that it has for it. A server that was meant to ask for a certificate and
 * trusts the address instead looks the same as one that does as it should, until somebody connects without: whoever else reaches it from
 * that address could then be anybody.
 */

import { withDeadline } from '../deadline.ts';
import { AUTHENTICATION, PROTOCOL_3_0 } from '../protocol/constants.ts';
import { formatStartup, type StartupParameter } from '../protocol/startup.ts';
import { BackendRefusal } from './backend-errors.ts';
import type { BackendHost } from './backend-url.ts';
import { dialHost } from './dial.ts';
import { readRequest, write } from './leg.ts';
import type { BackendTarget } from './target.ts';

/** For the whole probe, in milliseconds. */
const PROBE_TIMEOUT = 10_000;

/**
 * Connects as the user with nothing to show, and leaves.
 *
 * @returns whether the backend has let it in
 * @throws Error when that cannot be told: the host is away, or does not follow the protocol; the signal's reason
 */
export async function admitsWithoutCredential(
  target: BackendTarget,
  host: BackendHost,
  parameters: readonly StartupParameter[],
  signal: AbortSignal,
): Promise<boolean> {
  return withDeadline(PROBE_TIMEOUT, `no answer within ${PROBE_TIMEOUT} ms`, signal, async (within) => {
    const leg = await dialHost(target, host, within);
    try {
      await write(leg, formatStartup(PROTOCOL_3_0, parameters), within);
      return (await readRequest(leg, within)).code === AUTHENTICATION.ok;
    } catch (error) {
      if (error instanceof BackendRefusal) return false;
      throw error;
    } finally {
      leg.channel.destroy();
    }
  });
}
