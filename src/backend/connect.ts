/**
 * To the backend as the mapped user: dial, startup packet, the front-end's own credential, greeting. Either there is a session in the end or
 * the connection is gone.
 */
import { PROTOCOL_3_0 } from '../protocol/constants.ts';
import { formatStartup, type StartupParameter } from '../protocol/startup.ts';
import { BackendRefusal, isAboutFrontEnd, notAdmitted } from './backend-errors.ts';
import type { Credentials } from './credentials.ts';
import { dial } from './dial.ts';
import { type BackendSession, readGreeting } from './greeting.ts';
import { type BackendLeg, write } from './leg.ts';
import type { BackendTarget } from './target.ts';

/** What the backend is to be told, and how the front-end proves that it may. */
export interface ConnectOptions {
  readonly target: BackendTarget;
  readonly credentials: Credentials;
  /** For the startup packet; `user` is whom the login was decided for. */
  readonly parameters: readonly StartupParameter[];
  /** Ends the login: time is up, or the client has gone. */
  readonly signal: AbortSignal;
}

/**
 * Logs in. Whether a superuser may is the caller's question, from {@link BackendSession.isSuperuser}.
 *
 * @throws PgError 08001 or 08006 when the backend is away, 08P01 when it breaks the protocol, 28000 when it does not admit the front-end;
 * BackendRefusal with its own words otherwise; the signal's reason
 */
export async function connectAs({ target, credentials, parameters, signal }: ConnectOptions): Promise<BackendSession> {
  const user = lastValue(parameters, 'user') ?? '';
  // Without a database PostgreSQL takes the one of the user's name, and so does libpq when it looks into a password file.
  const database = lastValue(parameters, 'database') || user;
  return withLeg(target, parameters, signal, async (leg) => {
    try {
      return await readGreeting(leg, await credentials.authenticate({ leg, user, database, signal }), signal);
    } catch (error) {
      if (!(error instanceof BackendRefusal && isAboutFrontEnd(error))) throw error;
      throw notAdmitted(user, `${error.reason} (${error.sqlstate}), with --backend-auth ${credentials.method}`, error);
    }
  });
}

/** Dials, sends the startup packet and goes on with the rest of a login; the connection is destroyed when that fails. */
export async function withLeg<T>(
  target: BackendTarget,
  parameters: readonly StartupParameter[],
  signal: AbortSignal,
  login: (leg: BackendLeg) => Promise<T>,
): Promise<T> {
  const leg = await dial(target, signal);
  try {
    await write(leg, formatStartup(PROTOCOL_3_0, parameters), signal);
    return await login(leg);
  } catch (error) {
    leg.channel.destroy();
    throw error;
  }
}

/** Of a name that is repeated the last value counts, as in the server. */
function lastValue(parameters: readonly StartupParameter[], wanted: string): string | undefined {
  return parameters.findLast(({ name }) => name === wanted)?.value.toString();
}
