/**
 * Logins of services that have an OAuth client's id and secret but no token (RFC 6749, 4.4). The
 * user is the id and the password is the secret. The configured issuer exchanges them for a token,
 * which is then checked as any other. The secret is sent only to that issuer's token endpoint. This
 * is off unless an issuer is set.
 */
import { type FetchJson, HttpFailure } from '../http/json-client.ts';
import { type Discovery, providerAccess } from '../keys/discovery.ts';
import { orAborted } from '../lib/abort.ts';
import { errorText, PgError } from '../lib/errors.ts';
import { isJsonObject } from '../lib/json.ts';
import { Limiter } from '../lib/limiter.ts';
import { formatText } from '../lib/text.ts';
import type { LoginSettings } from '../settings/snapshot.ts';

/**
 * How many exchanges may be in progress at once. Anybody can cause one with any user and password,
 * and the issuer sees all of them as ours.
 */
const EXCHANGE_LIMIT = 32;

/** What a client sent: a token, or the id and secret of an OAuth client in its place. */
interface Credentials {
  /** The user, or the id. */
  readonly user: string | undefined;
  /** The token, or the secret. */
  readonly token: string;
}

/** The exchanges of a process. */
export class ClientCredentials {
  readonly #fetchJson: FetchJson;
  readonly #discovery: Discovery;
  readonly #closed = new AbortController();
  readonly #exchanges = new Limiter({ limit: EXCHANGE_LIMIT });

  constructor(fetchJson: FetchJson, discovery: Discovery) {
    this.#fetchJson = fetchJson;
    this.#discovery = discovery;
  }

  /**
   * Exchanges the id and secret for a token. The result has no user, since the SQL user follows
   * from the token. A request that already has a token is returned unchanged, and so is any request
   * if no issuer is set.
   *
   * @throws PgError 28P01 if the issuer gives no token; the signal's reason
   */
  readonly exchange = async <Request extends Credentials>(
    request: Request,
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<Request> => {
    const issuer = values['pgsso.client_credentials.issuer'];
    if (
      !values['server.jwt_authentication.enabled'] ||
      issuer === '' ||
      isTokenShaped(request.token)
    )
      return request;
    const { user: id = '', token: secret } = request;
    const permit = this.#exchanges.acquire();
    if (!permit) throw refused(id, `${EXCHANGE_LIMIT} exchanges are under way`, 'us');
    try {
      return {
        ...request,
        user: undefined,
        token: await this.#fetchToken(issuer, { id, secret }, values, signal),
      };
    } catch (error) {
      signal.throwIfAborted();
      // RFC 6749, 5.2: 400 or 401 for wrong credentials.
      const isClientFault =
        error instanceof HttpFailure && (error.status === 400 || error.status === 401);
      throw refused(
        id,
        `${errorText(error)}; pgsso.client_credentials.issuer`,
        isClientFault ? 'client' : 'identity provider',
        error,
      );
    } finally {
      permit.release();
    }
  };

  /** Ends the lookups that are in progress. */
  close(): void {
    this.#closed.abort(new Error('the front-end is shutting down'));
  }

  async #fetchToken(
    issuer: string,
    client: { readonly id: string; readonly secret: string },
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<string> {
    const access = providerAccess(values);
    const { tokenEndpoint } = await orAborted(
      this.#discovery.find(issuer, access, this.#closed.signal),
      signal,
    );
    if (tokenEndpoint === undefined) throw new Error('the issuer has no token endpoint');
    const audience = values['pgsso.client_credentials.audience'];
    const scope = values['pgsso.client_credentials.scope'];
    const { body } = await this.#fetchJson(tokenEndpoint, {
      ...access,
      signal,
      authorization: basicAuthorization(client),
      form: new URLSearchParams({
        grant_type: 'client_credentials',
        ...(audience && { audience }),
        ...(scope && { scope }),
      }),
    });
    const { access_token: token } = isJsonObject(body) ? body : {};
    if (typeof token !== 'string' || !isTokenShaped(token)) {
      throw new Error('the issuer gave an access token that is not a JSON web token');
    }
    return token;
  }
}

/**
 * Whether the password has three parts with dots between them. It is then checked as a token, and
 * never sent anywhere as a secret.
 */
function isTokenShaped(password: string): boolean {
  return password.split('.', 4).length === 3;
}

/** RFC 6749, 2.3.1: both parts are form-encoded first, so that an id may hold a colon. */
function basicAuthorization({
  id,
  secret,
}: {
  readonly id: string;
  readonly secret: string;
}): string {
  return `Basic ${Buffer.from(`${formEncode(id)}:${formEncode(secret)}`).toString('base64')}`;
}

function formEncode(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1);
}

function refused(id: string, reason: string, fault: PgError['fault'], cause?: unknown): PgError {
  return new PgError({
    code: 'client_credentials_refused',
    message: `password authentication failed for user "${formatText(id)}"`,
    reason: `client credentials of ${formatText(id)}: ${reason}`,
    fault,
    cause,
  });
}
