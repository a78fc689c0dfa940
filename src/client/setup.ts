/**
 * What a command of the client's side works with: the profile with what the options say, the OAuth
 * client that follows from it, and the source of its tokens.
 */
import type { FetchJson, JsonClient } from '../http/json-client.ts';
import { UsageError } from '../lib/errors.ts';
import { readPrivateFile } from '../lib/files.ts';
import { issuerAddress, type LibraryFetch, type OAuthClient } from '../oauth/issuer.ts';
import { type ClientFolders, clientFolders } from './folders.ts';
import type { LoginMethod } from './login.ts';
import {
  DEFAULT_PROFILE,
  mergeProfile,
  type Profile,
  profileName,
  readProfile,
} from './profile.ts';
import { TokenSource } from './token-source.ts';

/** What the commands have in common. */
export interface SetupOptions {
  /** The name of a profile. Default: `default`, if there is one. */
  readonly name: string | undefined;
  /** What options and variables say; it comes before the profile. */
  readonly given: Profile;
  readonly environment: NodeJS.ProcessEnv;
  readonly tell: (line: string) => void;
}

/** How a token is to be got if none is stored. */
export interface LoginOptions {
  readonly method: LoginMethod;
  /** Whether there is a person to ask. */
  readonly isInteractive: boolean;
}

/** Requests to issuers and to the pages of a pgsso. */
export interface ClientHttp {
  readonly fetch: LibraryFetch;
  readonly fetchJson: FetchJson;
  close(): Promise<void>;
}

/** A profile that is ready for use. */
export interface Setup {
  readonly name: string;
  readonly folders: ClientFolders;
  readonly profile: Profile;
  readonly http: ClientHttp;
  /** What a person types to log in, for errors. */
  readonly loginCommand: string;
}

/**
 * Reads the profile.
 *
 * @throws UsageError for a name that cannot be right; Error for a profile that cannot be read, or
 *   that was named and does not exist
 */
export async function openSetup({ name, given, environment }: SetupOptions): Promise<Setup> {
  const chosen = profileName(name ?? DEFAULT_PROFILE);
  const folders = clientFolders();
  const stored = await readProfile(folders.config, chosen);
  const profile = mergeProfile(given, stored ?? {});
  const flag = name === undefined ? '' : ` --profile ${chosen}`;
  const isKnown = profile.issuer !== undefined && profile.client_id !== undefined;
  return {
    name: chosen,
    folders,
    profile,
    http: openHttp(environment),
    loginCommand: isKnown
      ? `run "pgsso login${flag}"`
      : `run "pgsso login${flag} --url https://sso.example.com", or give --issuer and ` +
        '--client-id; a program sets PGSSO_TOKEN_FILE or PGSSO_TOKEN_COMMAND',
  };
}

/**
 * The OAuth client of a profile; undefined if it names no issuer and no client id.
 *
 * @throws UsageError for an issuer that is not https; PgError F0000 for a secret's file that cannot
 *   be read, or that others have access to
 */
export async function oauthClient(profile: Profile): Promise<OAuthClient | undefined> {
  const { issuer, client_id: clientId, client_secret_file: file, scope, audience } = profile;
  if (issuer === undefined || clientId === undefined) return undefined;
  try {
    issuerAddress(issuer);
  } catch (error) {
    throw new UsageError(`--issuer: ${error instanceof Error ? error.message : String(error)}`);
  }
  const secret =
    file === undefined ? undefined : await readPrivateFile('--client-secret-file', file);
  return { issuer, clientId, clientSecret: secret?.toString().trim(), scope, audience };
}

/** Loads the HTTP client at the first request: most commands find their token stored. */
function openHttp(environment: NodeJS.ProcessEnv): ClientHttp {
  let opened: Promise<JsonClient> | undefined;
  const open = (): Promise<JsonClient> => {
    opened ??= import('../http/json-client.ts').then(
      ({ JsonClient }) => new JsonClient(environment),
    );
    return opened;
  };
  return {
    fetch: async (url, request) => (await open()).fetch(url, request),
    fetchJson: async (url, request) => (await open()).fetchJson(url, request),
    close: async () => (await opened)?.close(),
  };
}

/** The source of the tokens of a profile. */
export async function openTokenSource(
  setup: Setup,
  { environment, tell }: SetupOptions,
  { method, isInteractive }: LoginOptions,
): Promise<TokenSource> {
  const { profile, folders, http, loginCommand } = setup;
  const client = await oauthClient(profile);
  // A client with a secret logs in as itself, unless a person is asked for explicitly.
  const asksPerson = isInteractive && (client?.clientSecret === undefined || method !== undefined);
  return new TokenSource({
    environment,
    client,
    useToken: profile.use_token ?? 'access_token',
    state: folders.state,
    fetch: http.fetch,
    loginCommand,
    logIn: asksPerson
      ? async (issuer, signal) => {
          const { logInPerson } = await import('./login.ts');
          return logInPerson(issuer, { method, environment, tell }, signal);
        }
      : undefined,
    tell,
    now: Date.now,
  });
}
