/**
 * A real OpenID provider for people who log in from a terminal: `oidc-provider` with authorization
 * code, device flow, refresh tokens that rotate, and revocation. Its clients are
 * a public native one and one with a secret.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Configuration } from 'oidc-provider';
import { makeSigningKeys } from './oidc.ts';
import { pages, withoutOutput } from './sign-in.ts';

/** The public client. */
export const NATIVE_CLIENT = 'pgsso-cli';

/** The client with a secret, and that secret. */
export const SERVICE = { id: 'reporting', secret: 'not:so%secret' } as const;

/** What {@link startPeopleProvider} takes. */
export interface PeopleProviderOptions {
  /** Of the access tokens: an absolute URI. */
  readonly audience: string;
  /** Of access tokens, in seconds. Default 3600. */
  readonly lifetime?: number;
  /** Of the codes of the device flow, in seconds. Default 600. */
  readonly codeLifetime?: number;
  /** Words that a client may ask for besides those of OpenID Connect. Default: none. */
  readonly scope?: string;
}

/** A running provider. */
export interface PeopleProvider {
  readonly issuer: string;
  /** How many requests each endpoint had: its path, and for the token endpoint the grant. */
  readonly requests: Map<string, number>;
  /** Answers every request with this status, as a provider that is broken. */
  failWith: number | undefined;
  stop(): Promise<void>;
}

/** Starts a provider. */
export async function startPeopleProvider({
  audience,
  lifetime = 3600,
  codeLifetime = 600,
  scope = '',
}: PeopleProviderOptions): Promise<PeopleProvider> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const deviceCode = 'urn:ietf:params:oauth:grant-type:device_code';
  const configuration = {
    clients: [
      {
        client_id: NATIVE_CLIENT,
        token_endpoint_auth_method: 'none',
        application_type: 'native',
        grant_types: ['authorization_code', 'refresh_token', deviceCode],
        redirect_uris: ['http://127.0.0.1/callback'],
        response_types: ['code'],
      },
      {
        client_id: SERVICE.id,
        client_secret: SERVICE.secret,
        grant_types: ['client_credentials', deviceCode],
        redirect_uris: [],
        response_types: [],
      },
    ],
    jwks: { keys: await makeSigningKeys() },
    clientBasedCORS: () => false,
    cookies: { keys: ['test'] },
    rotateRefreshToken: true,
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true, ...pages },
      devInteractions: { enabled: true },
      revocation: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          audience,
          scope,
          accessTokenFormat: 'jwt',
          accessTokenTTL: lifetime,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    ttl: {
      AccessToken: lifetime,
      ClientCredentials: lifetime,
      DeviceCode: codeLifetime,
      IdToken: lifetime,
      Grant: 3600,
      Interaction: 600,
      RefreshToken: 3600,
      Session: 3600,
    },
    findAccount: (_context: unknown, id: string) => ({
      accountId: id,
      claims: () => ({ sub: id }),
    }),
  };
  const requests = new Map<string, number>();
  const count = (name: string): unknown => requests.set(name, (requests.get(name) ?? 0) + 1);
  const provider: PeopleProvider = {
    issuer,
    requests,
    failWith: undefined,
    async stop() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
  await withoutOutput(async () => {
    const { default: OidcProvider } = await import('oidc-provider');
    const oidc = new OidcProvider(issuer, configuration as unknown as Configuration);
    // The provider leaves out the interval, which then is five seconds (RFC 8628, 3.2).
    oidc.use(async (context, next) => {
      await next();
      if (context.path === '/device/auth') Object.assign(context.body, { interval: 1 });
    });
    oidc.on('grant.success', ({ oidc: { params } }) => count(`/token ${params.grant_type}`));
    const handle = oidc.callback();
    server.on('request', (request, response) => {
      count(request.url?.split('?')[0] ?? '');
      if (provider.failWith === undefined) return handle(request, response);
      response.writeHead(provider.failWith).end();
    });
  });
  return provider;
}
