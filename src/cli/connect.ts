/**
 * `pgsso connect`: a local listener for programs that know nothing of tokens. It runs until a
 * signal. The first one lets sessions end by themselves, and a second one ends them.
 */
import { isIP, isIPv4 } from 'node:net';
import { isAbsolute } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { LocalAddress } from '../client/connect.ts';
import type { Profile } from '../client/profile.ts';
import { UsageError } from '../lib/errors.ts';
import {
  addClientOptions,
  isInteractive,
  type ParsedClientOptions,
  setupOptions,
  tell,
} from './client-options.ts';
import { parseListenAddress, parseUserName } from './values.ts';

interface ParsedConnectOptions extends ParsedClientOptions {
  readonly listen: LocalAddress;
  readonly url?: string;
  readonly user?: string;
  readonly otherUsers: 'refuse' | 'allow';
}

const EXAMPLE = `
Example: for a GUI; then connect it to host 127.0.0.1, port 15432, without a password
  pgsso connect --url postgres://db.example.com:26257/app --user alice

On a port, programs of other users of this machine are refused where the system tells them apart,
which Linux does. A folder gives a Unix socket there, which only this user can open.
`;

/** Not 5432, which a PostgreSQL of this machine may have. */
const DEFAULT_LISTEN: LocalAddress = { host: '127.0.0.1', port: 15432 };

/** Adds the command to the program. */
export function addConnectCommand(program: Command): void {
  const command = program
    .command('connect')
    .description('Listen at this machine for programs that know nothing of tokens.')
    .addOption(
      new Option('--listen <HOST:PORT>', 'a loopback address, or a folder for a Unix socket')
        .env('PGSSO_CONNECT_LISTEN')
        .argParser(parseLocalAddress)
        .default(DEFAULT_LISTEN, '127.0.0.1:15432'),
    )
    .addOption(
      new Option(
        '--url <URL>',
        'the pgsso to log in at: postgres://host:port/database?sslrootcert=ca.crt (default: ' +
          'as the profile says)',
      ).env('PGSSO_CONNECT_URL'),
    )
    .addOption(
      new Option('--user <NAME>', 'the SQL user of all sessions (default: what the program sends)')
        .env('PGSSO_CONNECT_USER')
        .argParser(parseUserName),
    )
    .addOption(
      new Option('--other-users <MODE>', 'programs of other users of this machine')
        .env('PGSSO_CONNECT_OTHER_USERS')
        .choices(['refuse', 'allow'])
        .default('refuse'),
    );
  addClientOptions(command).addHelpText('after', EXAMPLE).action(run);
}

function parseLocalAddress(text: string): LocalAddress {
  if (isAbsolute(text)) return { folder: text };
  const address = parseListenAddress(text);
  if (address.host === '::1' || (isIPv4(address.host) && address.host.startsWith('127.')))
    return address;
  throw new InvalidArgumentError(
    'Give a loopback address such as 127.0.0.1:15432 or [::1]:15432, or the absolute path of a ' +
      'folder. Whoever can connect is logged in as you.',
  );
}

async function run(parsed: ParsedConnectOptions): Promise<void> {
  const { openSetup, openTokenSource } = await import('../client/setup.ts');
  const { openUpstream } = await import('../client/upstream.ts');
  const { LocalListener } = await import('../client/connect.ts');
  const options = setupOptions(parsed);
  const setup = await openSetup(options);
  const url = parsed.url ?? urlOf(setup.profile);
  const upstream = await openUpstream(url);
  const login = { method: undefined, isInteractive: isInteractive() };
  const source = await openTokenSource(setup, options, login);
  // A person is asked now, and not when the first program waits.
  await source.get(new AbortController().signal);
  const { listen: address, user, otherUsers } = parsed;
  const stopped = stopSignals();
  const say = (line: string): void => tell(`pgsso: ${line}`);
  const listener = await LocalListener.open({
    address,
    upstream,
    source,
    user,
    otherUsers,
    tell: say,
  });
  const { host, port } = listener.place;
  say(`ready on ${host}, port ${port}`);
  tell(
    `DBeaver, DataGrip, pgAdmin: host ${host}, port ${port}, user ${user ?? 'your SQL user'}, ` +
      'no password, no SSL',
  );
  await stopped.first;
  if (listener.size > 0) say(`${listener.size} sessions go on; Ctrl+C again ends them`);
  await Promise.race([listener.drain(), stopped.second]);
  await listener.close();
  process.exit(0);
}

function urlOf({ sql_host: host, sql_port: port }: Profile): string {
  if (host === undefined)
    throw new UsageError('--url: give postgres://host:port, or log in with pgsso login --url');
  return `postgres://${isIP(host) === 6 ? `[${host}]` : host}:${port ?? 26257}`;
}

/** The first two signals that ask the process to end. */
function stopSignals(): { readonly first: Promise<void>; readonly second: Promise<void> } {
  const waiting: (() => void)[] = [];
  const next = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));
  const signals = { first: next(), second: next() };
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => waiting.shift()?.());
  return signals;
}
