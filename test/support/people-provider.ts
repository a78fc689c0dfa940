/**
 * A real OpenID provider for people who log in from a terminal: `oidc-provider` with authorization
 * code, device flow, refresh tokens that rotate, and revocation; and a browser without a screen, in
 * which somebody signs in. Its clients are a public native one and one with a secret.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Configuration } from 'oidc-provider';
import { makeSigningKeys } from './oidc.ts';

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
  await quietly(async () => {
    const { default: OidcProvider } = await import('oidc-provider');
    const oidc = new OidcProvider(issuer, configuration as unknown as Configuration);
    // The provider leaves out the interval, which then is five seconds (RFC 8628, 3.2).
    withEvents(oidc).use(async (context, next) => {
      await next();
      if (context.path === '/device/auth') Object.assign(context.body, { interval: 1 });
    });
    withEvents(oidc).on('grant.success', ({ oidc: { params } }) =>
      count(`/token ${params?.grant_type}`),
    );
    const handle = oidc.callback();
    server.on('request', (request, response) => {
      count(request.url?.split('?')[0] ?? '');
      if (provider.failWith === undefined) return handle(request, response);
      response.writeHead(provider.failWith).end();
    });
  });
  return provider;
}

/** The part of the provider that {@link startPeopleProvider} uses beside the declared one. */
interface WithEvents {
  use(
    middleware: (
      context: { path: string; body: object },
      next: () => Promise<void>,
    ) => Promise<void>,
  ): void;
  on(
    event: 'grant.success',
    listener: (context: { oidc: { params?: { grant_type?: string } } }) => void,
  ): void;
}

function withEvents(provider: object): WithEvents {
  return provider as WithEvents;
}

/** The provider's own pages print that they should be changed. */
const pages = {
  userCodeInputSource: showForm,
  userCodeConfirmSource: (context: { body: string }, form: string) =>
    showForm(context, `${form}<button name="abort"></button>`),
  successSource: (context: { body: string }) => showForm(context, 'done'),
};

function showForm(context: { body: string }, form: string): void {
  context.body = form;
}

/** As many pages as a sign-in has, and some more. */
const PAGE_LIMIT = 12;

/**
 * Goes to an address as a browser does, signs in, and agrees to everything or to nothing.
 *
 * @returns the last page
 */
export async function browse(
  address: string,
  login: string,
  answer: 'agree' | 'decline' = 'agree',
): Promise<{ readonly address: string; readonly text: string }> {
  // Cookies do not look at the port.
  const cookies = new Map<string, string>();
  let page = await load(address, cookies);
  for (let shown = 0; shown < PAGE_LIMIT; shown++) {
    const [, action = '', inside = ''] =
      /<form[^>]*action="([^"]*)"[^>]*>(.*?)<\/form>/s.exec(page.text) ?? [];
    if (action === '') return page;
    const [, abort] = /<a href="([^"]*)">\[ Cancel \]/.exec(page.text) ?? [];
    if (answer === 'decline' && abort !== undefined) {
      page = await load(new URL(abort, page.address).href, cookies);
      continue;
    }
    const fields = new URLSearchParams();
    for (const [tag] of inside.matchAll(/<input[^>]*>/g)) {
      const name = /name="([^"]*)"/.exec(tag)?.[1];
      if (name !== undefined) fields.set(name, /value="([^"]*)"/.exec(tag)?.[1] ?? '');
    }
    if (fields.has('login')) fields.set('login', login);
    if (fields.has('password')) fields.set('password', 'x');
    if (answer === 'decline' && page.text.includes('name="abort"')) fields.set('abort', 'yes');
    page = await load(new URL(action, page.address).href, cookies, fields);
    if (fields.has('abort')) return page;
  }
  throw new Error(`the sign-in did not end: ${page.text}`);
}

/** One page, behind its redirects. */
async function load(address: string, cookies: Map<string, string>, form?: URLSearchParams) {
  let url = address;
  let body = form;
  for (let redirects = 0; redirects < PAGE_LIMIT; redirects++) {
    const cookie = Array.from(cookies, ([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, {
      redirect: 'manual',
      headers: { cookie },
      ...(body && { method: 'POST', body }),
    });
    for (const set of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]*)=([^;]*)/.exec(set) ?? [];
      cookies.set(name, value);
    }
    const location = response.headers.get('location');
    if (location === null) return { address: url, text: await response.text() };
    url = new URL(location, url).href;
    body = undefined;
  }
  throw new Error(`too many redirects from ${address}`);
}

/** Without the provider's notes that this configuration is not fit for production. */
async function quietly(run: () => Promise<void>): Promise<void> {
  const { warn, info } = console;
  Object.assign(console, { warn: () => undefined, info: () => undefined });
  try {
    await run();
  } finally {
    Object.assign(console, { warn, info });
  }
}
