/**
 * `pgsso token`: prints a token, for programs that take a password from a command, or keeps one in
 * a password file for programs that can only read that.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import type { ClientToken } from '../client/given-token.ts';
import type { PgpassFields } from '../client/pgpass.ts';
import type { TokenSource } from '../client/token-source.ts';
import { errorText, UsageError } from '../lib/errors.ts';
import {
  addClientOptions,
  isInteractive,
  type ParsedClientOptions,
  setupOptions,
  tell,
} from './client-options.ts';

interface ParsedTokenOptions extends ParsedClientOptions, PgpassFields {
  readonly json?: true;
  readonly pgpass?: string;
  readonly watch?: true;
}

/** Part of the time that a token in a password file is still good, until it is looked at again. */
const LOOK_AFTER = 2 / 3;

/** The shortest and the longest wait for the next token, in ms. Timers take at most 24 days. */
const SHORTEST_MS = 1000;
const LONGEST_MS = 24 * 3600 * 1000;

/** After a failure, in ms. */
const RETRY_MS = 15_000;

const EXAMPLE = `
Example: for one program, and for programs that can only read a password file
  PGPASSWORD=$(pgsso token) pg_dump -h db.example.com app
  pgsso token --pgpass ~/.pgpass --host db.example.com --watch
`;

/** Adds the command to the program. */
export function addTokenCommand(program: Command): void {
  const command = program
    .command('token')
    .description('Print a token that is good for a minute or more.')
    .addOption(new Option('--json', 'as {"token","expires_at","issuer"}').conflicts('pgpass'))
    .addOption(new Option('--pgpass <FILE>', 'write it into this password file instead'))
    .addOption(new Option('--watch', 'with --pgpass: again before each expiry'));
  for (const name of ['host', 'port', 'dbname', 'user'])
    command.addOption(
      new Option(`--${name} <TEXT>`, `with --pgpass: the ${name} of the line`).default('*'),
    );
  addClientOptions(command).addHelpText('after', EXAMPLE).action(run);
}

async function run(parsed: ParsedTokenOptions): Promise<void> {
  if (parsed.watch && parsed.pgpass === undefined)
    throw new UsageError('--watch: give the file with --pgpass');
  const { openSetup, openTokenSource } = await import('../client/setup.ts');
  const options = setupOptions(parsed);
  const setup = await openSetup(options);
  const login = { method: undefined, isInteractive: isInteractive() };
  const source = await openTokenSource(setup, options, login);
  const { signal } = new AbortController();
  try {
    if (parsed.pgpass !== undefined) {
      await keep(source, parsed.pgpass, parsed, setup.folders.state, signal);
      return;
    }
    const found = await source.get(signal);
    process.stdout.write(`${parsed.json ? asJson(found) : found.token}\n`);
  } finally {
    await setup.http.close();
  }
}

function asJson({ token, expiresAt, issuer }: ClientToken): string {
  return JSON.stringify({
    token,
    expires_at: expiresAt === undefined ? null : new Date(expiresAt).toISOString(),
    issuer: issuer ?? null,
  });
}

async function keep(
  source: TokenSource,
  file: string,
  { host, port, dbname, user, watch }: ParsedTokenOptions,
  state: string,
  signal: AbortSignal,
): Promise<void> {
  const { writePgpass } = await import('../client/pgpass.ts');
  const fields = { host, port, dbname, user };
  const write = async (): Promise<ClientToken> => {
    const found = await source.get(signal);
    await writePgpass(file, fields, found.token, state, signal);
    return found;
  };
  let last = await write();
  while (watch) {
    await pause(untilNext(last, Date.now()), undefined, { signal });
    try {
      last = await write();
    } catch (error) {
      tell(`pgsso: ${errorText(error)}; trying again in ${RETRY_MS / 1000} s`);
      await pause(RETRY_MS, undefined, { signal });
    }
  }
}

function untilNext({ expiresAt }: ClientToken, now: number): number {
  const left = expiresAt === undefined ? LONGEST_MS : (expiresAt - now) * LOOK_AFTER;
  return Math.min(LONGEST_MS, Math.max(SHORTEST_MS, left));
}
