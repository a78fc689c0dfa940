/**
 * The server of a process, from its start to its end: `serve` opens the services and the
 * listeners, SIGHUP reloads files, and a drain waits for the sessions before everything is closed.
 */
import type { Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { ConsoleSocket } from '../console/socket.ts';
import { errorText } from '../lib/errors.ts';
import { Mutex } from '../lib/keyed-mutex.ts';
import type { Log } from '../observe/log.ts';
import { MetricsServer } from '../observe/metrics-server.ts';
import { serveConnection } from '../session/connection.ts';
import { Connections, type ListenAddress, Listener } from '../session/listener.ts';
import type { ClientTls } from '../session/negotiate.ts';
import { Closing, inTime } from './closing.ts';
import { AcceptFailures } from './open-files.ts';
import { type ServeOptions, version } from './options.ts';
import { openServices, type Services } from './services.ts';
import { checkDataDir } from './settings.ts';

/** How long connections that were cut may take to be gone, in ms. */
const CUT_MS = 1500;

/** How long connections that wait in the system's queue are still accepted, in ms. */
const QUEUE_MS = 500;

/** A front-end that is up. */
export interface RunningServer {
  /** What it listens on, in the order of the options. */
  readonly addresses: readonly ListenAddress[];
  /** Where metrics are served; undefined without `--metrics-listen`. */
  readonly metricsAddress: ListenAddress | undefined;
  /**
   * Reads certificates and credential files again. An error is logged, and the previous content
   * stays in use. Never rejects.
   */
  reload(): Promise<void>;
  /**
   * Is unready at once, and accepts connections during the drain delay. Then accepts no more, waits
   * for the sessions up to the drain timeout and ends them. Resolves within five seconds more,
   * whatever does not answer. Never rejects.
   */
  drain(): Promise<void>;
}

/**
 * Starts the front-end.
 *
 * @throws UsageError for options that cannot be right; Error with one line for what cannot be used
 */
export async function serve(options: ServeOptions, log: Log): Promise<RunningServer> {
  const closing = new Closing(log);
  try {
    const services = await openServices(options, log, closing);
    const server = new Server(options, services, log, closing);
    await server.start();
    return server;
  } catch (error) {
    await closing.close();
    throw error;
  }
}

type ListenerOptions = Pick<
  ServeOptions,
  'listen' | 'metricsListen' | 'loginTimeout' | 'drainDelay' | 'drainTimeout'
>;

class Server implements RunningServer {
  readonly #options: ListenerOptions;
  readonly #services: Services;
  readonly #log: Log;
  readonly #closing: Closing;
  readonly #connections = new Connections();
  readonly #listeners: Listener[] = [];
  readonly #reloads = new Mutex();
  readonly #acceptFailures: AcceptFailures;
  #metricsServer: MetricsServer | undefined;
  #state: 'starting' | 'listening' | 'draining' | 'closing' = 'starting';
  #drained: Promise<void> | undefined;
  /** Numbers the connections, for the log. */
  #accepted = 0;

  constructor(options: ListenerOptions, services: Services, log: Log, closing: Closing) {
    this.#options = options;
    this.#services = services;
    this.#log = log;
    this.#closing = closing;
    this.#acceptFailures = new AcceptFailures(log);
    closing.add('accept failures', this.#acceptFailures);
  }

  get addresses(): readonly ListenAddress[] {
    return this.#listeners.map((listener) => listener.address);
  }

  get metricsAddress(): ListenAddress | undefined {
    return this.#metricsServer?.address;
  }

  async start(): Promise<void> {
    const { fetchedKeys, settings, routes } = this.#services;
    fetchedKeys.start(() => settings.current.values);
    await this.#openMetricsServer();
    await this.#openListeners();
    routes.start();
    this.#closing.add('backends', routes);
    this.#closing.add('files', { close: () => this.#reloads.settled() });
    this.#state = 'listening';
    const listen = this.addresses.map(({ host, port }) => `${host}:${port}`);
    const copy = this.#services.copy.name;
    this.#log.info({ event: 'start', version, listen, copy }, 'ready for connections');
  }

  reload(): Promise<void> {
    return this.#reloads.run(() => this.#reload());
  }

  drain(): Promise<void> {
    this.#drained ??= this.#drain();
    return this.#drained;
  }

  async #reload(): Promise<void> {
    let failures = 0;
    for (const files of this.#services.reloadables) {
      // What is being closed is not opened again.
      if (this.#state === 'closing') return;
      try {
        await files.reload();
      } catch (error) {
        failures++;
        this.#log.error(
          { event: 'reload', reason: errorText(error) },
          'file not read again: the old one stays in use',
        );
      }
    }
    if (failures > 0) return;
    this.#log.info({ event: 'reload' }, 'certificates and credential files read again');
  }

  async #drain(): Promise<void> {
    const { routes, limits, throttle, console } = this.#services;
    this.#state = 'draining';
    if (this.#options.drainDelay > 0) await sleep(this.#options.drainDelay);
    await this.#emptyQueues();
    this.#closeListeners();
    routes.close();
    limits.evictLogins();
    throttle.release();
    // The console's socket stays open: an operator can list the remaining sessions and end them.
    console.drain();
    await this.#awaitSessions();
    this.#state = 'closing';
    // The socket waits for its operators, whose connections the console ends.
    console.close();
    await this.#closing.close();
    this.#log.info({ event: 'shutdown' }, 'stopped');
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

  /** Waits for the sessions, and ends those that are left after the drain timeout. */
  async #awaitSessions(): Promise<void> {
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

  async #openMetricsServer(): Promise<void> {
    const { metricsListen } = this.#options;
    if (!metricsListen) return;
    const { metrics } = this.#services;
    metrics.watchProcess(version);
    this.#metricsServer = await MetricsServer.open(metricsListen, metrics, () => this.#unready());
    this.#closing.add('--metrics-listen', this.#metricsServer);
  }

  /** Why a load balancer must not send clients here; undefined if it may. */
  #unready(): string | undefined {
    if (this.#state !== 'listening') return this.#state === 'starting' ? 'starting' : 'draining';
    const { settings, fetchedKeys } = this.#services;
    const { values } = settings.current;
    return fetchedKeys.wereTried(values)
      ? undefined
      : 'the keys of an issuer have not been fetched yet';
  }

  /**
   * The console's socket is opened before clients can log in, so that the owner of the data
   * directory can always reach the console. Its name holds the port of the first listener, which
   * is known only afterwards if the system chooses it.
   */
  async #openListeners(): Promise<void> {
    this.#closing.add('--listen', { close: () => this.#closeListeners() });
    const port = this.#options.listen[0]?.port ?? 0;
    if (port !== 0) await this.#openConsoleSocket(port);
    for (const [index, { address, tls }] of this.#services.listeners.entries()) {
      const listener = await Listener.open(
        address,
        (client) => this.#accept(client, tls()),
        this.#acceptFailures.happened,
      );
      this.#listeners.push(listener);
      if (index === 0 && port === 0) await this.#openConsoleSocket(listener.address.port);
    }
  }

  async #openConsoleSocket(port: number): Promise<void> {
    const { dataDir: directory, console } = this.#services;
    const { loginTimeout } = this.#options;
    const log = this.#log;
    const checkDirectory = (): Promise<void> => checkDataDir(directory);
    const options = { directory, port, console, loginTimeout, log, checkDirectory };
    this.#closing.add('console socket', await ConsoleSocket.open(options));
  }

  #accept(client: Socket, tls: ClientTls): void {
    const session = serveConnection(client, tls, ++this.#accepted, this.#services);
    this.#connections.follow(client, session);
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
