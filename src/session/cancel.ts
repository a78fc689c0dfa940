/**
 * A client's CancelRequest. It needs no login, so a stranger can send as many as it likes: what is
 * above the limit is dropped, as a backend without a free connection would drop it. The keys are
 * the backends' own. A request goes to the host that issued its key where that is known here, so
 * that a backend that has seen a key cannot use it against another one.
 */
import type { CancelDestination } from '../backend/cancel.ts';
import type { BackendSession } from '../backend/connection.ts';
import type { Routes } from '../backend/routes.ts';
import type { Log, RepeatedEvent } from '../observe/log.ts';
import type { Limits } from './limits.ts';

/** A session as far as its cancel key is concerned. */
export type KeyHolder = CancelDestination & Pick<BackendSession, 'cancelKey'>;

/** Bytes of a CancelRequest before its key: length and code (manual 54.7). */
const KEY_OFFSET = 8;

/** Finds the hosts that issued the key of a request, as far as other workers know it. */
type AskWorkers = (packet: Buffer) => Promise<readonly CancelDestination[] | undefined>;

/** The cancel keys of the running sessions. */
export class CancelKeys {
  readonly #askWorkers: AskWorkers | undefined;
  /** By key, the sessions that have it: two hosts may issue the same key by chance. */
  readonly #holders = new Map<string, readonly KeyHolder[]>();

  /** @param askWorkers is asked if the session is not here; absent if there are no other workers */
  constructor(askWorkers?: AskWorkers) {
    this.#askWorkers = askWorkers;
  }

  /** Notes the key of a session that begins. */
  add(session: KeyHolder): void {
    const key = session.cancelKey?.toString('latin1');
    if (key === undefined) return;
    this.#holders.set(key, [...(this.#holders.get(key) ?? []), session]);
  }

  /** Forgets the key of a session that has ended. */
  remove(session: KeyHolder): void {
    const key = session.cancelKey?.toString('latin1');
    if (key === undefined) return;
    const left = this.#holders.get(key)?.filter((holder) => holder !== session) ?? [];
    if (left.length > 0) this.#holders.set(key, left);
    else this.#holders.delete(key);
  }

  /** The hosts that issued the key of a request; undefined if the key is not known here. */
  find(packet: Buffer): readonly CancelDestination[] | undefined {
    return this.#holders.get(packet.toString('latin1', KEY_OFFSET));
  }

  /** The same, for all workers of the node. */
  async findInNode(packet: Buffer): Promise<readonly CancelDestination[] | undefined> {
    return this.find(packet) ?? (await this.#askWorkers?.(packet));
  }
}

/** What a cancel request needs of what sessions share. */
interface CancelServices {
  readonly limits: Limits;
  readonly routes: Pick<Routes, 'cancel'>;
  readonly cancelKeys: CancelKeys;
  readonly cancelFailed: RepeatedEvent;
  readonly log: Log;
}

/**
 * Forwards a CancelRequest to the backends. Resolves when they have dealt with it, or when it was
 * dropped. Nobody waits for an answer, so that a failure is only logged, and as strangers can cause
 * as many as they like, once a second at most.
 */
export async function forwardCancel(
  packet: Buffer,
  client: string,
  address: string,
  { limits, routes, cancelKeys, cancelFailed, log }: CancelServices,
  signal: AbortSignal,
): Promise<void> {
  const permit = limits.enterCancel(address);
  if (!permit) return;
  try {
    const destinations = await cancelKeys.findInNode(packet);
    for (const { host, failure } of await routes.cancel(packet, signal, destinations)) {
      const about = { client, backend: host };
      if (failure !== undefined) cancelFailed.happened({ ...about, reason: failure });
      else log.debug({ event: 'cancel', ...about }, 'cancel request forwarded');
    }
  } finally {
    permit.release();
  }
}
