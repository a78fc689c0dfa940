/**
 * An issuer as a client of it sees it: where its endpoints are, and the grants that need no person
 * (client credentials, refresh) with the revocation of what was granted. The protocol is that of
 * `openid-client`; here are the rules for addresses, and the words for what went wrong.
 */
import type * as Library from 'openid-client';
import type { LibraryRequest } from '../http/json-client.ts';
import { isLoopback } from '../lib/network.ts';
import { formatText, isUsableText } from '../lib/text.ts';

/** A client that is registered at an issuer, and what it asks for. */
export interface OAuthClient {
  readonly issuer: string;
  readonly clientId: string;
  /** Undefined for a public client. */
  readonly clientSecret?: string | undefined;
  /** Default: `openid`, and `offline_access` if the issuer lists it. */
  readonly scope?: string | undefined;
  /** Sent as `audience`, and as `resource` (RFC 8707) if it is an absolute URI. */
  readonly audience?: string | undefined;
}

/** What an issuer granted. */
export interface GrantedTokens {
  readonly accessToken: string;
  readonly idToken: string | undefined;
  readonly refreshToken: string | undefined;
  /** The lifetime of the access token in milliseconds, if the issuer says it. */
  readonly lifetime: number | undefined;
}

/** An issuer whose discovery document was read. */
export interface Issuer {
  readonly library: typeof Library;
  readonly configuration: Library.Configuration;
  readonly client: OAuthClient;
  readonly scope: string;
}

/** As {@link import('../http/json-client.ts').JsonClient.fetch}. */
export type LibraryFetch = (url: string, request: LibraryRequest) => Promise<Response>;

/** An issuer refused, with an error code of OAuth (RFC 6749, 5.2; RFC 8628, 3.5). */
export class GrantRefused extends Error {
  override readonly name = 'GrantRefused';
  readonly code: string;

  constructor(issuer: string, code: string, description: string | undefined, cause: unknown) {
    const text = description === undefined ? '' : `: ${formatText(description)}`;
    super(`${formatText(issuer)} refused: ${formatText(code)}${text}`, { cause });
    this.code = code;
  }
}

/** Endpoints that may receive a secret, a code or a token, or are opened in a browser. */
const ENDPOINTS = [
  'authorization_endpoint',
  'token_endpoint',
  'device_authorization_endpoint',
  'revocation_endpoint',
] as const;

/**
 * Reads the issuer's discovery document.
 *
 * @param signal ends this request and all later ones
 * @throws Error with one line if the issuer cannot be used
 */
export async function openIssuer(
  client: OAuthClient,
  fetch: LibraryFetch,
  signal: AbortSignal,
): Promise<Issuer> {
  const library = await import('openid-client');
  const { issuer, clientId, clientSecret } = client;
  const address = issuerAddress(issuer);
  const customFetch = (url: string, options: Library.CustomFetchOptions): Promise<Response> =>
    fetch(url, { ...options, signal: options.signal ?? signal });
  const configuration = await asOneLine(issuer, () =>
    library.discovery(address, clientId, undefined, authentication(library, clientSecret), {
      [library.customFetch]: customFetch,
      execute: address.protocol === 'http:' ? [library.allowInsecureRequests] : [],
    }),
  );
  const server = configuration.serverMetadata();
  for (const name of ENDPOINTS) checkEndpoint(address, name, server[name]);
  return { library, configuration, client, scope: client.scope || defaultScope(server) };
}

/**
 * The address of an issuer that a person or a file named.
 *
 * @throws Error unless it is https, or http on this host
 */
export function issuerAddress(issuer: string): URL {
  if (!URL.canParse(issuer) || !isUsableText(issuer))
    throw new Error(`the issuer "${formatText(issuer)}" is not a URL`);
  const address = new URL(issuer);
  const { protocol } = address;
  if (address.username !== '' || address.password !== '')
    throw new Error('the URL of the issuer has a user name or a password in it');
  if (protocol === 'https:' || (protocol === 'http:' && isLoopback(bare(address.hostname))))
    return address;
  throw new Error(`the issuer "${formatText(issuer)}" has to begin with https://`);
}

/** Tokens by the client's id and secret (RFC 6749, 4.4). */
export function grantClientCredentials(issuer: Issuer): Promise<GrantedTokens> {
  const { library, configuration, client } = issuer;
  const scope = client.scope ? { scope: client.scope } : {};
  return granted(issuer, () =>
    library.clientCredentialsGrant(configuration, { ...scope, ...audienceOf(client) }),
  );
}

/** New tokens by a refresh token (RFC 6749, 6). An issuer may replace the refresh token. */
export function grantRefresh(issuer: Issuer, refreshToken: string): Promise<GrantedTokens> {
  const { library, configuration, client } = issuer;
  return granted(issuer, () =>
    library.refreshTokenGrant(configuration, refreshToken, audienceOf(client)),
  );
}

/**
 * Tells the issuer that a token is not used any more (RFC 7009).
 *
 * @returns false if the issuer has no endpoint for it
 */
export async function revoke(issuer: Issuer, token: string, hint: string): Promise<boolean> {
  const { library, configuration, client } = issuer;
  if (configuration.serverMetadata().revocation_endpoint === undefined) return false;
  await asOneLine(client.issuer, () =>
    library.tokenRevocation(configuration, token, { token_type_hint: hint }),
  );
  return true;
}

/** The parameters that name the audience. */
export function audienceOf({ audience }: OAuthClient): Record<string, string> {
  if (audience === undefined || audience === '') return {};
  const isAbsoluteUri = URL.canParse(audience) && !audience.includes('#');
  return isAbsoluteUri ? { audience, resource: audience } : { audience };
}

/** Waits for tokens, and takes what is used here out of the answer. */
export async function granted(
  { client }: Issuer,
  grant: () => Promise<Library.TokenEndpointResponse & Library.TokenEndpointResponseHelpers>,
): Promise<GrantedTokens> {
  const answer = await asOneLine(client.issuer, grant);
  const seconds = answer.expires_in;
  return {
    accessToken: answer.access_token,
    idToken: answer.id_token,
    refreshToken: answer.refresh_token,
    lifetime: seconds === undefined ? undefined : seconds * 1000,
  };
}

/**
 * Runs a request. An error of the library becomes one that names the issuer and says what happened.
 * Nothing of an answer is repeated but the error and its description.
 */
export async function asOneLine<T>(issuer: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    const { code, description } = oauthError(error);
    if (code !== undefined) throw new GrantRefused(issuer, code, description, error);
    throw new Error(`${formatText(issuer)}: ${innermost(error)}`, { cause: error });
  }
}

function authentication(library: typeof Library, secret: string | undefined): Library.ClientAuth {
  return secret === undefined ? library.None() : basicOrPost(library, secret);
}

/** RFC 6749, 2.3.1: Basic is what every server has to support; some list only the form. */
function basicOrPost(library: typeof Library, secret: string): Library.ClientAuth {
  const basic = library.ClientSecretBasic(secret);
  const post = library.ClientSecretPost(secret);
  return (server, client, body, headers) => {
    const methods = server.token_endpoint_auth_methods_supported;
    const isPostOnly =
      methods?.includes('client_secret_post') && !methods.includes('client_secret_basic');
    return (isPostOnly ? post : basic)(server, client, body, headers);
  };
}

/** Without `offline_access` many issuers give no refresh token (OpenID Connect Core, 11). */
function defaultScope({ scopes_supported: supported }: Library.ServerMetadata): string {
  return supported?.includes('offline_access') ? 'openid offline_access' : 'openid';
}

/** An issuer on https names only addresses on https; one on this host may name others there. */
function checkEndpoint(issuer: URL, name: string, endpoint: unknown): void {
  if (endpoint === undefined) return;
  const address = URL.canParse(String(endpoint)) ? new URL(String(endpoint)) : undefined;
  const isFit =
    address?.protocol === 'https:' ||
    (issuer.protocol === 'http:' &&
      address?.protocol === 'http:' &&
      isLoopback(bare(address.hostname)));
  if (!isFit)
    throw new Error(`${issuer.href}: its discovery document names a ${name} that is not https`);
}

function bare(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1');
}

function oauthError(error: unknown): { code?: string; description?: string | undefined } {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (!('error' in cause) || typeof cause.error !== 'string') continue;
    const description = 'error_description' in cause ? cause.error_description : undefined;
    return {
      code: cause.error,
      description: typeof description === 'string' ? description : undefined,
    };
  }
  return {};
}

/** The library wraps errors in general ones. The innermost says what happened. */
function innermost(error: unknown): string {
  let text = String(error);
  for (let cause = error; cause instanceof Error; cause = cause.cause) text = cause.message;
  return formatText(text);
}
