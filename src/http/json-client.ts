/**
 * Fetches JSON from identity providers. Logins depend on the answers, so an answer is accepted only
 * over fully verified TLS, from the given address without redirects, and within limits of time and
 * size. The content of any other answer is neither logged nor sent to a client.
 */

import { Agent, type Dispatcher, EnvHttpProxyAgent, request as send } from 'undici';
import { withDeadline } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import { isLoopback } from '../lib/network.ts';
import { formatText } from '../lib/text.ts';

/** The longest answer. Discovery documents have 2 kB, key sets of the largest providers 20 kB. */
const BODY_LIMIT = 1024 * 1024;

/** Used for a time limit of 0, so that no request waits for ever. */
const LONGEST_MS = 300_000;

/** For a request of a library, in milliseconds. A person waits for it. */
const LIBRARY_MS = 30_000;

/** The `error` of an OAuth 2.0 answer (RFC 6749, 5.2), if it is short enough for a log line. */
const OAUTH_ERROR = /^[\w.:-]{1,64}$/;

/** What an operator decides about requests to identity providers. */
export interface ProviderAccess {
  /** Trusted certificate authorities, as PEM. Empty for those of Node.js. */
  readonly ca: string;
  /** For the whole request and its answer, in milliseconds. 0 means five minutes. */
  readonly timeout: number;
  /** Whether plain http may be used to other hosts. */
  readonly allowInsecure: boolean;
}

/** One request: GET, or POST if there is a form. */
export interface JsonRequest extends ProviderAccess {
  /** The value of the header field. It is a credential. */
  readonly authorization?: string;
  readonly form?: URLSearchParams;
  /** Ends the request. */
  readonly signal: AbortSignal;
}

/** A request as a library makes it: POST with a form, or GET. */
export interface LibraryRequest {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** Ends the request. */
  readonly signal?: AbortSignal | undefined;
}

/** An answer with status 200. */
export interface JsonAnswer {
  /** The value of the JSON text, of any type. */
  readonly body: unknown;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/**
 * A request failed. The message is for the log. It names the address without its query, and repeats
 * nothing of the answer but an OAuth error code.
 */
export class HttpFailure extends Error {
  override readonly name = 'HttpFailure';
  /** The status, if the server answered with another than 200. */
  readonly status: number | undefined;
  /** The OAuth error code of that answer (RFC 6749, 5.2), if it has one. */
  readonly oauthError: string | undefined;

  constructor(
    message: string,
    options: {
      readonly status?: number | undefined;
      readonly oauthError?: string | undefined;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, { cause: options.cause });
    this.status = options.status;
    this.oauthError = options.oauthError;
  }
}

/** The function of a {@link JsonClient}, which tests can replace. */
export type FetchJson = JsonClient['fetchJson'];

/** The connections for one set of authorities. */
interface Dispatchers {
  readonly ca: string;
  readonly direct: Dispatcher;
  readonly proxied: Dispatcher;
}

/** The HTTP client of a process, with its open connections. */
export class JsonClient {
  readonly #environment: Readonly<Record<string, string | undefined>>;
  #dispatchers: Dispatchers | undefined;

  /** @param environment may name HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in either case of letters */
  constructor(environment: Readonly<Record<string, string | undefined>>) {
    this.#environment = environment;
  }

  /**
   * Fetches the JSON at an address.
   *
   * @throws HttpFailure unless a complete and well-formed answer with status 200 arrives in time;
   *   the signal's reason
   */
  readonly fetchJson = async (url: string, request: JsonRequest): Promise<JsonAnswer> => {
    const address = checkAddress(url, request.allowInsecure);
    const shown = formatText(address.origin + address.pathname);
    const timeout = request.timeout || LONGEST_MS;
    try {
      return await withDeadline(
        timeout,
        `no complete answer within ${timeout} ms`,
        request.signal,
        (signal) => exchange(address, request, this.#dispatcherFor(address, request.ca), signal),
      );
    } catch (error) {
      request.signal.throwIfAborted();
      const { status, oauthError } =
        error instanceof HttpFailure ? error : { status: undefined, oauthError: undefined };
      throw new HttpFailure(`${shown}: ${errorText(error)}`, { cause: error, status, oauthError });
    }
  };

  /**
   * The `fetch` of a library that speaks with an identity provider by itself. Addresses, TLS,
   * proxies, redirects, size and time are limited as for {@link fetchJson}; the answer may have any
   * status and content.
   *
   * @throws HttpFailure if no complete answer arrives in time; the signal's reason
   */
  readonly fetch = async (url: string, request: LibraryRequest): Promise<Response> => {
    const address = checkAddress(url, false);
    const { method, headers, body, signal = new AbortController().signal } = request;
    try {
      return await withDeadline(
        LIBRARY_MS,
        `no complete answer within ${LIBRARY_MS} ms`,
        signal,
        async (within) => {
          const answer = await send(address, {
            dispatcher: this.#dispatcherFor(address, ''),
            signal: within,
            method: method === 'POST' ? 'POST' : 'GET',
            headers: { ...headers, 'user-agent': 'pgsso' },
            ...(method === 'POST' && { body: String(body ?? '') }),
          });
          const bytes = await answer.body.arrayBuffer();
          const type = String(answer.headers['content-type'] ?? '');
          const init = { status: answer.statusCode, headers: { 'content-type': type } };
          return new Response(bytes.byteLength === 0 ? null : bytes, init);
        },
      );
    } catch (error) {
      signal.throwIfAborted();
      const shown = formatText(address.origin + address.pathname);
      throw new HttpFailure(`${shown}: ${errorText(error)}`, { cause: error });
    }
  };

  /** Ends all requests and connections. */
  async close(): Promise<void> {
    const { direct, proxied } = this.#dispatchers ?? {};
    await Promise.all([direct?.destroy(), proxied?.destroy()]);
  }

  /** Requests to this host never use a proxy: plain http would leave the host that way. */
  #dispatcherFor({ hostname }: URL, ca: string): Dispatcher {
    const { direct, proxied } = this.#dispatchersFor(ca);
    return isLoopback(hostname) ? direct : proxied;
  }

  #dispatchersFor(ca: string): Dispatchers {
    if (this.#dispatchers?.ca === ca) return this.#dispatchers;
    const tls = ca === '' ? {} : { ca };
    const options = { connect: tls, maxResponseSize: BODY_LIMIT };
    const old = this.#dispatchers;
    // Empty and not undefined: undici would otherwise read the environment of the process.
    const proxies = {
      httpsProxy: this.#variable('https_proxy'),
      httpProxy: this.#variable('http_proxy'),
      noProxy: this.#variable('no_proxy'),
    };
    this.#dispatchers = {
      ca,
      direct: new Agent(options),
      proxied: new EnvHttpProxyAgent({ ...options, ...proxies, requestTls: tls }),
    };
    // Requests in progress with the old authorities end by themselves, within their own limits.
    for (const dispatcher of old ? [old.direct, old.proxied] : [])
      void dispatcher.close().catch(() => undefined);
    return this.#dispatchers;
  }

  #variable(name: string): string {
    return this.#environment[name] ?? this.#environment[name.toUpperCase()] ?? '';
  }
}

/**
 * How long an answer may be used, in milliseconds: its freshness lifetime (RFC 9111, 4.2) by
 * `max-age` or else `Expires`, less the time that it has spent in caches. 0 for an answer that must
 * not be stored or used again. Undefined if the answer does not say.
 *
 * @param now milliseconds since the epoch
 */
export function remainingFreshness(
  headers: JsonAnswer['headers'],
  now: number,
): number | undefined {
  const directives = String(headers['cache-control'] ?? '').toLowerCase();
  if (/(^|[\s,])no-(store|cache)\s*(,|$)/.test(directives)) return 0;
  const [, seconds] = /(?:^|[\s,])max-age="?(\d{1,10})"?\s*(?:,|$)/.exec(directives) ?? [];
  const lifetime = seconds === undefined ? untilExpires(headers, now) : Number(seconds) * 1000;
  return lifetime === undefined ? undefined : Math.max(0, lifetime - ageOf(headers));
}

async function exchange(
  address: URL,
  { authorization, form }: JsonRequest,
  dispatcher: Dispatcher,
  signal: AbortSignal,
): Promise<JsonAnswer> {
  const answer = await send(address, {
    dispatcher,
    signal,
    headers: {
      accept: 'application/json',
      'user-agent': 'pgsso',
      ...(authorization !== undefined && { authorization }),
      ...(form && { 'content-type': 'application/x-www-form-urlencoded' }),
    },
    ...(form && { method: 'POST' as const, body: form.toString() }),
  });
  const { statusCode, headers } = answer;
  const bytes = Buffer.from(await answer.body.arrayBuffer());
  if (statusCode !== 200) {
    const redirect =
      statusCode >= 300 && statusCode < 400 ? ', a redirect, which is not followed' : '';
    const code = oauthErrorOf(bytes);
    const shown = code === undefined ? '' : `, error ${code}`;
    throw new HttpFailure(`status ${statusCode}${redirect}${shown}`, {
      status: statusCode,
      oauthError: code,
    });
  }
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity')
    throw new HttpFailure('the answer is compressed, unasked');
  if (!isJsonType(headers['content-type']))
    throw new HttpFailure('the content type of the answer is not JSON');
  return { body: parseJson(bytes), headers };
}

/**
 * Parses an address. Plain http is refused to other hosts unless it is allowed. A user name or
 * password is refused, because addresses are logged.
 */
function checkAddress(url: string, allowInsecure: boolean): URL {
  // The text may hold a credential, so the message does not repeat it.
  if (!URL.canParse(url)) throw new HttpFailure('the address is not a URL');
  const address = new URL(url);
  const shown = formatText(address.origin + address.pathname);
  if (address.username !== '' || address.password !== '')
    throw new HttpFailure(`${shown}: a user name in the address`);
  const { protocol, hostname } = address;
  if (protocol === 'https:' || (protocol === 'http:' && (allowInsecure || isLoopback(hostname))))
    return address;
  if (protocol === 'http:')
    throw new HttpFailure(`${shown}: not https; pgsso.allow_insecure_http would allow it`);
  throw new HttpFailure(`an address that begins with ${formatText(protocol)} instead of https:`);
}

/** `application/json`, or a type built on it such as `application/jwk-set+json` (RFC 6839, 3.1). */
function isJsonType(value: string | string[] | undefined): boolean {
  return /^application\/([\w.-]+\+)?json\s*(;|$)/i.test(String(value ?? ''));
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    // The engine's own message quotes the answer.
    throw new HttpFailure('the answer is not JSON');
  }
}

/** The error code that an OAuth server sent with a refusal. */
function oauthErrorOf(bytes: Buffer): string | undefined {
  try {
    const { error } = Object(parseJson(bytes));
    return typeof error === 'string' && OAUTH_ERROR.test(error) ? error : undefined;
  } catch {
    return undefined;
  }
}

/** Counted from the server's own `Date`, if there is one, since clocks may differ. */
function untilExpires({ expires, date }: JsonAnswer['headers'], now: number): number | undefined {
  if (expires === undefined) return undefined;
  const end = Date.parse(String(expires));
  const start = Date.parse(String(date));
  // RFC 9111, 5.3: an invalid date, such as 0, is in the past.
  return Number.isNaN(end) ? 0 : end - (Number.isNaN(start) ? now : start);
}

function ageOf({ age }: JsonAnswer['headers']): number {
  return /^\d{1,10}$/.test(String(age)) ? Number(age) * 1000 : 0;
}
