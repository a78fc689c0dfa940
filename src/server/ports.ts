/**
 * What operators of a node meet: the port for metrics and health, and the socket of the console in
 * the data directory. A node has them once, however many workers it has.
 */
import { ConsoleSocket, type ConsoleSocketOptions } from '../console/socket.ts';
import type { Log } from '../observe/log.ts';
import { MetricsServer, type MetricsSource } from '../observe/metrics-server.ts';
import type { ListenAddress } from '../session/listener.ts';
import type { Closing } from './closing.ts';
import { type ServeOptions, version } from './options.ts';
import type { NodeServices } from './services.ts';
import { checkDataDir } from './settings.ts';

/** Where a node is in its life. */
export type NodeState = 'starting' | 'listening' | 'draining' | 'closing';

type PortOptions = Pick<ServeOptions, 'listen' | 'metricsListen' | 'loginTimeout'>;

/** The ports for operators. */
export class OperatorPorts {
  readonly #options: PortOptions;
  readonly #services: NodeServices;
  readonly #log: Log;
  readonly #closing: Closing;
  #metricsServer: MetricsServer | undefined;

  constructor(options: PortOptions, services: NodeServices, log: Log, closing: Closing) {
    this.#options = options;
    this.#services = services;
    this.#log = log;
    this.#closing = closing;
  }

  get metricsAddress(): ListenAddress | undefined {
    return this.#metricsServer?.address;
  }

  /**
   * Opens the port for metrics, if there is to be one.
   *
   * @throws Error that names the option and the address
   */
  async openMetrics(metrics: MetricsSource, state: () => NodeState): Promise<void> {
    const { metricsListen } = this.#options;
    if (!metricsListen) return;
    metrics.watchProcess(version);
    const unready = (): string | undefined => this.#unready(state());
    this.#metricsServer = await MetricsServer.open(metricsListen, metrics, unready);
    this.#closing.add('--metrics-listen', this.#metricsServer);
  }

  /**
   * Opens the console's socket before clients can log in, so that the owner of the data directory
   * can always reach the console. Its name holds the port of the first listener: if the system
   * chooses that, it is opened by {@link OperatorPorts.firstListens}.
   *
   * @throws Error that names `--data-dir`
   */
  async openConsole(relays?: ConsoleSocketOptions['relays']): Promise<void> {
    if (this.#fixedPort !== 0) await this.#openConsole(this.#fixedPort, relays);
  }

  /** The first listener has this address. */
  async firstListens(
    { port }: ListenAddress,
    relays?: ConsoleSocketOptions['relays'],
  ): Promise<void> {
    if (this.#fixedPort === 0) await this.#openConsole(port, relays);
  }

  get #fixedPort(): number {
    return this.#options.listen[0]?.port ?? 0;
  }

  async #openConsole(port: number, relays: ConsoleSocketOptions['relays']): Promise<void> {
    const { dataDir: directory, console } = this.#services;
    const { loginTimeout } = this.#options;
    const log = this.#log;
    const checkDirectory = (): Promise<void> => checkDataDir(directory);
    const options = { directory, port, console, loginTimeout, log, checkDirectory, relays };
    this.#closing.add('console socket', await ConsoleSocket.open(options));
  }

  /** Why a load balancer must not send clients here; undefined if it may. */
  #unready(state: NodeState): string | undefined {
    if (state !== 'listening') return state === 'starting' ? 'starting' : 'draining';
    const { settings, fetchedKeys } = this.#services;
    return fetchedKeys.wereTried(settings.current.values)
      ? undefined
      : 'the keys of an issuer have not been fetched yet';
  }
}
