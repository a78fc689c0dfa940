/**
 * `pgsso login` and `pgsso logout`: stores the tokens of a person or of a service at this machine,
 * and where they are for, so that the other commands need no options; and ends that again.
 */
import { type Command, Option } from 'commander';
import type { LoginMethod } from '../client/login.ts';
import type { Profile } from '../client/profile.ts';
import type { Setup } from '../client/setup.ts';
import type { StoredTokens } from '../client/token-store.ts';
import { UsageError } from '../lib/errors.ts';
import {
  addClientOptions,
  isInteractive,
  type ParsedClientOptions,
  setupOptions,
  tell,
} from './client-options.ts';

interface ParsedLoginOptions extends ParsedClientOptions {
  readonly url?: string;
  readonly device?: true;
  readonly browser?: true;
}

const EXAMPLE = `
Example: log in once, then use the databases
  pgsso login --url https://sso.example.com
  pgsso psql -d app
`;

/** Adds both commands to the program. */
export function addLoginCommands(program: Command): void {
  const login = program
    .command('login')
    .description('Log in at the issuer, and store the tokens for the other commands.')
    .addOption(
      new Option(
        '--url <URL>',
        'the pages of a pgsso, which say all the rest: https://sso.example.com',
      ).env('PGSSO_LOGIN_URL'),
    )
    .addOption(
      new Option(
        '--browser',
        'in the browser of this machine (default, if there is one)',
      ).conflicts('device'),
    )
    .addOption(new Option('--device', 'with a code, which is confirmed on any device'));
  addClientOptions(login).addHelpText('after', EXAMPLE);
  login.action(logIn);

  const logout = program
    .command('logout')
    .description('Forget the stored tokens, and revoke them at the issuer.');
  addClientOptions(logout).action(logOut);
}

async function logIn(parsed: ParsedLoginOptions): Promise<void> {
  const { openSetup, openTokenSource } = await import('../client/setup.ts');
  const options = setupOptions(parsed);
  const setup = await withUrl(await openSetup(options), parsed);
  const { profile, name, loginCommand } = setup;
  if (profile.issuer === undefined || profile.client_id === undefined)
    throw new UsageError(`nobody to log in at: ${loginCommand}`);
  const method = methodOf(parsed);
  const { client_secret_file: secretFile } = profile;
  // A person may confirm a code elsewhere, so a login needs no terminal.
  const isAsked = isInteractive() || secretFile === undefined || method !== undefined;
  const source = await openTokenSource(setup, options, { method, isInteractive: isAsked });
  const tokens = await source.logIn(new AbortController().signal);
  const { profilePath, writeProfile } = await import('../client/profile.ts');
  await writeProfile(setup.folders.config, name, absolute(profile));
  tell(`Logged in at ${await describe(tokens, profile)}.`);
  tell(`Profile: ${profilePath(setup.folders.config, name)}`);
  const flag = parsed.profile === undefined ? '' : ` --profile ${name}`;
  const host = profile.sql_host === undefined ? ' -h HOST -p PORT' : '';
  tell(`Next: pgsso psql${flag}${host}`);
  await setup.http.close();
}

/** With --url, or the URL of the profile, the pgsso there says what to use, but for the options. */
async function withUrl(setup: Setup, parsed: ParsedLoginOptions): Promise<Setup> {
  const isElsewhere = parsed.issuer !== undefined;
  const url = parsed.url ?? (isElsewhere ? undefined : setup.profile.url);
  if (url === undefined) return setup;
  const { fetchProfile, mergeProfile } = await import('../client/profile.ts');
  const found = await fetchProfile(url, setup.http.fetchJson, new AbortController().signal);
  const { given } = setupOptions(parsed);
  return { ...setup, profile: mergeProfile(given, found) };
}

function methodOf({ device, browser }: ParsedLoginOptions): LoginMethod {
  if (device) return 'device';
  return browser ? 'browser' : undefined;
}

/** The profile is used from every folder. */
function absolute(profile: Profile): Profile {
  const { client_secret_file: file } = profile;
  return file === undefined || file.startsWith('/')
    ? profile
    : { ...profile, client_secret_file: `${process.cwd()}/${file}` };
}

/** The name is what tells a person that somebody else has finished the login. */
async function describe({ access, id }: StoredTokens, profile: Profile): Promise<string> {
  const { nameIn } = await import('../client/given-token.ts');
  const used = profile.use_token === 'id_token' ? id : access;
  const name = nameIn((id ?? used)?.token ?? '');
  const until = used && `; the token is good until ${new Date(used.expiresAt).toISOString()}`;
  return `${profile.issuer}${name === undefined ? '' : ` as ${name}`}${until ?? ''}`;
}

async function logOut(parsed: ParsedClientOptions): Promise<void> {
  const { openSetup } = await import('../client/setup.ts');
  const { logOut: end } = await import('../client/logout.ts');
  const setup = await openSetup(setupOptions(parsed));
  const { wasLoggedIn, failure } = await end(setup, new AbortController().signal);
  await setup.http.close();
  if (!wasLoggedIn) tell('There was no login.');
  else if (failure === undefined) tell('Logged out: the tokens are forgotten here and revoked.');
  else throw new Error(`the tokens are forgotten here, but not revoked: ${failure}`);
}
