/**
 * The HTTP server of `--metrics-listen`: /metrics for Prometheus, /healthz and /readyz for
 * supervisors and load balancers. It is read-only and has no authentication. It shows counts and
 * the names of issuers, so it belongs on an address that only operators reach.
 */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errorText } from '../lib/errors.ts';
import type { Metrics } from './metrics.ts';

/** Open connections. An installation has a few scrapers and probes. */
const CONNECTION_LIMIT = 32;

/** Time for a request to arrive. A probe sends a few hundred bytes. */
const REQUEST_MS = 5000;

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
    metrics: Metrics,
    unready: () => string | undefined,
  ): Promise<MetricsServer> {
    metrics.watchProcess();
    const server = createServer(
      { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS },
      (request, response) => {
        const isRead = request.method === 'GET' || request.method === 'HEAD';
        if (!isRead) return respond(response, 405, 'only GET');
        answer(request.url, response, metrics, unready).catch((error: unknown) =>
          respond(response, 500, errorText(error)),
        );
      },
    );
    server.maxConnections = CONNECTION_LIMIT;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) =>
        reject(
          new Error(`--metrics-listen: cannot listen on ${host}:${port}: ${errorText(error)}`),
        ),
      );
      server.listen({ host, port }, resolve);
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

async function answer(
  url: string | undefined,
  response: ServerResponse,
  metrics: Metrics,
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
  response
    .writeHead(status, { 'content-type': type })
    .end(text.endsWith('\n') ? text : `${text}\n`);
}
