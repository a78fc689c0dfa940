/**
 * To the backend as the mapped user: a connection to one of its hosts, startup packet, the
 * front-end's own credential, greeting. Either there is a session in the end or the connection is
 * gone.
 */

import type { SecureContext } from 'node:tls';
import { withDeadline } from '../lib/abort.ts';
import { errorText, PgError } from '../lib/errors.ts';
import { PROTOCOL_3_0 } from '../wire/constants.ts';
import { formatStartup, type StartupParameter } from '../wire/startup.ts';
import type { Credentials } from './credentials.ts';
import { dialHost } from './dial.ts';
import {
  BackendRefusal,
  isAboutFrontEnd,
  isConnectionLost,
  notAdmitted,
  unreachable,
} from './errors.ts';
import { checkSession, UnfitSession } from './hosts.ts';
import { type BackendLeg, type BackendSession, readGreeting, write } from './leg.ts';
import type { OpenedAhead } from './opened-ahead.ts';
import type { BackendTarget } from './target.ts';
import { type BackendHost, formatHost, type TargetSessionAttrs } from './url.ts';

/** Where to and what to say there. */
interface LoginOptions {
  readonly target: BackendTarget;
  /** For the startup packet; `user` is whom the login was decided for. */
  readonly parameters: readonly StartupParameter[];
  /** Connections that wait for a login. */
  readonly ahead?: OpenedAhead | undefined;
  /** Ends the login: time is up, or the client has gone. */
  readonly signal: AbortSignal;
}

/** What the backend is to be told, and how the front-end proves that it may. */
export interface ConnectOptions extends LoginOptions {
  readonly credentials: Credentials;
}

/** How a login is made over whichever connection there is. */
export interface LegOptions extends LoginOptions {
  /** How to speak TLS. */
  readonly secureContext: SecureContext;
  /** For the login at one host, in milliseconds; 0: none. */
  readonly limit: number;
  /**
   * Whether the login can still be made over another connection: not once a client has been asked
   * for something.
   */
  readonly mayRepeat: () => boolean;
}

/**
 * Logs in. Whether a superuser may is the caller's question, from {@link
 * BackendSession.isSuperuser}.
 *
 * @throws PgError 08001 or 08006 when the backend is away, 08P01 when it breaks the protocol, 28000
 *   when it does not admit the front-end; BackendRefusal with its own words otherwise; the signal's
 *   reason
 */
export async function connectAs({
  credentials,
  ...options
}: ConnectOptions): Promise<BackendSession> {
  const { target, parameters } = options;
  const user = lastValue(parameters, 'user') ?? '';
  // Without a database PostgreSQL takes the one of the user's name, and so does libpq when it looks
  // into a password file.
  const database = lastValue(parameters, 'database') || user;
  const ownContext = credentials.secureContext?.(user);
  const secureContext = ownContext ?? target.secureContext;
  const limit = target.url.connectTimeout;
  try {
    return await logInAtSomeHost(
      { ...options, secureContext, limit, mayRepeat: () => true },
      async (leg, signal) =>
        readGreeting(leg, await credentials.authenticate({ leg, user, database, signal }), signal),
    );
  } catch (error) {
    const way = `with --backend-auth ${credentials.method}`;
    if (error instanceof BackendRefusal && isAboutFrontEnd(error)) {
      throw notAdmitted(user, `${error.reason} (${error.sqlstate}), ${way}`, error);
    }
    if (error instanceof CertificateRefused)
      throw notAdmitted(user, `${error.message}, ${way}`, error);
    throw error;
  }
}

/**
 * Finds a connection, opened ahead or new, sends the startup packet and goes on with the rest of a
 * login; the connection is destroyed when that fails.
 */
export async function logInAtSomeHost(
  options: LegOptions,
  login: (leg: BackendLeg, signal: AbortSignal) => Promise<BackendSession>,
): Promise<BackendSession> {
  const { target, ahead, signal, secureContext, limit, mayRepeat } = options;
  const atHost = async (
    host: BackendHost,
    wanted: TargetSessionAttrs,
    within: AbortSignal,
  ): Promise<BackendSession> => {
    const over = (leg: BackendLeg): Promise<BackendSession> =>
      logInOver(leg, options, wanted, within, login);
    const waiting = ahead?.take(host, secureContext);
    if (waiting) {
      try {
        return await over(waiting);
      } catch (error) {
        // It may have been closed at the very moment when it was taken; a new connection tells how
        // the host really is.
        if (!isConnectionLost(error) || !mayRepeat()) throw error;
      }
    }
    return over(
      await dialHost(target, host, within, secureContext).catch((error: unknown) =>
        failedDial(host, error, options, within),
      ),
    );
  };
  return tryHosts(
    { target, first: ahead?.host(secureContext), mayRepeat, signal },
    (host, wanted) =>
      withDeadline(limit, 'no login within the connect timeout', signal, async (within) => {
        try {
          return await atHost(host, wanted, within);
        } catch (error) {
          if (within.aborted && !signal.aborted) throw new HostFailure(errorText(within.reason));
          throw error;
        }
      }),
  );
}

async function logInOver(
  leg: BackendLeg,
  options: LegOptions,
  wanted: TargetSessionAttrs,
  signal: AbortSignal,
  login: (leg: BackendLeg, signal: AbortSignal) => Promise<BackendSession>,
): Promise<BackendSession> {
  try {
    await write(leg, formatStartup(PROTOCOL_3_0, options.parameters), signal);
    const session = await login(leg, signal);
    checkSession(session, wanted);
    return session;
  } catch (error) {
    leg.channel.destroy();
    throw isConnectionLost(error)
      ? (refusedCertificate(leg.label, error, options) ?? error)
      : error;
  }
}

/**
 * The backend ended the TLS handshake because of our certificate. With TLS 1.3 that shows only when
 * something is read.
 */
class CertificateRefused extends Error {}

function failedDial(
  host: BackendHost,
  error: unknown,
  options: LegOptions,
  signal: AbortSignal,
): never {
  signal.throwIfAborted();
  throw (
    refusedCertificate(formatHost(host), error, options) ??
    new HostFailure(errorText(error), { cause: error })
  );
}

/**
 * OpenSSL's names of the alerts by which a server refuses a client's certificate (RFC 8446, section
 * 6.2).
 */
const CERTIFICATE_ALERT =
  /ALERT_(?:BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_|UNKNOWN_CA|ACCESS_DENIED)/;

function refusedCertificate(
  label: string,
  error: unknown,
  { secureContext, target }: LegOptions,
): CertificateRefused | undefined {
  if (secureContext === target.secureContext) return undefined;
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if ('code' in cause && typeof cause.code === 'string' && CERTIFICATE_ALERT.test(cause.code)) {
      const alert = cause.code
        .replace(/^.*ALERT_/, '')
        .toLowerCase()
        .replaceAll('_', ' ');
      return new CertificateRefused(
        `${label}: the backend does not accept the certificate: ${alert}`,
        { cause: error },
      );
    }
  }
  return undefined;
}

/** Of a name that is repeated the last value counts, as in the server. */
function lastValue(parameters: readonly StartupParameter[], wanted: string): string | undefined {
  return parameters.findLast(({ name }) => name === wanted)?.value.toString();
}

/*
 * Goes through the hosts of a backend until a login succeeds at one. What is about the host leads
 * to the next one: it cannot be reached, it is starting or stopping, the connection breaks, it is
 * not what `target_session_attrs` wants. What is about the login, a refusal above all, ends it:
 * another host would say the same.
 */

/** A host that could not be reached, or not in time. */
class HostFailure extends Error {}

/**
 * What a server says that is starting up, shutting down or recovering; libpq tries the next host on
 * it, too.
 */
const CANNOT_CONNECT_NOW = '57P03';

/** How to go through the hosts. */
export interface FailoverOptions {
  readonly target: BackendTarget;
  /** A host to begin with, if it is one of those that did not fail lately. */
  readonly first: BackendHost | undefined;
  /** Whether the login can still be made at another host: not once somebody has answered for it. */
  readonly mayRepeat: () => boolean;
  readonly signal: AbortSignal;
}

/**
 * Tries the hosts in their order.
 *
 * @param attempt logs in at a host, or throws
 * @throws PgError 08001 with every host's reason for the log; what `attempt` throws about the
 *   login; the signal's reason
 */
async function tryHosts<T>(
  { target, first, mayRepeat, signal }: FailoverOptions,
  attempt: (host: BackendHost, wanted: TargetSessionAttrs) => Promise<T>,
): Promise<T> {
  const { targetSessionAttrs, hosts: all } = target.url;
  const reasons: string[] = [];
  const unfit: BackendHost[] = [];
  let cause: unknown;
  const tryEach = async (
    hosts: readonly BackendHost[],
    wanted: TargetSessionAttrs,
  ): Promise<{ result: T } | undefined> => {
    for (const host of hosts) {
      try {
        const result = await attempt(host, wanted);
        target.hosts.succeeded(host);
        return { result };
      } catch (error) {
        signal.throwIfAborted();
        if (!isAboutHost(error)) throw error;
        target.hosts.failed(host);
        if (error instanceof UnfitSession) unfit.push(host);
        reasons.push(`${formatHost(host)}: ${errorText(error)}`);
        cause = error;
        if (error instanceof PgError && (all.length === 1 || !mayRepeat())) throw error;
        if (!mayRepeat()) throw unreachable(reasons, all.length, cause);
      }
    }
    return undefined;
  };
  const order = target.hosts.list();
  const begun =
    first && !target.hosts.isLast(first)
      ? [first, ...order.filter((host) => host !== first)]
      : order;
  const found = await tryEach(begun, targetSessionAttrs);
  if (found) return found.result;
  const anyway =
    targetSessionAttrs === 'prefer-standby' ? await tryEach([...unfit], 'any') : undefined;
  if (anyway) return anyway.result;
  throw unreachable(reasons, all.length, cause);
}

function isAboutHost(error: unknown): boolean {
  if (error instanceof BackendRefusal) return error.sqlstate === CANNOT_CONNECT_NOW;
  return error instanceof HostFailure || error instanceof UnfitSession || isConnectionLost(error);
}
