/**
 * Logins of services that have an OAuth client's id and secret and no token (RFC 6749, 4.4): the
 * user is the id, the password the secret, and the configured issuer gives a token for them, which
 * is then judged as any token. Off unless an issuer is set. The secret goes to that issuer's token
 * endpoint and nowhere else.
 */
import { type FetchJson, HttpFailure } from '../http/json-client.ts';
import { type Discovery, providerAccess } from '../keys/discovery.ts';
import { orAborted } from '../lib/abort.ts';
import { errorText, PgError } from '../lib/errors.ts';
import { isJsonObject } from '../lib/json.ts';
import { formatText } from '../lib/text.ts';
import type { LoginSettings } from '../settings/snapshot.ts';

/**
 * Exchanges at once: a stranger can cause one with any user and password, and the issuer would take
 * a flood of them for our doing.
 */
const EXCHANGE_LIMIT = 32;

/** What a client presented: a token, or the id and secret of an OAuth client in its place. */
interface Presented {
  readonly user: string | undefined;
  readonly token: string;
}

/** The exchanges of a process. */
export class ClientCredentials {
  readonly #fetchJson: FetchJson;
  readonly #discovery: Discovery;
  readonly #closed = new AbortController();
  #running = 0;

  constructor(fetchJson: FetchJson, discovery: Discovery) {
    this.#fetchJson = fetchJson;
    this.#discovery = discovery;
  }

  /**
   * The request with the token that the credentials are good for and without a user: which SQL user
   * it is follows from the token. A request that has a token already, or no issuer to ask, is given
   * back as it is.
   *
   * @throws PgError 28P01 when the issuer gives no token; the signal's reason
   */
  readonly exchange = async <Request extends Presented>(
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
    if (this.#running >= EXCHANGE_LIMIT)
      throw refused(id, `${EXCHANGE_LIMIT} exchanges are under way`, 'us');
    this.#running++;
    try {
      return {
        ...request,
        user: undefined,
        token: await this.#fetchToken(issuer, { id, secret }, values, signal),
      };
    } catch (error) {
      signal.throwIfAborted();
      // RFC 6749, 5.2: 400 or 401 for credentials that are not good.
      const isClients =
        error instanceof HttpFailure && (error.status === 400 || error.status === 401);
      throw refused(
        id,
        `${errorText(error)}; pgsso.client_credentials.issuer`,
        isClients ? 'client' : 'identity provider',
        error,
      );
    } finally {
      this.#running--;
    }
  };

  /** Ends the lookups that are under way. */
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
 * Three parts with dots between them: what could be a token is judged as one, and never sent
 * anywhere as a secret.
 */
function isTokenShaped(password: string): boolean {
  return password.split('.', 4).length === 3;
}

/** RFC 6749, 2.3.1: both halves are form-encoded first, so that an id may hold a colon. */
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
