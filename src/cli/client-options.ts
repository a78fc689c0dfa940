/** The options that the commands of the client's side have in common. */
import { type Command, Option } from 'commander';
import type { Profile, UseToken } from '../client/profile.ts';
import type { SetupOptions } from '../client/setup.ts';

/** The options as commander returns them. */
export interface ParsedClientOptions {
  readonly profile?: string;
  readonly issuer?: string;
  readonly clientId?: string;
  readonly clientSecretFile?: string;
  readonly scope?: string;
  readonly audience?: string;
  readonly useToken?: UseToken;
}

/** One option: flags, description, variable. */
type Row = readonly [flags: string, description: string, variable: string];

const rows: readonly Row[] = [
  [
    '--profile <NAME>',
    'what an earlier login has stored under this name (default: default)',
    'PGSSO_PROFILE',
  ],
  ['--issuer <URL>', 'who gives the tokens', 'PGSSO_ISSUER'],
  ['--client-id <ID>', 'the client that is registered there', 'PGSSO_CLIENT_ID'],
  [
    '--client-secret-file <FILE>',
    'the secret of a confidential client; mode 0600',
    'PGSSO_CLIENT_SECRET_FILE',
  ],
  ['--scope <SCOPES>', 'what to ask for (default: openid, and offline_access)', 'PGSSO_SCOPE'],
  ['--audience <NAME>', 'whom the tokens are for', 'PGSSO_AUDIENCE'],
];

/** The long flags, without values: what belongs to pgsso in a command line for psql. */
export const CLIENT_FLAGS: readonly string[] = [...rows.map(([flags]) => flags), '--use-token'].map(
  (flags) => flags.replace(/ .*/, ''),
);

/** Adds the options to a command. */
export function addClientOptions(command: Command): Command {
  command.optionsGroup('Whose token:');
  for (const [flags, description, variable] of rows)
    command.addOption(new Option(flags, description).env(variable));
  return command.addOption(
    new Option('--use-token <KIND>', "which of the issuer's tokens (default: access_token)")
      .env('PGSSO_USE_TOKEN')
      .choices(['access_token', 'id_token']),
  );
}

/** What a command's setup is opened with. */
export function setupOptions(parsed: ParsedClientOptions): SetupOptions {
  const { profile, issuer, clientId, clientSecretFile, scope, audience, useToken } = parsed;
  const given: Profile = {
    // A variable that is empty counts as not set. An empty scope or audience means none.
    issuer: issuer || undefined,
    client_id: clientId || undefined,
    client_secret_file: clientSecretFile || undefined,
    scope,
    audience,
    use_token: useToken,
  };
  return { name: profile || undefined, given, environment: process.env, tell };
}

/** Whether there is a person who can read and answer. */
export function isInteractive(): boolean {
  return process.stdin.isTTY && process.stderr.isTTY;
}

/** A line for the person who waits. Standard output is for the result alone. */
export function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}
