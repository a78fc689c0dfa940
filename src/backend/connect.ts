/**
 * Logs in at a backend: tries its hosts in order, sends the startup packet, authenticates and reads
 * the greeting. The login ends with a session, or with the connection closed. A problem of a host
 * leads to the next host; a refusal of the login ends it, because another host would say the same.
 */

import type { SecureContext } from 'node:tls';
import { withDeadline } from '../lib/abort.ts';
import { errorText, PgError } from '../lib/errors.ts';
import { PROTOCOL_3_0 } from '../wire/constants.ts';
import { formatStartup, type StartupParameter } from '../wire/startup.ts';
import { type BackendConnection, type BackendSession, readGreeting, write } from './connection.ts';
import type { Credentials } from './credentials.ts';
import { dialHost } from './dial.ts';
import {
  BackendRefusal,
  CertificateRefused,
  certificateRefusal,
  isAboutFrontEnd,
  isConnectionLost,
  notAdmitted,
  outOfDescriptors,
  unreachable,
} from './errors.ts';
import { checkSession, UnfitSession } from './hosts.ts';
import type { OpenedAhead } from './opened-ahead.ts';
import type { BackendTarget } from './target.ts';
import { type BackendHost, formatHost, type TargetSessionAttrs } from './url.ts';

/** A login at a backend, by whatever method. */
interface LoginOptions {
  readonly target: BackendTarget;
  /** For the startup packet. `user` is the user that was decided on. */
  readonly parameters: readonly StartupParameter[];
  /** Connections that wait for a login. */
  readonly ahead?: OpenedAhead | undefined;
  /** Ends the login, when its time is over or the client has left. */
  readonly signal: AbortSignal;
}

/** A login with the credential of the front-end. */
export interface ConnectOptions extends LoginOptions {
  readonly credentials: Credentials;
}

/** How the hosts are tried. */
interface AttemptOptions extends LoginOptions {
  /** How to speak TLS. */
  readonly secureContext: SecureContext;
  /** For the login at one host, in milliseconds; 0: none. */
  readonly limit: number;
  /** Whether another connection may be tried: not after a client was asked for something. */
  readonly mayRepeat: () => boolean;
}

/** The rest of a login: from the startup packet to the end of the greeting. */
type Login = (connection: BackendConnection, signal: AbortSignal) => Promise<BackendSession>;

/** A host that could not be reached, or not in time. */
class HostFailure extends Error {}

/**
 * cannot_connect_now: the server is starting up, shutting down or recovering. libpq tries the next
 * host then, too.
 */
const CANNOT_CONNECT_NOW = '57P03';

/**
 * Logs in with the credential of the front-end. The caller decides whether a superuser may log in,
 * by {@link BackendSession.isSuperuser}.
 *
 * @throws PgError 08001 or 08006 if the backend is away, 53000 if no socket can be opened, 08P01 if
 *   it breaks the protocol, 28000 if it does not admit the front-end; BackendRefusal with its own
 *   words otherwise; the signal's reason
 */
export async function connectAs({
  credentials,
  ...options
}: ConnectOptions): Promise<BackendSession> {
  const { target, parameters } = options;
  const user = lastValue(parameters, 'user') ?? '';
  // Without a database PostgreSQL takes the one with the name of the user, and libpq does the same
  // when it looks into a password file.
  const database = lastValue(parameters, 'database') || user;
  const secureContext = credentials.secureContext?.(user) ?? target.secureContext;
  const limit = target.url.connectTimeout;
  try {
    return await logInAtSomeHost(
      { ...options, secureContext, limit, mayRepeat: () => true },
      async (connection, signal) => {
        const login = { connection, user, database, signal };
        return readGreeting(connection, await credentials.authenticate(login), signal);
      },
    );
  } catch (error) {
    const method = `with --backend-auth ${credentials.method}`;
    if (error instanceof BackendRefusal && isAboutFrontEnd(error)) {
      throw notAdmitted(user, `${error.reason} (${error.sqlstate}), ${method}`, error);
    }
    if (error instanceof CertificateRefused)
      throw notAdmitted(user, `${error.message}, ${method}`, error);
    throw error;
  }
}

/**
 * Tries the hosts in their order until a login succeeds at one.
 *
 * @param login what follows the startup packet
 * @throws PgError 08001 with the reason of every host for the log; what `login` throws about the
 *   login itself; the signal's reason
 */
export async function logInAtSomeHost(
  options: AttemptOptions,
  login: Login,
): Promise<BackendSession> {
  const { target } = options;
  const { targetSessionAttrs, hosts } = target.url;
  const failures: HostError[] = [];
  const found = await tryHosts(hostOrder(options), targetSessionAttrs, options, login, failures);
  if (found) return found;
  if (targetSessionAttrs === 'prefer-standby') {
    const unfit = failures.filter(({ error }) => error instanceof UnfitSession);
    const others = unfit.map(({ host }) => host);
    const other = await tryHosts(others, 'any', options, login, failures);
    if (other) return other;
  }
  throw allFailed(failures, hosts.length);
}

/** A host with the reason why it could not be used. */
interface HostError {
  readonly host: BackendHost;
  readonly error: unknown;
}

/** A host with a connection that waits comes first, unless it failed lately. */
function hostOrder({ target, ahead, secureContext }: AttemptOptions): readonly BackendHost[] {
  const order = target.hosts.list();
  const first = ahead?.host(secureContext);
  if (!first || target.hosts.failedLately(first)) return order;
  return [first, ...order.filter((host) => host !== first)];
}

/** Tries each host once. Adds the reasons of those that cannot be used to `failures`. */
async function tryHosts(
  hosts: readonly BackendHost[],
  wanted: TargetSessionAttrs,
  options: AttemptOptions,
  login: Login,
  failures: HostError[],
): Promise<BackendSession | undefined> {
  const { target, mayRepeat, signal } = options;
  const total = target.url.hosts.length;
  for (const host of hosts) {
    try {
      const session = await logInInTime(host, wanted, options, login);
      target.hosts.succeeded(host);
      return session;
    } catch (error) {
      signal.throwIfAborted();
      if (!isAboutHost(error)) throw error;
      target.hosts.failed(host);
      failures.push({ host, error });
      if (error instanceof PgError && (total === 1 || !mayRepeat())) throw error;
      if (!mayRepeat()) throw allFailed(failures, total);
    }
  }
  return undefined;
}

function isAboutHost(error: unknown): boolean {
  if (error instanceof BackendRefusal) return error.sqlstate === CANNOT_CONNECT_NOW;
  return error instanceof HostFailure || error instanceof UnfitSession || isConnectionLost(error);
}

function allFailed(failures: readonly HostError[], total: number): PgError {
  const reasons = failures.map(({ host, error }) => `${formatHost(host)}: ${errorText(error)}`);
  return unreachable(reasons, total, failures.at(-1)?.error);
}

function logInInTime(
  host: BackendHost,
  wanted: TargetSessionAttrs,
  options: AttemptOptions,
  login: Login,
): Promise<BackendSession> {
  const { limit, signal } = options;
  const text = 'no login within the connect timeout';
  return withDeadline(limit, text, signal, async (within) => {
    try {
      return await logInAtHost(host, { ...options, signal: within }, login, wanted);
    } catch (error) {
      if (within.aborted && !signal.aborted) throw new HostFailure(errorText(within.reason));
      throw error;
    }
  });
}

/** Logs in over a connection that waits, or over a new one. */
async function logInAtHost(
  host: BackendHost,
  options: AttemptOptions,
  login: Login,
  wanted: TargetSessionAttrs,
): Promise<BackendSession> {
  const { target, ahead, signal, secureContext, mayRepeat } = options;
  const waiting = ahead?.take(host, secureContext);
  if (waiting) {
    try {
      return await logInOver(waiting, options, login, wanted);
    } catch (error) {
      // The backend may have closed it just before it was taken. A new connection shows the state
      // of the host.
      if (!isConnectionLost(error) || !mayRepeat()) throw error;
    }
  }
  const dialLimit = options.limit === 0 ? target.url.connectTimeout : 0;
  const dialling = dialHost(target, host, signal, secureContext, dialLimit);
  const connection = await dialling.catch((error: unknown) => {
    signal.throwIfAborted();
    throw (
      outOfDescriptors(formatHost(host), error) ??
      refusalOfOwnCertificate(formatHost(host), error, options) ??
      new HostFailure(errorText(error), { cause: error })
    );
  });
  return logInOver(connection, options, login, wanted);
}

/** Logs in over a connection, and destroys it if that fails. */
async function logInOver(
  connection: BackendConnection,
  options: AttemptOptions,
  login: Login,
  wanted: TargetSessionAttrs,
): Promise<BackendSession> {
  const { parameters, signal } = options;
  try {
    await write(connection, formatStartup(PROTOCOL_3_0, parameters), signal);
    const session = await login(connection, signal);
    checkSession(session, wanted);
    return session;
  } catch (error) {
    connection.channel.destroy();
    if (!isConnectionLost(error)) throw error;
    throw refusalOfOwnCertificate(connection.label, error, options) ?? error;
  }
}

function refusalOfOwnCertificate(
  label: string,
  error: unknown,
  { secureContext, target }: AttemptOptions,
): CertificateRefused | undefined {
  const hasCertificate = secureContext !== target.secureContext;
  return hasCertificate ? certificateRefusal(label, error) : undefined;
}

/** The last value of a repeated name counts, as in the server. */
function lastValue(parameters: readonly StartupParameter[], wanted: string): string | undefined {
  return parameters.findLast(({ name }) => name === wanted)?.value.toString();
}
