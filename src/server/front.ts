/**
 * What clients of a process meet: its listeners and its connections, from the first accept to the
 * last session of a drain.
 */
import type { Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../lib/errors.ts';
import type { Log } from '../observe/log.ts';
import { serveConnection } from '../session/connection.ts';
import { Connections, type ListenAddress, Listener } from '../session/listener.ts';
import type { ClientTls } from '../session/negotiate.ts';
import { type Closing, inTime } from './closing.ts';
import { AcceptFailures } from './open-files.ts';
import type { ServeOptions } from './options.ts';
import type { FrontServices } from './services.ts';

/** How long connections that were cut may take to be gone, in ms. */
const CUT_MS = 1500;

/** How long connections that wait in the system's queue are still accepted, in ms. */
const QUEUE_MS = 500;

/** How connections are numbered. Workers of a node count in steps, so that no two are the same. */
export interface Numbering {
  readonly first: number;
  readonly step: number;
}

type FrontOptions = Pick<ServeOptions, 'drainDelay' | 'drainTimeout'>;

/** The listeners, with all connections that they accepted. */
export class Front {
  readonly #options: FrontOptions;
  readonly #services: FrontServices;
  readonly #log: Log;
  readonly #numbering: Numbering;
  readonly #connections = new Connections();
  readonly #listeners: Listener[] = [];
  readonly #acceptFailures: AcceptFailures;
  #accepted = 0;

  constructor(
    options: FrontOptions,
    services: FrontServices,
    log: Log,
    numbering: Numbering = { first: 1, step: 1 },
  ) {
    this.#options = options;
    this.#services = services;
    this.#log = log;
    this.#numbering = numbering;
    this.#acceptFailures = new AcceptFailures(log);
  }

  /** What is listened on, in the order of the options. */
  get addresses(): readonly ListenAddress[] {
    return this.#listeners.map((listener) => listener.address);
  }

  /** The number of the last connection, or of the one before the first. */
  get lastNumber(): number {
    const { first, step } = this.#numbering;
    return first + (this.#accepted - 1) * step;
  }

  /**
   * Opens the listeners, and begins to open connections to the backends ahead.
   *
   * @param opened called after each one with its address, before the next one is opened
   * @throws Error that names the address that cannot be used
   */
  async listen(
    closing: Closing,
    opened: (address: ListenAddress, index: number) => Promise<void> | void = () => undefined,
  ): Promise<void> {
    const { listeners, routes } = this.#services;
    closing.add('accept failures', this.#acceptFailures);
    closing.add('--listen', { close: () => this.#closeListeners() });
    for (const [index, { address, tls }] of listeners.entries()) {
      const listener = await Listener.open(
        address,
        (client) => this.#accept(client, tls()),
        this.#acceptFailures.happened,
      );
      this.#listeners.push(listener);
      await opened(listener.address, index);
    }
    routes.start();
    closing.add('backends', routes);
  }

  /** Accepts connections during the drain delay, and then none. Unfinished logins are ended. */
  async stopAccepting(): Promise<void> {
    const { routes, limits, throttle } = this.#services;
    if (this.#options.drainDelay > 0) await sleep(this.#options.drainDelay);
    await this.#emptyQueues();
    this.#closeListeners();
    routes.close();
    limits.evictLogins();
    throttle.release();
  }

  /** Waits for the sessions, and ends those that are left after the drain timeout. */
  async sessionsOver(): Promise<void> {
    const { drainTimeout } = this.#options;
    const overdue = setTimeout(() => this.#endSessions(), drainTimeout);
    try {
      await inTime(drainTimeout + CUT_MS, () => this.#connections.ended());
    } catch (error) {
      this.#log.warn(
        { event: 'shutdown', sessions: this.#connections.size, reason: errorText(error) },
        'connections left as they are',
      );
    } finally {
      clearTimeout(overdue);
    }
  }

  #accept(client: Socket, tls: ClientTls): void {
    this.#accepted++;
    const session = serveConnection(client, tls, this.lastNumber, this.#services);
    this.#connections.follow(client, session);
  }

  /**
   * Accepts what waits in the queues of the system: when a listener is closed, they are reset. A
   * turn of the event loop takes one connection or more from each.
   */
  async #emptyQueues(): Promise<void> {
    const end = performance.now() + QUEUE_MS;
    for (let before = -1; before !== this.#accepted && performance.now() < end; ) {
      before = this.#accepted;
      await nextTurn();
      await nextTurn();
    }
  }

  #closeListeners(): void {
    for (const listener of this.#listeners) listener.close();
  }

  #endSessions(): void {
    this.#log.warn(
      { event: 'shutdown', sessions: this.#connections.size },
      'sessions ended: --drain-timeout is over',
    );
    void this.#services.registry.endAll().finally(() => this.#connections.destroy());
  }
}
