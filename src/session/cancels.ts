/**
 * Bounds the cancel requests that are on their way at once: they need no login, so a stranger can send as many as he likes. What is
 * above the bound is dropped, as a backend that is out of connections would drop it.
 */
import type { CancelOutcome } from '../backend/cancel.ts';
import type { Log } from '../observe/log.ts';
import { RepeatedEvent } from '../observe/repeated-event.ts';

/** At once, in a process; each takes up to five seconds. */
const CANCEL_LIMIT = 32;

/** Sends a packet to the backend's hosts. */
type Forward = (packet: Buffer, signal: AbortSignal) => Promise<readonly CancelOutcome[]>;

/** The cancel requests of a process. */
export class Cancels {
  readonly #log: Log;
  readonly #forward: Forward;
  readonly #dropped: RepeatedEvent;
  #running = 0;

  /** @param dropped is told of each request that was dropped */
  constructor(log: Log, forward: Forward, dropped: () => void) {
    this.#log = log;
    this.#forward = forward;
    this.#dropped = new RepeatedEvent(
      log,
      'cancel_dropped',
      `cancel requests dropped: ${CANCEL_LIMIT} are being forwarded`,
      dropped,
    );
  }

  /** Forwards a CancelRequest; resolves when the backend has dealt with it, or it was dropped. */
  async forward(packet: Buffer, client: string, signal: AbortSignal): Promise<void> {
    if (this.#running >= CANCEL_LIMIT) return this.#dropped.happened();
    this.#running++;
    try {
      for (const { host, failure } of await this.#forward(packet, signal)) {
        if (failure === undefined) this.#log.debug({ event: 'cancel', client, backend: host }, 'cancel request forwarded');
        else this.#log.warn({ event: 'cancel', client, backend: host, reason: failure }, 'cancel request not delivered');
      }
    } finally {
      this.#running--;
    }
  }
}
