/**
 * An identity provider that misbehaves as a test wants: it is slow, unreachable, states a false
 * name or sends too much. It serves a discovery document and a key set, lists the requests, and
 * speaks TLS if a test gives it a certificate.
 */

import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Certificate } from './certificates.ts';
import { publicJwk, type TestKey } from './tokens.ts';

/** Answers a request; `ordinary` answers it properly. */
export type Behaviour = (
  request: IncomingMessage,
  response: ServerResponse,
  ordinary: () => void,
) => void;

/** The running provider. A member that a test assigns applies from the next request on. */
export interface TestIssuer {
  readonly issuer: string;
  readonly port: number;
  /** The requested paths, oldest first. */
  readonly requests: string[];
  /** The members of the key set. */
  keys: readonly unknown[];
  /** Header fields of both documents. */
  headers: Readonly<Record<string, string>>;
  /** Members of the discovery document, added to the usual ones or replacing them. */
  document: Readonly<Record<string, unknown>>;
  /** Undefined: every request is answered properly. */
  behaviour: Behaviour | undefined;
  /** The number of requests for a path. */
  count(path: string): number;
  /** Resolves when there have been that many requests for a path. */
  asked(path: string, times: number): Promise<void>;
  close(): Promise<void>;
}

export const DISCOVERY = '/.well-known/openid-configuration';
export const JWKS = '/keys';

/** Ways to misbehave. */
export const misbehave = {
  /** Never answers. */
  hang: () => undefined,
  /** Begins an answer and never ends it. */
  stall: (_request, response) =>
    void response.writeHead(200, { 'content-type': 'application/json' }).write('{"keys":['),
  away: (request) => void request.socket.destroy(),
  broken: (_request, response) => void response.writeHead(500).end('{"secret":"of the server"}'),
  redirect: (_request, response) => void response.writeHead(302, { location: '/elsewhere' }).end(),
  html: (_request, response) =>
    void response.writeHead(200, { 'content-type': 'text/html' }).end('{"keys":[]}'),
  noJson: (_request, response) =>
    void response.writeHead(200, { 'content-type': 'application/json' }).end('<secret>'),
  noSet: (_request, response) =>
    void response.writeHead(200, { 'content-type': 'application/json' }).end('[]'),
  compressed: (_request, response) =>
    void response
      .writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' })
      .end('{}'),
  huge: (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    const block = `"${'x'.repeat(65_533)}",`;
    const more = (): void => {
      while (!response.destroyed && response.write(block));
    };
    response.on('drain', more).write('[');
    more();
  },
} as const satisfies Record<string, Behaviour>;

/** Starts a provider with these keys. */
export async function startIssuer(
  keys: readonly TestKey[],
  tls?: Certificate,
): Promise<TestIssuer> {
  const waiting = new Set<() => void>();
  const listener: RequestListener = (request, response) => {
    const path = new URL(request.url ?? '', 'http://host').pathname;
    issuer.requests.push(path);
    for (const look of waiting) look();
    const ordinary = (): void => {
      const document = {
        issuer: issuer.issuer,
        jwks_uri: `${issuer.issuer}${JWKS}`,
        ...issuer.document,
      };
      const body =
        path === DISCOVERY ? document : path === JWKS ? { keys: issuer.keys } : undefined;
      if (!body) return void response.writeHead(404).end();
      response.writeHead(200, {
        'content-type': 'application/json; charset=utf-8',
        ...issuer.headers,
      });
      response.end(JSON.stringify(body));
    };
    if (issuer.behaviour) issuer.behaviour(request, response, ordinary);
    else ordinary();
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const issuer: TestIssuer = {
    issuer: tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`,
    port,
    requests: [],
    keys: keys.map((key) => publicJwk(key)),
    headers: {},
    document: {},
    behaviour: undefined,
    count: (path) => issuer.requests.filter((asked) => asked === path).length,
    asked: (path, times) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (issuer.count(path) < times) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return issuer;
}
