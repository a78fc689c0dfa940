/**
 * A connection to the console of a running pgsso, for commands: over the socket in its data
 * directory, or by a URL. Passwords and tokens come from the environment, as libpq has it
 * (PGPASSWORD).
 */

import { readdir } from 'node:fs/promises';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import pg from 'pg';
import { errorText, UsageError } from '../lib/errors.ts';
import { CONSOLE_DATABASE } from '../session/console-access.ts';

/** Where the console is. */
export interface ConsoleAddress {
  readonly url?: string;
  readonly urlFromFlag: boolean;
  readonly dataDir: string;
  readonly port?: number;
}

const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Connects, runs the work and ends the connection. Warnings go to stderr.
 *
 * @throws UsageError for an address that cannot be right; Error with one line for what the console
 *   or the way to it says
 */
export async function withConsole<T>(
  address: ConsoleAddress,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    ...(await configOf(address)),
  });
  client.on('notice', ({ severity, message }) =>
    process.stderr.write(`pgsso: ${severity ?? 'NOTICE'}: ${message}\n`),
  );
  // Without a listener a connection that breaks between two statements would end the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
    return await work(client);
  } catch (error) {
    throw error instanceof pg.DatabaseError ? new Error(oneLine(error), { cause: error }) : error;
  } finally {
    await client.end().catch(() => undefined);
  }
}

function oneLine({ message, detail, hint }: pg.DatabaseError): string {
  return [message, detail, hint].filter((part) => part !== undefined).join('; ');
}

async function configOf({
  url,
  urlFromFlag,
  dataDir,
  port,
}: ConsoleAddress): Promise<pg.ClientConfig> {
  if (url === undefined) {
    const host = resolve(dataDir);
    return {
      host,
      port: port ?? (await findPort(host)),
      database: CONSOLE_DATABASE,
      user: userName(),
    };
  }
  return urlConfig(url, urlFromFlag);
}

/** For the record alone; the socket asks for no login. */
function userName(): string {
  return process.env['PGUSER'] ?? process.env['USER'] ?? process.env['LOGNAME'] ?? 'pgsso';
}

/** The port in the name of the only socket in the directory. */
async function findPort(directory: string): Promise<number> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    throw new Error(`--data-dir: ${errorText(error)}`, { cause: error });
  }
  const ports = names
    .flatMap((name) => /^\.s\.PGSQL\.(\d{1,5})$/.exec(name)?.[1] ?? [])
    .map(Number);
  const [port, ...others] = ports;
  if (port === undefined) throw new Error(`--data-dir ${directory}: no pgsso is running there`);
  if (others.length > 0) throw new UsageError(`--port: there are several: ${ports.join(', ')}`);
  return port;
}

function urlConfig(text: string, fromFlag: boolean): pg.ClientConfig {
  if (!URL.canParse(text) || !/^postgres(ql)?:$/.test(new URL(text).protocol)) {
    throw new UsageError(
      '--url: not a URL of the form postgres://user@host:port/pgsso?sslrootcert=ca.crt',
    );
  }
  const url = new URL(text);
  if (fromFlag && (url.password !== '' || url.searchParams.has('password'))) {
    throw new UsageError(
      '--url: everybody on the machine can read a flag: give the password or token in PGPASSWORD',
    );
  }
  if (url.pathname === '' || url.pathname === '/') url.pathname = `/${CONSOLE_DATABASE}`;
  // Without a word about TLS pg would speak in clear, and the password is a token.
  const verify = !url.searchParams.has('sslmode') && !isLocal(url.hostname);
  if (verify) url.searchParams.set('sslmode', 'verify-full');
  return { connectionString: url.href };
}

function isLocal(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || (isIP(host) === 4 && host.startsWith('127.'));
}
