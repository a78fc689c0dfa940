/**
 * Connects a command to the console of a running pgsso, over the socket in its data directory or by
 * a URL. As in libpq, the password or token comes from PGPASSWORD.
 */

import { readdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import pg from 'pg';
import type { OptionSource } from '../backend/url.ts';
import { errorText, UsageError } from '../lib/errors.ts';
import { isLoopback } from '../lib/network.ts';
import { CONSOLE_DATABASE } from '../session/console-access.ts';

/** Where the console is. */
export interface ConsoleAddress {
  /** Undefined: the console is reached over the socket in the data directory. */
  readonly url?: string | undefined;
  /** A password in the URL is refused in a flag. */
  readonly source: OptionSource;
  readonly dataDir: string;
  /** The port in the socket's name. Default: that of the only socket. */
  readonly port?: number | undefined;
}

const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Connects, runs the work and ends the connection. Warnings go to stderr.
 *
 * @throws UsageError for an address that cannot be right; Error with one line for an error of the
 *   console or of the connection
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
  // Without this listener, a connection that breaks between two statements ends the process.
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

async function configOf(address: ConsoleAddress): Promise<pg.ClientConfig> {
  if (address.url !== undefined) return urlConfig(address.url, address.source);
  const host = resolve(address.dataDir);
  const port = address.port ?? (await findPort(host));
  return { host, port, database: CONSOLE_DATABASE, user: userName() };
}

/** The name in the log. The socket asks for no login. */
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

function urlConfig(text: string, source: OptionSource): pg.ClientConfig {
  if (!URL.canParse(text) || !/^postgres(ql)?:$/.test(new URL(text).protocol)) {
    throw new UsageError(
      '--url: not a URL of the form postgres://user@host:port/pgsso?sslrootcert=ca.crt',
    );
  }
  const url = new URL(text);
  if (source === 'flag' && (url.password !== '' || url.searchParams.has('password'))) {
    throw new UsageError(
      '--url: everybody on the machine can read a flag: give the password or token in PGPASSWORD',
    );
  }
  if (url.pathname === '' || url.pathname === '/') url.pathname = `/${CONSOLE_DATABASE}`;
  // Without sslmode, pg sends plain text, and the password is a token.
  const verify = !url.searchParams.has('sslmode') && !isLoopback(url.hostname);
  if (verify) url.searchParams.set('sslmode', 'verify-full');
  return { connectionString: url.href };
}
