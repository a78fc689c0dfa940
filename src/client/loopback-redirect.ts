/**
 * The place to which the browser returns after a login: a server on a free port of the loopback
 * address (RFC 8252, 7.3), for one login. The browser begins at an address of this server too, and
 * gets a cookie there. So only the browser that began can end the login, and neither `state` nor
 * any other part of the request stands in the arguments of the program that opens the browser,
 * which every user of the machine can read.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { listen } from '../lib/listen.ts';

/** One login in a browser. */
export interface BrowserLogin {
  /** Where the browser goes. */
  readonly url: URL;
  readonly state: string;
  /** Exchanges the address to which the browser returned. */
  finish(returned: URL): Promise<unknown>;
}

/** The server, which listens until it is closed. */
export class LoopbackRedirect<Login extends BrowserLogin> {
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  readonly #secret = randomBytes(16).toString('base64url');
  readonly #cookie = randomBytes(16).toString('base64url');
  readonly #finished: Promise<Awaited<ReturnType<Login['finish']>>>;
  #resolve: (value: Awaited<ReturnType<Login['finish']>>) => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;
  #port = 0;
  #login: Login | undefined;
  #isStarted = false;
  #isReturned = false;

  private constructor() {
    this.#finished = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Until somebody waits for it.
    this.#finished.catch(() => undefined);
  }

  /** Listens on a free port. */
  static async open<Login extends BrowserLogin>(): Promise<LoopbackRedirect<Login>> {
    const redirect = new LoopbackRedirect<Login>();
    await listen(redirect.#server, { host: '127.0.0.1', port: 0 }, () => undefined);
    const address = redirect.#server.address();
    redirect.#port = address !== null && typeof address === 'object' ? address.port : 0;
    return redirect;
  }

  /** For the issuer. It has to let native clients choose the port (RFC 8252, 7.3). */
  get redirectUri(): string {
    return `http://127.0.0.1:${this.#port}/callback`;
  }

  /**
   * Takes a login.
   *
   * @returns where the person's browser begins
   */
  begin(login: Login): URL {
    this.#login = login;
    return new URL(`http://127.0.0.1:${this.#port}/login/${this.#secret}`);
  }

  /**
   * Waits for the browser.
   *
   * @throws what the login throws; the signal's reason
   */
  async finished(signal: AbortSignal): Promise<Awaited<ReturnType<Login['finish']>>> {
    const onAbort = (): void => this.#reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      return await this.#finished;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Ends the server. An answer that is being sent is finished first. */
  close(): void {
    this.#server.close();
    this.#server.closeIdleConnections();
    setTimeout(() => this.#server.closeAllConnections(), 1000).unref();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const login = this.#login;
    // Another name that leads to this address is a page of somebody else (DNS rebinding).
    const isHere = request.headers.host === `127.0.0.1:${this.#port}`;
    const address = new URL(request.url ?? '/', this.redirectUri);
    if (!isHere || request.method !== 'GET' || !login) return send(response, 404, 'Not found.');
    if (address.pathname === `/login/${this.#secret}`) return this.#start(login, response);
    if (address.pathname === '/callback') return this.#return(login, address, request, response);
    send(response, 404, 'Not found.');
  }

  /** Once: whoever comes second does not get the cookie. */
  #start(login: Login, response: ServerResponse): void {
    if (this.#isStarted) {
      send(response, 410, 'This address was used already. Run pgsso login again.');
      return;
    }
    this.#isStarted = true;
    response.setHeader('set-cookie', `pgsso=${this.#cookie}; HttpOnly; SameSite=Lax; Path=/`);
    response.setHeader('location', login.url.href);
    send(response, 302, 'Go to the issuer.');
  }

  async #return(
    login: Login,
    address: URL,
    { headers }: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    // Anybody on this machine can send such a request. It ends nothing.
    if (
      !isSame(cookieOf(headers.cookie), this.#cookie) ||
      !isSame(address.searchParams.get('state') ?? '', login.state)
    )
      return send(response, 400, 'This is not the browser in which the login began.');
    if (this.#isReturned) return send(response, 410, 'The login is over.');
    this.#isReturned = true;
    try {
      const value = await login.finish(address);
      send(response, 200, 'You are logged in. You can close this page.');
      this.#resolve(value as Awaited<ReturnType<Login['finish']>>);
    } catch (error) {
      send(response, 400, 'The login failed. The terminal says why.');
      this.#reject(error);
    }
  }
}

function send(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    connection: 'close',
  });
  response.end(`<!doctype html><html lang="en"><title>pgsso</title><p>${text}</p></html>\n`);
}

function cookieOf(header = ''): string {
  return /(?:^|;\s*)pgsso=([\w-]+)/.exec(header)?.[1] ?? '';
}

function isSame(given: string, expected: string): boolean {
  const [left, right] = [Buffer.from(given), Buffer.from(expected)];
  return left.length === right.length && timingSafeEqual(left, right);
}
