/**
 * Asks identity providers for JSON. An answer decides who gets in, so it is taken only over TLS
 * that is verified in full, from the address that was named and no other (no redirects), within a
 * time and a size; and what a provider sends instead is never repeated to anybody.
 */

import { Agent, type Dispatcher, EnvHttpProxyAgent, request as send } from 'undici';
import { withDeadline } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import { isLoopback } from '../lib/network.ts';

/** The longest answer. Discovery documents have 2 kB, key sets of the largest providers 20 kB. */
const BODY_LIMIT = 1024 * 1024;

/** Stands in for a time limit of 0: nothing here waits for ever. */
const LONGEST_MS = 300_000;

/**
 * An `error` as OAuth 2.0 has it (RFC 6749, 5.2), short enough for a log line; anything else in an
 * answer is not looked at.
 */
const OAUTH_ERROR = /^[\w.:-]{1,64}$/;

/** What an operator decides about requests to identity providers. */
export interface ProviderAccess {
  /** Trusted certificate authorities, PEM; empty for those that Node.js knows. */
  readonly ca: string;
  /** For the whole request with its answer, in milliseconds; 0 for five minutes. */
  readonly timeout: number;
  /** Whether plain http may go further than to this host. */
  readonly allowInsecure: boolean;
}

/** One request: GET, or POST when there is a form. */
export interface JsonRequest extends ProviderAccess {
  /** Header field; a credential. */
  readonly authorization?: string;
  readonly form?: URLSearchParams;
  /** Ends the request. */
  readonly signal: AbortSignal;
}

/** An answer with status 200. */
export interface JsonAnswer {
  /** What the JSON stands for: of any type. */
  readonly body: unknown;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/**
 * Why there is no answer. The message names the address without its query and holds nothing of the
 * answer; it is for the log.
 */
export class HttpFailure extends Error {
  override readonly name = 'HttpFailure';
  /** The status, when the server answered with another than 200. */
  readonly status: number | undefined;

  constructor(
    message: string,
    options: { readonly status?: number; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.status = options.status;
  }
}

/** Whatever can fetch JSON: a {@link JsonClient}, or a fake of it. */
export type FetchJson = JsonClient['fetchJson'];

/** The connections to use for one set of authorities. */
interface Dispatchers {
  readonly ca: string;
  readonly direct: Dispatcher;
  readonly proxied: Dispatcher;
}

/** The client of a process, with the connections that it keeps. */
export class JsonClient {
  readonly #environment: Readonly<Record<string, string | undefined>>;
  #dispatchers: Dispatchers | undefined;

  /**
   * @param environment where HTTPS_PROXY, HTTP_PROXY and NO_PROXY are looked for, in either case of
   * letters
   */
  constructor(environment: Readonly<Record<string, string | undefined>>) {
    this.#environment = environment;
  }

  /**
   * Fetches the JSON at an address.
   *
   * @throws HttpFailure for whatever is not a timely, well-formed, whole answer with status 200;
   *   the signal's reason
   */
  readonly fetchJson = async (url: string, request: JsonRequest): Promise<JsonAnswer> => {
    const address = checkAddress(url, request.allowInsecure);
    const shown = address.origin + address.pathname;
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
      const status =
        error instanceof HttpFailure && error.status !== undefined ? { status: error.status } : {};
      throw new HttpFailure(`${shown}: ${errorText(error)}`, { cause: error, ...status });
    }
  };

  /** Ends all requests and connections. */
  async close(): Promise<void> {
    const { direct, proxied } = this.#dispatchers ?? {};
    await Promise.all([direct?.destroy(), proxied?.destroy()]);
  }

  /** Nothing for this host goes to a proxy: plain http would leave the host that way. */
  #dispatcherFor({ hostname }: URL, ca: string): Dispatcher {
    const { direct, proxied } = this.#dispatchersFor(ca);
    return isLoopback(bare(hostname)) ? direct : proxied;
  }

  #dispatchersFor(ca: string): Dispatchers {
    if (this.#dispatchers?.ca === ca) return this.#dispatchers;
    const tls = ca === '' ? {} : { ca };
    const options = { connect: tls, maxResponseSize: BODY_LIMIT };
    const old = this.#dispatchers;
    // Empty rather than undefined: undici would look into the process's own environment.
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
    // What is under way with the old authorities ends by itself, within its own time.
    for (const dispatcher of old ? [old.direct, old.proxied] : [])
      void dispatcher.close().catch(() => undefined);
    return this.#dispatchers;
  }

  #variable(name: string): string {
    return this.#environment[name] ?? this.#environment[name.toUpperCase()] ?? '';
  }
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
    throw new HttpFailure(`status ${statusCode}${redirect}${oauthError(bytes)}`, {
      status: statusCode,
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
 * https, or http where nobody can listen in; and no credential in the address, since addresses are
 * logged.
 */
function checkAddress(url: string, allowInsecure: boolean): URL {
  // The text may hold a credential and is not repeated.
  if (!URL.canParse(url)) throw new HttpFailure('the address is not a URL');
  const address = new URL(url);
  const shown = address.origin + address.pathname;
  if (address.username !== '' || address.password !== '')
    throw new HttpFailure(`${shown}: a user name in the address`);
  const { protocol, hostname } = address;
  if (
    protocol === 'https:' ||
    (protocol === 'http:' && (allowInsecure || isLoopback(bare(hostname))))
  )
    return address;
  if (protocol === 'http:')
    throw new HttpFailure(`${shown}: not https; pgsso.allow_insecure_http would allow it`);
  throw new HttpFailure(`an address that begins with ${protocol} instead of https:`);
}

function bare(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1');
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

/** The error code that OAuth servers send with a refusal, when there is one. */
function oauthError(bytes: Buffer): string {
  try {
    const { error } = Object(parseJson(bytes));
    return typeof error === 'string' && OAUTH_ERROR.test(error) ? `, error ${error}` : '';
  } catch {
    return '';
  }
}

/* How long an answer may be used without asking again, by its own words (RFC 9111). */

/**
 * The freshness lifetime that is left, in milliseconds (RFC 9111, 4.2): `max-age`, or else
 * `Expires`, less the time that the answer has spent in caches. 0 for one that must not be stored
 * or used again; undefined when it does not say.
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
  return lifetime === undefined ? undefined : Math.max(0, lifetime - age(headers));
}

/**
 * Counted from the server's own clock when it tells: what matters is the distance of the two dates.
 */
function untilExpires({ expires, date }: JsonAnswer['headers'], now: number): number | undefined {
  if (expires === undefined) return undefined;
  const end = Date.parse(String(expires));
  const start = Date.parse(String(date));
  // RFC 9111, 5.3: a date that is none, such as 0, is in the past.
  return Number.isNaN(end) ? 0 : end - (Number.isNaN(start) ? now : start);
}

function age({ age }: JsonAnswer['headers']): number {
  return /^\d{1,10}$/.test(String(age)) ? Number(age) * 1000 : 0;
}
