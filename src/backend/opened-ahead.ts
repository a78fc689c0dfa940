/**
 * Connections opened ahead (`--backend-ahead`): dialled, TLS done, nothing sent yet, so that the
 * backend has forked its process and done its part of the handshake before a login is decided. The
 * backend closes such a connection when its `authentication_timeout` is over, and it is then
 * replaced. One is only ever used with the host and the TLS identity that it was opened with.
 */

import type { SecureContext } from 'node:tls';
import { dialHost } from './dial.ts';
import type { BackendLeg } from './leg.ts';
import type { BackendTarget } from './target.ts';
import type { BackendHost } from './url.ts';

/**
 * After a connection could not be opened, or was closed unused: the first pause before the next
 * one, doubled up to the last.
 */
const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 30_000;

/** A connection that waits, and what ends the watch on it. */
interface Waiting {
  readonly leg: BackendLeg;
  readonly secureContext: SecureContext;
  readonly watch: AbortController;
}

/** The connections that wait for logins at one backend. */
export class OpenedAhead {
  readonly #target: BackendTarget;
  readonly #context: () => SecureContext;
  readonly #size: number;
  /** Oldest first. */
  readonly #waiting = new Set<Waiting>();
  readonly #closed = new AbortController();
  #opening = 0;
  #pause = 0;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param size how many, at most
   * @param context the TLS identity in force, which every login has
   */
  constructor(target: BackendTarget, size: number, context: () => SecureContext) {
    this.#target = target;
    this.#size = size;
    this.#context = context;
  }

  /** Begins to open them. */
  start(): void {
    this.#fill();
  }

  /** How many wait or are on their way. */
  get size(): number {
    return this.#waiting.size + this.#opening;
  }

  /**
   * The host of the connection to take next, where the hosts are chosen at random and one is as
   * good as another.
   */
  host(secureContext: SecureContext): BackendHost | undefined {
    const { url, hosts } = this.#target;
    if (url.loadBalanceHosts !== 'random') return undefined;
    return this.#find(
      (waiting) => waiting.secureContext === secureContext && !hosts.isLast(waiting.leg.host),
    )?.leg.host;
  }

  /**
   * A connection to the host, now the caller's; undefined when none waits that was opened with this
   * identity.
   */
  take(host: BackendHost, secureContext: SecureContext): BackendLeg | undefined {
    const found = this.#find(
      (waiting) => waiting.leg.host === host && waiting.secureContext === secureContext,
    );
    if (!found) return undefined;
    this.#waiting.delete(found);
    found.watch.abort();
    this.#pause = 0;
    this.#fill();
    return found.leg;
  }

  /** Drops what was opened with another TLS identity than the one in force. */
  renew(): void {
    for (const waiting of this.#waiting) waiting.leg.channel.destroy();
    this.#waiting.clear();
    this.#pause = 0;
    this.#fill();
  }

  /** Drops all, and opens no more. */
  close(): void {
    this.#closed.abort(new Error('no more connections are opened ahead'));
    clearTimeout(this.#timer);
    for (const waiting of this.#waiting) waiting.leg.channel.destroy();
    this.#waiting.clear();
  }

  #find(fits: (waiting: Waiting) => boolean): Waiting | undefined {
    for (const waiting of this.#waiting) {
      if (fits(waiting)) return waiting;
    }
    return undefined;
  }

  #fill(): void {
    if (this.#timer || this.#closed.signal.aborted) return;
    for (const host of this.#target.hosts.list().slice(0, 1)) {
      while (this.size < this.#size) void this.#open(host);
    }
  }

  async #open(host: BackendHost): Promise<void> {
    const { signal } = this.#closed;
    const secureContext = this.#context();
    this.#opening++;
    try {
      const leg = await dialHost(this.#target, host, signal, secureContext);
      this.#opening--;
      if (secureContext === this.#context())
        this.#keep({ leg, secureContext, watch: new AbortController() });
      else leg.channel.destroy();
      this.#fill();
    } catch {
      // The login that comes next finds the host in the same state, and its refusal says why.
      this.#opening--;
      if (signal.aborted) return;
      this.#target.hosts.failed(host);
      this.#fillLater();
    }
  }

  #keep(waiting: Waiting): void {
    this.#waiting.add(waiting);
    const { channel } = waiting.leg;
    const gone = (): void => {
      if (!this.#waiting.delete(waiting)) return;
      channel.destroy();
      this.#fillLater();
    };
    // Nothing has been asked: whatever comes, a byte or the end, it is not a connection to log in
    // over.
    channel.peek(waiting.watch.signal).then(gone, gone);
  }

  #fillLater(): void {
    if (this.#timer || this.#closed.signal.aborted) return;
    this.#pause = Math.min(Math.max(FIRST_PAUSE_MS, this.#pause * 2), LAST_PAUSE_MS);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#fill();
    }, this.#pause).unref();
  }
}
