/**
 * The server of a process, from its start to its end: `serve` opens the services and the
 * listeners, SIGHUP reloads files, and a drain waits for the sessions before everything is closed.
 */
import type { Socket } from 'node:net';
import { ConsoleSocket } from '../console/socket.ts';
import { errorText } from '../lib/errors.ts';
import type { Log } from '../observe/log.ts';
import { MetricsServer } from '../observe/metrics-server.ts';
import { serveConnection } from '../session/connection.ts';
import { Connections, type ListenAddress, Listener } from '../session/listener.ts';
import type { ClientTls } from '../session/negotiate.ts';
import { type ServeOptions, version } from './options.ts';
import { Closing, openServices, type Services } from './services.ts';
import { checkDataDir } from './settings.ts';

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
  /** Accepts no more connections, waits for the sessions up to the drain timeout and ends them. */
  drain(): Promise<void>;
}

/**
 * Starts the front-end.
 *
 * @throws UsageError for options that cannot be right; Error with one line for what cannot be used
 */
export async function serve(options: ServeOptions, log: Log): Promise<RunningServer> {
  const closing = new Closing();
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
  'listen' | 'metricsListen' | 'loginTimeout' | 'drainTimeout'
>;

class Server implements RunningServer {
  readonly #options: ListenerOptions;
  readonly #services: Services;
  readonly #log: Log;
  readonly #closing: Closing;
  readonly #connections = new Connections();
  readonly #listeners: Listener[] = [];
  #metricsServer: MetricsServer | undefined;
  #state: 'starting' | 'listening' | 'draining' = 'starting';
  /** Numbers the connections, for the log. */
  #accepted = 0;

  constructor(options: ListenerOptions, services: Services, log: Log, closing: Closing) {
    this.#options = options;
    this.#services = services;
    this.#log = log;
    this.#closing = closing;
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
    this.#closing.add(routes);
    this.#state = 'listening';
    const listen = this.addresses.map(({ host, port }) => `${host}:${port}`);
    this.#log.info({ event: 'start', version, listen }, 'ready for connections');
  }

  async reload(): Promise<void> {
    let failures = 0;
    for (const files of this.#services.reloadables) {
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

  async drain(): Promise<void> {
    const { routes, limits, console } = this.#services;
    this.#state = 'draining';
    this.#closeListeners();
    routes.close();
    limits.evictLogins();
    // The console's socket stays open: an operator can list the remaining sessions and end them.
    console.drain();
    const overdue = setTimeout(() => this.#endSessions(), this.#options.drainTimeout);
    await this.#connections.ended();
    clearTimeout(overdue);
    await this.#closing.close();
    this.#log.info({ event: 'shutdown' }, 'stopped');
  }

  async #openMetricsServer(): Promise<void> {
    const { metricsListen } = this.#options;
    if (!metricsListen) return;
    const { metrics } = this.#services;
    this.#metricsServer = await MetricsServer.open(metricsListen, metrics, () => this.#unready());
    this.#closing.add(this.#metricsServer);
  }

  /** Why a load balancer must not send clients here; undefined if it may. */
  #unready(): string | undefined {
    if (this.#state !== 'listening') return this.#state;
    const { settings, fetchedKeys } = this.#services;
    const { values } = settings.current;
    const isFetching = values['server.jwt_authentication.jwks_auto_fetch.enabled'];
    return isFetching && !fetchedKeys.wereTried(values)
      ? 'the keys of an issuer have not been fetched yet'
      : undefined;
  }

  /**
   * The console's socket is opened before clients can log in, so that the owner of the data
   * directory can always reach the console. Its name holds the port of the first listener, which
   * is known only afterwards if the system chooses it.
   */
  async #openListeners(): Promise<void> {
    this.#closing.add({ close: () => this.#closeListeners() });
    const port = this.#options.listen[0]?.port ?? 0;
    if (port !== 0) await this.#openConsoleSocket(port);
    for (const [index, { address, tls }] of this.#services.listeners.entries()) {
      const listener = await Listener.open(address, (client) => this.#accept(client, tls()));
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
    this.#closing.add(await ConsoleSocket.open(options));
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
