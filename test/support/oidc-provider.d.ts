/** The part of oidc-provider 9 that tests use. The package has no types. */
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http';

  export interface ClientMetadata {
    client_id: string;
    client_secret: string;
    grant_types: readonly string[];
    redirect_uris: readonly string[];
    response_types: readonly string[];
  }

  export interface ResourceServer {
    audience: string;
    scope: string;
    accessTokenFormat: 'jwt';
    accessTokenTTL: number;
    jwt: { sign: { alg: string } };
  }

  export interface Client {
    readonly clientId: string;
  }

  export interface Configuration {
    clients: readonly ClientMetadata[];
    jwks: { keys: readonly object[] };
    clientBasedCORS: () => boolean;
    features: {
      clientCredentials: { enabled: boolean };
      devInteractions: { enabled: boolean };
      resourceIndicators: {
        enabled: boolean;
        defaultResource: () => string;
        getResourceServerInfo: (
          context: unknown,
          resource: string,
          client: Client,
        ) => ResourceServer;
      };
    };
    ttl: { ClientCredentials: number };
    extraTokenClaims: (
      context: unknown,
      token: Client,
    ) => Readonly<Record<string, unknown>> | undefined;
  }

  export default class Provider {
    constructor(issuer: string, configuration: Configuration);
    use(
      middleware: (
        context: { path: string; body: object },
        next: () => Promise<void>,
      ) => Promise<void>,
    ): void;
    on(
      event: 'grant.success',
      listener: (context: { oidc: { params: { grant_type: string } } }) => void,
    ): void;
    callback(): (request: IncomingMessage, response: ServerResponse) => void;
  }
}
