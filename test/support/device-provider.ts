/**
 * A real OpenID provider with people: `oidc-provider` with the device flow (RFC 8628), and a
 * browser without a screen in which somebody signs in and confirms a code. Its client is public, as
 * that of psql is, and its access tokens are signed JWTs.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Configuration } from 'oidc-provider';
import { makeSigningKeys } from './oidc.ts';

/** The public client of {@link startDeviceProvider}. */
export const DEVICE_CLIENT = 'psql';

/** What {@link startDeviceProvider} takes. */
export interface DeviceProviderOptions {
  /** Of the access tokens: an absolute URI. */
  readonly audience: string;
  /** Words that a client may ask for besides `openid`. */
  readonly scope?: string;
  /** How long a code is good, in seconds. Default 600. */
  readonly lifetime?: number;
  /** Seconds between two requests for the token. Default 1. */
  readonly interval?: number;
  /** A secret makes the client a confidential one. */
  readonly clientSecret?: string;
}

/** A running provider. */
export interface DeviceProvider {
  readonly issuer: string;
  /** Signs in as somebody at the address of a code, and confirms or declines it. */
  visit(address: string, login: string, answer?: 'confirm' | 'decline'): Promise<void>;
  /** How many requests each endpoint had, by path. */
  readonly requests: ReadonlyMap<string, number>;
  stop(): Promise<void>;
}

/** Starts a provider. */
export async function startDeviceProvider(options: DeviceProviderOptions): Promise<DeviceProvider> {
  const { audience, scope = '', lifetime = 600, interval = 1, clientSecret } = options;
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = {
    client_id: DEVICE_CLIENT,
    ...(clientSecret === undefined
      ? { token_endpoint_auth_method: 'none' }
      : { client_secret: clientSecret }),
    application_type: 'native',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
    redirect_uris: [],
    response_types: [],
  };
  const configuration = {
    clients: [client],
    jwks: { keys: await makeSigningKeys() },
    clientBasedCORS: () => false,
    cookies: { keys: ['test'] },
    scopes: ['openid'],
    features: {
      deviceFlow: { enabled: true, ...pages },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          audience,
          scope,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    ttl: {
      DeviceCode: lifetime,
      AccessToken: 3600,
      IdToken: 3600,
      Grant: 3600,
      Interaction: 3600,
      Session: 3600,
    },
    findAccount: (_context: unknown, id: string) => ({
      accountId: id,
      claims: () => ({ sub: id }),
    }),
  };
  const requests = new Map<string, number>();
  await quietly(async () => {
    const { default: OidcProvider } = await import('oidc-provider');
    const provider = new OidcProvider(issuer, configuration as unknown as Configuration);
    // The provider leaves out the interval, which then is five seconds (RFC 8628, 3.2).
    provider.use(async (context, next) => {
      await next();
      if (context.path === '/device/auth') Object.assign(context.body, { interval });
    });
    const handle = provider.callback();
    server.on('request', (request, response) => {
      const path = request.url?.split('?')[0] ?? '';
      requests.set(path, (requests.get(path) ?? 0) + 1);
      handle(request, response);
    });
  });
  return {
    issuer,
    requests,
    visit: (address, login, answer = 'confirm') => visit(address, login, answer),
    async stop() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
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

/** Fills in one form after the other until a page without one comes. */
async function visit(address: string, login: string, answer: 'confirm' | 'decline') {
  const cookies = new Map<string, string>();
  let page = await load(address, cookies);
  for (let pages = 0; pages < PAGE_LIMIT; pages++) {
    const [, action = '', inside = ''] =
      /<form[^>]*action="([^"]*)"[^>]*>(.*?)<\/form>/s.exec(page.text) ?? [];
    if (action === '') return;
    const fields = new URLSearchParams();
    for (const [tag] of inside.matchAll(/<input[^>]*>/g)) {
      const name = /name="([^"]*)"/.exec(tag)?.[1];
      const value = /value="([^"]*)"/.exec(tag)?.[1] ?? '';
      if (name !== undefined) fields.set(name, value);
    }
    if (fields.has('login')) fields.set('login', login);
    if (fields.has('password')) fields.set('password', 'x');
    if (answer === 'decline' && page.text.includes('name="abort"')) fields.set('abort', 'yes');
    page = await load(new URL(action, page.address).href, cookies, fields);
    if (fields.has('abort')) return;
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
