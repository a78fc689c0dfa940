/**
 * The console as a session sees it: a database that is not the backend's. Who asks for it proves
 * himself at the backend like everybody else, that connection is closed, and the console answers
 * instead.
 */
import type { Backend } from '../backend/backend.ts';
import type { BackendSession } from '../backend/leg.ts';
import type { Routes } from '../backend/routes.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { formatMessage } from '../wire/messages.ts';
import type { LoginParameters, StartupParameter } from '../wire/startup.ts';

/** The database that is the console. */
export const CONSOLE_DATABASE = 'pgsso';

/**
 * Serves an operator from AuthenticationOk to the end of the connection, which has this number.
 * Never rejects.
 */
export type ServeConsole = (channel: MessageChannel, session: number) => Promise<void>;

/** The door. */
export interface ConsoleAccess {
  /**
   * Looks at a user who has proved who he is.
   *
   * @param client address and port
   * @throws PgError 42501 for anybody but an operator
   */
  admit(user: string, method: 'token' | 'native', client: string): ServeConsole;
}

/** Whether a client wants the console. */
export function asksForConsole(login: LoginParameters): boolean {
  return login.database?.toString('latin1') === CONSOLE_DATABASE;
}

/**
 * Where a login is proved, and what is said there: nothing of the client's but its user. It is the
 * backend of `--backend`, or of the last route where there is none, in that URL's own database.
 */
export function proofParameters(
  routes: Routes,
  user: Buffer,
): { route: Backend; parameters: readonly StartupParameter[] } {
  const route = routes.last;
  const database = Buffer.from(route.target.url.database ?? 'postgres');
  return {
    route,
    parameters: [
      { name: 'user', value: user },
      { name: 'database', value: database },
    ],
  };
}

const terminate = formatMessage('X');

/** Ends the connection that the proof was made on, as a client would. */
export async function endProof({ channel }: BackendSession, signal: AbortSignal): Promise<void> {
  try {
    await channel.write(terminate, signal);
    await new Promise<void>((resolve) => channel.socket.end(resolve));
  } finally {
    channel.destroy();
  }
}
