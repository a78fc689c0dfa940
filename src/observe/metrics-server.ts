/**
 * `--metrics-listen`: /metrics for Prometheus, /healthz and /readyz for whoever restarts processes
 * and spreads load. It knows no login and changes nothing; names of issuers and counts are all it
 * shows, and it belongs on an address that only operators reach.
 */

import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errorText } from '../lib/errors.ts';
import type { Metrics } from './metrics.ts';

/** Scrapers and probes at once; more than any installation has. */
const CONNECTION_LIMIT = 32;

/** A probe sends a few hundred bytes at once. */
const REQUEST_MS = 5000;

/** An address that is listened on. */
interface Address {
  readonly host: string;
  readonly port: number;
}

/** The listening server. */
export class MetricsServer {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * Listens.
   *
   * @param unready why no client should be sent here now; undefined when there is no reason
   * @throws Error that names the option and the address
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

  /** The address it got, which tells the port when 0 was asked for. */
  get address(): Address {
    const { address, port } = this.#server.address() as AddressInfo;
    return { host: address, port };
  }

  /** Ends it at once. */
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
