/**
 * The server of a node that is one process, from its start to its end: `serve` opens the services
 * and the listeners, SIGHUP reloads files, and a drain waits for the sessions before everything is
 * closed. workers/primary.ts is the same for a node with several processes.
 */
import type { Log } from '../observe/log.ts';
import type { ListenAddress } from '../session/listener.ts';
import { Closing } from './closing.ts';
import { Front } from './front.ts';
import { type ServeOptions, version } from './options.ts';
import { type NodeState, OperatorPorts } from './ports.ts';
import { Reloads } from './reloads.ts';
import { openServices, type Services } from './services.ts';

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
 * Starts the front-end in this process.
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

/** Logs that the node takes logins. */
export function logReady(log: Log, addresses: readonly ListenAddress[], more: object = {}): void {
  const listen = addresses.map(({ host, port }) => `${host}:${port}`);
  log.info({ event: 'start', version, listen, ...more }, 'ready for connections');
}

class Server implements RunningServer {
  readonly #services: Services;
  readonly #log: Log;
  readonly #closing: Closing;
  readonly #front: Front;
  readonly #ports: OperatorPorts;
  readonly #reloads: Reloads;
  #state: NodeState = 'starting';
  #drained: Promise<void> | undefined;

  constructor(options: ServeOptions, services: Services, log: Log, closing: Closing) {
    this.#services = services;
    this.#log = log;
    this.#closing = closing;
    this.#front = new Front(options, services, log);
    this.#ports = new OperatorPorts(options, services, log, closing);
    this.#reloads = new Reloads(services.reloadables, log);
  }

  get addresses(): readonly ListenAddress[] {
    return this.#front.addresses;
  }

  get metricsAddress(): ListenAddress | undefined {
    return this.#ports.metricsAddress;
  }

  async start(): Promise<void> {
    const { fetchedKeys, settings, metrics } = this.#services;
    fetchedKeys.start(() => settings.current.values);
    await this.#ports.openMetrics(metrics, () => this.#state);
    await this.#ports.openConsole();
    await this.#front.listen(this.#closing, async (address, index) => {
      if (index === 0) await this.#ports.firstListens(address);
    });
    this.#closing.add('files', this.#reloads);
    this.#state = 'listening';
    logReady(this.#log, this.addresses, { copy: this.#services.copy.name });
  }

  reload(): Promise<void> {
    return this.#reloads.reload();
  }

  drain(): Promise<void> {
    this.#drained ??= this.#drain();
    return this.#drained;
  }

  async #drain(): Promise<void> {
    const { console } = this.#services;
    this.#state = 'draining';
    await this.#front.stopAccepting();
    // The console's socket stays open: an operator can list the remaining sessions and end them.
    console.drain();
    await this.#front.sessionsOver();
    this.#state = 'closing';
    this.#reloads.end();
    // The socket waits for its operators, whose connections the console ends.
    console.close();
    await this.#closing.close();
    this.#log.info({ event: 'shutdown' }, 'stopped');
  }
}
