/**
 * The console as a session sees it: a database that is not the backend's. A client that asks for it
 * logs in at the backend like any other. Then that connection is closed, and the console answers.
 */
import type { Backend } from '../backend/backend.ts';
import type { BackendSession } from '../backend/connection.ts';
import type { Routes } from '../backend/routes.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { formatMessage } from '../wire/messages.ts';
import type { LoginParameters, StartupParameter } from '../wire/startup.ts';

/** The database that is the console. */
export const CONSOLE_DATABASE = 'pgsso';

/**
 * Serves an operator from AuthenticationOk, unless that was sent, to the end of the connection,
 * which has this number. Never rejects.
 */
export type ServeConsole = (
  channel: MessageChannel,
  session: number,
  wasGreeted: boolean,
) => Promise<void>;

/** Decides who may use the console. */
export interface ConsoleAccess {
  /**
   * Admits a user whose login has succeeded.
   *
   * @param client address and port
   * @throws PgError 42501 for any user but an operator
   */
  admit(user: string, method: 'token' | 'native', client: string): ServeConsole;
}

/** Whether a client wants the console. */
export function asksForConsole(login: LoginParameters): boolean {
  return login.database?.toString('latin1') === CONSOLE_DATABASE;
}

/**
 * The backend at which an operator logs in, and the parameters there. Of the client's own
 * parameters only the user is used. The backend is that of `--backend`, or else of the last route,
 * and the database is the one of its URL.
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

/** Ends an operator's connection to the backend as a client would. */
export async function endProof({ channel }: BackendSession, signal: AbortSignal): Promise<void> {
  try {
    await channel.write(terminate, signal);
    await new Promise<void>((resolve) => channel.socket.end(resolve));
  } finally {
    channel.destroy();
  }
}
