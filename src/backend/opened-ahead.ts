/**
 * Connections opened ahead (`--backend-ahead`): dialled and with TLS, but without a startup packet.
 * The backend has then started its process and done its part of the handshake before a login is
 * decided. It closes such a connection after its `authentication_timeout`, and the connection is
 * replaced. A login uses one only for the same host and the same TLS identity.
 */

import { setMaxListeners } from 'node:events';
import type { SecureContext } from 'node:tls';
import type { BackendConnection } from './connection.ts';
import { dialHost } from './dial.ts';
import { outOfDescriptors } from './errors.ts';
import type { BackendTarget } from './target.ts';
import type { BackendHost } from './url.ts';

/**
 * The pause after a connection could not be opened or was closed unused. It begins with the first
 * value and doubles up to the last.
 */
const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 30_000;

/** A connection that waits, and the controller that ends the watch on it. */
interface Waiting {
  readonly connection: BackendConnection;
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
   * @param size the number of connections
   * @param context the TLS context in use, which is the same for every login
   */
  constructor(target: BackendTarget, size: number, context: () => SecureContext) {
    this.#target = target;
    this.#size = size;
    this.#context = context;
    // Each connection that is being opened listens to it.
    setMaxListeners(0, this.#closed.signal);
  }

  /** Begins to open connections. */
  start(): void {
    this.#fill();
  }

  /** How many wait or are being opened. */
  get size(): number {
    return this.#waiting.size + this.#opening;
  }

  /**
   * The host of a connection that waits. Undefined if there is none, or if the hosts have a fixed
   * order, which then decides.
   */
  host(secureContext: SecureContext): BackendHost | undefined {
    const { url, hosts } = this.#target;
    if (url.loadBalanceHosts !== 'random') return undefined;
    return this.#find(
      (waiting) =>
        waiting.secureContext === secureContext && !hosts.failedLately(waiting.connection.host),
    )?.connection.host;
  }

  /**
   * Takes a connection to the host, which the caller then owns; undefined if none waits with this
   * TLS context.
   */
  take(host: BackendHost, secureContext: SecureContext): BackendConnection | undefined {
    const found = this.#find(
      (waiting) => waiting.connection.host === host && waiting.secureContext === secureContext,
    );
    if (!found) return undefined;
    this.#waiting.delete(found);
    found.watch.abort();
    this.#pause = 0;
    this.#fill();
    return found.connection;
  }

  /** Closes the connections and opens new ones, with the TLS context now in use. */
  renew(): void {
    for (const waiting of this.#waiting) waiting.connection.channel.destroy();
    this.#waiting.clear();
    this.#pause = 0;
    this.#fill();
  }

  /** Closes the connections that wait, and opens no more. */
  close(): void {
    this.#closed.abort(new Error('no more connections are opened ahead'));
    clearTimeout(this.#timer);
    for (const waiting of this.#waiting) waiting.connection.channel.destroy();
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
      const connection = await dialHost(this.#target, host, signal, secureContext);
      this.#opening--;
      if (secureContext === this.#context())
        this.#add({ connection, secureContext, watch: new AbortController() });
      else connection.channel.destroy();
      this.#fill();
    } catch (error) {
      // Not logged: the next login finds the host in the same state, and its refusal says why.
      this.#opening--;
      if (signal.aborted) return;
      if (!outOfDescriptors('', error)) this.#target.hosts.failed(host);
      this.#fillLater();
    }
  }

  #add(waiting: Waiting): void {
    this.#waiting.add(waiting);
    const { channel } = waiting.connection;
    const gone = (): void => {
      if (!this.#waiting.delete(waiting)) return;
      channel.destroy();
      this.#fillLater();
    };
    // The front-end has asked for nothing, so a connection on which anything arrives, a byte or the
    // end, is of no use.
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
