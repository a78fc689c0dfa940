/**
 * A real OpenID provider for tests and the demo: `oidc-provider` on a local port, with discovery, a
 * key set, and access tokens as signed JWTs by client credentials (RFC 6749, section 4.4). A client
 * stands for a person, so that no browser is needed: the token's `sub` is the client's id.
 */
import { createPublicKey, generateKeyPair, type JsonWebKey, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import type { Configuration } from 'oidc-provider';

/** Signature algorithms that the provider has a key for. */
export type ProviderAlgorithm = 'RS256' | 'ES256';

/** A client that can get tokens. */
export interface ProviderClient {
  /** Becomes `sub`. */
  readonly id: string;
  /** Default: a random one. */
  readonly secret?: string;
  /** The algorithm of its tokens' signatures. Default: RS256. */
  readonly algorithm?: ProviderAlgorithm;
  /** More claims for its tokens. Registered claims (`sub`, `aud`, `exp`, …) cannot be changed. */
  readonly claims?: Readonly<Record<string, unknown>>;
}

/** What {@link startProvider} takes. */
export interface ProviderOptions {
  readonly clients: readonly ProviderClient[];
  /** The audience of a token requested without `resource` (RFC 8707): an absolute URI. */
  readonly audience: string;
  /** Lifetime of the tokens in seconds, default 3600. */
  readonly lifetime?: number;
  /** Default: `http://127.0.0.1:<port>`. */
  readonly issuer?: string;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default: a free one. */
  readonly port?: number;
  /** Private keys to sign with, default: new ones from {@link makeSigningKeys}. */
  readonly keys?: readonly JsonWebKey[];
}

/** A running provider. */
export interface Provider {
  readonly issuer: string;
  /** The public key set as JSON, as the provider serves it at its `jwks_uri`. */
  readonly jwks: string;
  /**
   * Gets an access token for a client by HTTP.
   *
   * @throws Error with the provider's answer if it refuses
   */
  token(request: { readonly clientId: string; readonly audience?: string }): Promise<string>;
  stop(): Promise<void>;
}

/** Starts a provider. Takes about 0.1 s, most of it for the RSA key. */
export async function startProvider(options: ProviderOptions): Promise<Provider> {
  const clients = new Map(
    options.clients.map((client) => [
      client.id,
      { secret: randomBytes(18).toString('base64url'), ...client },
    ]),
  );
  const lifetime = options.lifetime ?? 3600;
  const keys = options.keys ?? (await makeSigningKeys());

  // The server listens first, since the port is part of the issuer's name.
  const server = createServer();
  server.listen(options.port ?? 0, options.host ?? '127.0.0.1');
  await once(server, 'listening');
  const { address, port } = server.address() as AddressInfo;
  const issuer = options.issuer ?? `http://${address}:${port}`;

  const configuration: Configuration = {
    clients: [...clients.values()].map(({ id, secret }) => ({
      client_id: id,
      client_secret: secret,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    jwks: { keys },
    clientBasedCORS: () => false,
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => options.audience,
        getResourceServerInfo: (_context, resource, { clientId }) => ({
          audience: resource,
          scope: '',
          accessTokenFormat: 'jwt',
          accessTokenTTL: lifetime,
          jwt: { sign: { alg: clients.get(clientId)?.algorithm ?? 'RS256' } },
        }),
      },
    },
    ttl: { ClientCredentials: lifetime },
    extraTokenClaims: (_context, { clientId }) => clients.get(clientId)?.claims,
  };
  await withoutNotices(async () => {
    const { default: OidcProvider } = await import('oidc-provider');
    server.on('request', new OidcProvider(issuer, configuration).callback());
  });

  // Requests go to the address, since the issuer's name may not resolve here.
  const base = `http://${address}:${port}`;
  return {
    issuer,
    jwks: await fetchText(`${base}/jwks`),
    token: ({ clientId, audience }) =>
      fetchToken(base, { id: clientId, secret: clients.get(clientId)?.secret ?? '' }, audience),
    async stop() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/**
 * Gets an access token by client credentials from the provider whose endpoints are below `base`.
 *
 * @throws Error with the provider's answer if it refuses
 */
export async function fetchToken(
  base: string,
  client: { readonly id: string; readonly secret: string },
  audience?: string,
): Promise<string> {
  const form = new URLSearchParams({
    grant_type: 'client_credentials',
    ...(audience !== undefined && { resource: audience }),
  });
  // RFC 6749, section 2.3.1: the id and the secret are form-encoded before they are joined.
  const credentials = [client.id, client.secret].map(encodeURIComponent).join(':');
  const authorization = `Basic ${Buffer.from(credentials).toString('base64')}`;
  return JSON.parse(
    await fetchText(`${base}/token`, { method: 'POST', headers: { authorization }, body: form }),
  ).access_token;
}

/** Makes a private key for each {@link ProviderAlgorithm}. */
export async function makeSigningKeys(): Promise<JsonWebKey[]> {
  const [rsa, ec] = await Promise.all([
    promisify(generateKeyPair)('rsa', { modulusLength: 2048 }),
    promisify(generateKeyPair)('ec', { namedCurve: 'P-256' }),
  ]);
  return [
    { ...rsa.privateKey.export({ format: 'jwk' }), kid: 'rsa', alg: 'RS256', use: 'sig' },
    { ...ec.privateKey.export({ format: 'jwk' }), kid: 'ec', alg: 'ES256', use: 'sig' },
  ];
}

/** The public halves of signing keys as the JSON of a key set. */
export function toPublicKeySet(keys: readonly JsonWebKey[]): string {
  const publicKeys = keys.map((key) => {
    const { kid, alg, use } = key;
    return { ...createPublicKey({ key, format: 'jwk' }).export({ format: 'jwk' }), kid, alg, use };
  });
  return JSON.stringify({ keys: publicKeys });
}

async function fetchText(url: string, init?: RequestInit): Promise<string> {
  const response = await fetch(url, init);
  const text = await response.text();
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text}`);
  return text;
}

/** Drops the provider's warnings that this configuration is not fit for production. */
async function withoutNotices(run: () => Promise<void>): Promise<void> {
  const { warn, info } = console;
  const quiet =
    (print: typeof warn) =>
    (...line: unknown[]) =>
      String(line[0]).includes('oidc-provider') || print(...line);
  Object.assign(console, { warn: quiet(warn), info: quiet(info) });
  try {
    await run();
  } finally {
    Object.assign(console, { warn, info });
  }
}
