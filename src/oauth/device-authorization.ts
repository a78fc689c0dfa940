/**
 * The device authorization grant (RFC 8628) on behalf of clients that are waiting to log in: a code
 * is asked for, a person confirms it in a browser, and meanwhile the token endpoint is asked again
 * and again. The configured issuer alone is asked. Its answers are checked before they are shown.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type FetchJson, HttpFailure } from '../http/json-client.ts';
import { type Discovery, providerAccess } from '../keys/discovery.ts';
import { orAborted } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import { isJsonObject } from '../lib/json.ts';
import type { SettingValues } from '../settings/snapshot.ts';
import { basicAuthorization } from './client-credentials.ts';

const SECOND = 1000;

/** RFC 8628, 3.2: what an issuer that names no interval means. */
const DEFAULT_INTERVAL = 5 * SECOND;

/** An issuer can ask for no more requests, and for no longer pauses than these. */
const SHORTEST_INTERVAL = SECOND;
const LONGEST_INTERVAL = 60 * SECOND;

/** RFC 8628, 3.5: what `slow_down` adds, for good. */
const SLOW_DOWN = 5 * SECOND;

/** How long a client waits at most, whatever lifetime the issuer gives its code. */
const LONGEST_WAIT = 10 * 60 * SECOND;

/** Characters. The address and the code are shown to the client. */
const ADDRESS_LIMIT = 2048;
const CODE_LIMIT = 64;

/** Visible ASCII, which an address and a code consist of (RFC 3986; RFC 8628, 6.1). */
const VISIBLE = /^[\x21-\x7e]+$/;

/** Why nobody has signed in. The message is for the log. */
export class SignInFailure extends Error {
  override readonly name = 'SignInFailure';
  readonly outcome: 'declined' | 'expired' | 'failed';

  constructor(outcome: SignInFailure['outcome'], message: string, cause?: unknown) {
    super(message, { cause });
    this.outcome = outcome;
  }
}

/** A code that waits for its confirmation. */
export interface DeviceCode {
  readonly userCode: string;
  /** Where a person enters the code. */
  readonly address: string;
  /** Where it is entered already. Undefined if the issuer has no such address. */
  readonly completeAddress: string | undefined;
  /** How long it is good, in milliseconds. */
  readonly lifetime: number;
  /**
   * Asks until somebody has confirmed or declined the code, or its time is over.
   *
   * @returns the token
   * @throws SignInFailure; the signal's reason
   */
  confirmed(signal: AbortSignal): Promise<string>;
}

/** What a {@link DeviceAuthorization} is made with. */
export interface DeviceAuthorizationOptions {
  readonly fetchJson: FetchJson;
  readonly discovery: Discovery;
  /** Milliseconds on a clock that does not jump. */
  readonly monotonic: () => number;
  /** Rejects when the signal aborts. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** The client of a process. */
export class DeviceAuthorization {
  readonly #fetchJson: FetchJson;
  readonly #discovery: Discovery;
  readonly #monotonic: () => number;
  readonly #sleep: (ms: number, signal: AbortSignal) => Promise<void>;

  constructor({ fetchJson, discovery, monotonic, sleep = sleepFor }: DeviceAuthorizationOptions) {
    this.#fetchJson = fetchJson;
    this.#discovery = discovery;
    this.#monotonic = monotonic;
    this.#sleep = sleep;
  }

  /**
   * Asks the issuer of `pgsso.device_login.issuer` for a code.
   *
   * @throws SignInFailure; the signal's reason
   */
  async begin(values: SettingValues, signal: AbortSignal): Promise<DeviceCode> {
    try {
      return await this.#begin(values, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw new SignInFailure('failed', errorText(error), error);
    }
  }

  async #begin(values: SettingValues, signal: AbortSignal): Promise<DeviceCode> {
    const issuer = values['pgsso.device_login.issuer'];
    const access = providerAccess(values);
    const { deviceAuthorizationEndpoint, tokenEndpoint } = await orAborted(
      this.#discovery.find(issuer, access),
      signal,
    );
    if (deviceAuthorizationEndpoint === undefined || tokenEndpoint === undefined) {
      throw new Error('the issuer has no device authorization endpoint');
    }
    const since = this.#monotonic();
    const { body } = await this.#fetchJson(deviceAuthorizationEndpoint, {
      ...access,
      ...clientOf(values, { scope: values['pgsso.device_login.scope'] }),
      signal,
    });
    const answer = readAnswer(body, issuer);
    return {
      ...answer,
      confirmed: (waiting) => {
        const until = since + answer.lifetime;
        return this.#poll({ ...answer, values, tokenEndpoint, until }, waiting);
      },
    };
  }

  async #poll(code: PendingCode, signal: AbortSignal): Promise<string> {
    const { values, tokenEndpoint, until, deviceCode } = code;
    let { interval } = code;
    let trouble = 'nobody confirmed the code';
    for (;;) {
      const left = until - this.#monotonic();
      if (left <= interval) {
        await this.#sleep(Math.max(left, 0), signal);
        throw new SignInFailure('expired', trouble);
      }
      await this.#sleep(interval, signal);
      const result = await this.#ask(tokenEndpoint, values, deviceCode, signal);
      if (typeof result === 'string') return result;
      if (result.slowDown) interval = Math.min(interval + SLOW_DOWN, LONGEST_INTERVAL);
      trouble = result.trouble ?? trouble;
    }
  }

  /** Asks once. Returns the token, or that it has to be asked again. */
  async #ask(
    tokenEndpoint: string,
    values: SettingValues,
    deviceCode: string,
    signal: AbortSignal,
  ): Promise<string | { slowDown: boolean; trouble?: string }> {
    try {
      const { body } = await this.#fetchJson(tokenEndpoint, {
        ...providerAccess(values),
        ...clientOf(values, {
          grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
          device_code: deviceCode,
        }),
        signal,
      });
      return readToken(body, values['pgsso.device_login.use_token']);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof SignInFailure) throw error;
      return readRefusal(error);
    }
  }
}

/** A code, and how its token is asked for. */
interface PendingCode {
  readonly deviceCode: string;
  readonly interval: number;
  readonly values: SettingValues;
  readonly tokenEndpoint: string;
  /** On the monotonic clock. */
  readonly until: number;
}

/** RFC 8628, 3.5. What says nothing about the code, such as a lost connection, is tried again. */
function readRefusal(error: unknown): { slowDown: boolean; trouble?: string } {
  const code = error instanceof HttpFailure ? error.oauthError : undefined;
  const trouble = errorText(error);
  switch (code) {
    case 'authorization_pending':
      return { slowDown: false };
    case 'slow_down':
      return { slowDown: true };
    case 'access_denied':
      throw new SignInFailure('declined', trouble, error);
    case 'expired_token':
      throw new SignInFailure('expired', trouble, error);
    case undefined:
      return { slowDown: true, trouble };
    default:
      throw new SignInFailure('failed', trouble, error);
  }
}

function readToken(body: unknown, name: 'access_token' | 'id_token'): string {
  const token = isJsonObject(body) ? body[name] : undefined;
  if (typeof token === 'string' && token !== '') return token;
  throw new SignInFailure('failed', `the issuer gave no ${name}: pgsso.device_login.use_token`);
}

/** RFC 8628, 3.2. */
function readAnswer(body: unknown, issuer: string) {
  const answer = isJsonObject(body) ? body : {};
  const { device_code: deviceCode, user_code: userCode, interval: pause } = answer;
  const { expires_in: seconds, verification_uri: address } = answer;
  const { verification_uri_complete: complete } = answer;
  if (typeof deviceCode !== 'string' || deviceCode === '') throw new Error('no device_code');
  if (typeof userCode !== 'string' || userCode.length > CODE_LIMIT || !VISIBLE.test(userCode)) {
    throw new Error('the user_code of the issuer is no visible text');
  }
  if (typeof seconds !== 'number' || !(seconds > 0)) throw new Error('no expires_in');
  const interval = typeof pause === 'number' ? pause * SECOND : DEFAULT_INTERVAL;
  return {
    deviceCode,
    userCode,
    address: checkAddress(address, issuer),
    completeAddress: complete === undefined ? undefined : checkAddress(complete, issuer),
    lifetime: Math.min(seconds * SECOND, LONGEST_WAIT),
    interval: Math.min(Math.max(interval, SHORTEST_INTERVAL), LONGEST_INTERVAL),
  };
}

/** An address that people are sent to: of the web, and as safe as its issuer. */
function checkAddress(address: unknown, issuer: string): string {
  const isText = typeof address === 'string' && address.length <= ADDRESS_LIMIT;
  const isAddress = isText && VISIBLE.test(address) && URL.canParse(address);
  const isSafe = isAddress && /^https?:/i.test(address);
  if (isSafe && (/^https:/i.test(address) || !/^https:/i.test(issuer))) return address;
  throw new Error('the verification_uri of the issuer is no address, or less safe than the issuer');
}

/** Who asks. RFC 8628, 3.1 has the id in the form, for clients without a secret. */
function clientOf(
  values: SettingValues,
  more: Readonly<Record<string, string>>,
): { form: URLSearchParams; authorization?: string } {
  const id = values['pgsso.device_login.client_id'];
  const secret = values['pgsso.device_login.client_secret'];
  return {
    form: new URLSearchParams({ client_id: id, ...more }),
    ...(secret !== '' && { authorization: basicAuthorization({ id, secret }) }),
  };
}

async function sleepFor(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}
