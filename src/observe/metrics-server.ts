/**
 * The HTTP server of `--metrics-listen`: /metrics for Prometheus, /healthz and /readyz for
 * supervisors and load balancers. It is read-only and has no authentication. It shows counts and
 * the names of issuers, so it belongs on an address that only operators reach.
 */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { errorText } from '../lib/errors.ts';
import { Limiter } from '../lib/limiter.ts';
import { listen } from '../lib/listen.ts';
import { addressKey } from '../lib/network.ts';
import type { Scrape } from './metrics.ts';

/**
 * Connections that have sent no request, and those that are answered. An installation has a few
 * scrapers and probes. Beyond the limit, the oldest one of the busiest address is closed.
 */
const CONNECTION_LIMIT = 64;

/** Time for a request to arrive. A probe sends a few hundred bytes. */
const REQUEST_MS = 5000;

/** How often Node.js looks for connections whose time is up. */
const CHECK_MS = 1000;

/** What is served at /metrics. */
export interface MetricsSource {
  /** Measures the process itself, too, from now on. */
  watchProcess(version: string): void;
  scrape(): Promise<Scrape>;
}

interface Address {
  readonly host: string;
  readonly port: number;
}

/** The server, which listens until it is closed. */
export class MetricsServer {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * Starts to listen.
   *
   * @param unready returns why /readyz should answer 503; undefined means ready
   * @throws Error that names the option and the address if it cannot listen
   */
  static async open(
    { host, port }: Address,
    metrics: MetricsSource,
    unready: () => string | undefined,
  ): Promise<MetricsServer> {
    const places = new Places();
    const server = createServer(
      {
        requestTimeout: REQUEST_MS,
        headersTimeout: REQUEST_MS,
        connectionsCheckingInterval: CHECK_MS,
      },
      (request, response) => {
        places.answering(request.socket);
        const isRead = request.method === 'GET' || request.method === 'HEAD';
        if (!isRead) return respond(response, 405, 'only GET');
        answer(request.url, response, metrics, unready).catch((error: unknown) =>
          respond(response, 500, errorText(error)),
        );
      },
    );
    server.setTimeout(REQUEST_MS);
    server.on('connection', (socket) => places.silent(socket));
    // The count of free descriptors tells why a connection could not be accepted.
    const failed = (): void => undefined;
    await listen(server, { host, port }, failed).catch((error: unknown) => {
      throw new Error(`--metrics-listen: cannot listen on ${host}:${port}: ${errorText(error)}`);
    });
    return new MetricsServer(server);
  }

  /** The address in use, with the actual port if port 0 was requested. */
  get address(): Address {
    const { address, port } = this.#server.address() as AddressInfo;
    return { host: address, port };
  }

  /** Stops at once and closes every connection. */
  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/**
 * The places of connections. Silent ones and those that are answered have places of their own, so
 * that silence, which costs nothing, never ends an answer.
 */
class Places {
  readonly #silent = new Limiter({ limit: CONNECTION_LIMIT });
  readonly #answering = new Limiter({ limit: CONNECTION_LIMIT });
  readonly #release = new WeakMap<Socket, () => void>();

  silent(socket: Socket): void {
    socket.once('close', () => this.#release.get(socket)?.());
    this.#take(this.#silent, socket);
  }

  answering(socket: Socket): void {
    this.#release.get(socket)?.();
    this.#take(this.#answering, socket);
  }

  #take(limiter: Limiter, socket: Socket): void {
    const permit = limiter.acquireByEviction(addressKey(socket.remoteAddress), () =>
      socket.destroy(),
    );
    if (permit) this.#release.set(socket, () => permit.release());
    else socket.destroy();
  }
}

async function answer(
  url: string | undefined,
  response: ServerResponse,
  metrics: MetricsSource,
  unready: () => string | undefined,
): Promise<void> {
  switch (url) {
    case '/metrics': {
      const { text, type } = await metrics.scrape();
      return respond(response, 200, text, type);
    }
    case '/healthz':
      return respond(response, 200, 'ok');
    case '/readyz': {
      const reason = unready();
      return respond(response, reason === undefined ? 200 : 503, reason ?? 'ok');
    }
    default:
      return respond(response, 404, 'there is /metrics, /healthz and /readyz');
  }
}

function respond(
  response: ServerResponse,
  status: number,
  text: string,
  type = 'text/plain; charset=utf-8',
): void {
  // A connection that stays open after its answer would be as silent as one that asks nothing.
  response
    .writeHead(status, { 'content-type': type, connection: 'close' })
    .end(text.endsWith('\n') ? text : `${text}\n`);
}
