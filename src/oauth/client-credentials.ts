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
import { formatText } from '../lib/text.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import {
  type Applicant,
  ExchangeLimits,
  type ExchangeOutcome,
  type ExchangePermit,
} from './exchange-limits.ts';

/** Of a JWS, and of a JWE. */
const TOKEN_PARTS: ReadonlySet<number> = new Set([3, 5]);

/** A password is not split into more parts, however many dots it has. */
const MOST_PARTS = 8;

/** What a client sent: a token, or the id and secret of an OAuth client in its place. */
interface Credentials {
  /** The user, or the id. */
  readonly user: string | undefined;
  /** The token, or the secret. */
  readonly token: string;
  /** The client's. Undefined if it is not known. */
  readonly address?: string | undefined;
}

/** What a {@link ClientCredentials} is made with. */
export interface ClientCredentialsOptions {
  /** How many logins may wait for an exchange at once. */
  readonly waitingLimit: number;
  /** How many processes the limits of the node are divided among. Default: 1. */
  readonly workers?: number | undefined;
}

/** The exchanges of a process. */
export class ClientCredentials {
  readonly #fetchJson: FetchJson;
  readonly #discovery: Discovery;
  readonly #limits: ExchangeLimits;

  constructor(fetchJson: FetchJson, discovery: Discovery, options: ClientCredentialsOptions) {
    this.#fetchJson = fetchJson;
    this.#discovery = discovery;
    this.#limits = new ExchangeLimits(options.waitingLimit, options.workers);
  }

  /**
   * Exchanges the id and secret for a token. The result has no user, since the SQL user follows
   * from the token. A request that already has a token, or what may be one, is returned unchanged,
   * and so is any request if no issuer is set.
   *
   * @throws PgError 28P01 if the issuer gives no token; the signal's reason
   */
  readonly exchange = async <Request extends Credentials>(
    request: Request,
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<Request> => {
    const issuer = values['pgsso.client_credentials.issuer'];
    if (!values['server.jwt_authentication.enabled'] || issuer === '' || mayBeToken(request.token))
      return request;
    const { user: id = '', token: secret, address } = request;
    const permit = await this.#begin({ id, secret, address }, signal);
    let outcome: ExchangeOutcome = 'given up';
    try {
      const token = await this.#fetchToken(issuer, { id, secret }, values, signal);
      outcome = 'right';
      return { ...request, user: undefined, token };
    } catch (error) {
      // RFC 6749, 5.2: 400 or 401 for wrong credentials.
      const status = error instanceof HttpFailure ? error.status : undefined;
      const isClientFault = status === 400 || status === 401;
      if (isClientFault) outcome = 'wrong';
      signal.throwIfAborted();
      // RFC 6585, 4: 429 for too many requests.
      if (!isClientFault) outcome = status === 429 ? 'too many' : 'failed';
      throw refused(
        id,
        `${errorText(error)}; pgsso.client_credentials.issuer`,
        isClientFault ? 'client' : 'identity provider',
        error,
      );
    } finally {
      permit.end(outcome);
    }
  };

  async #begin(applicant: Applicant, signal: AbortSignal): Promise<ExchangePermit> {
    try {
      return await this.#limits.begin(applicant, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw refused(applicant.id, errorText(error), 'us', error);
    }
  }

  async #fetchToken(
    issuer: string,
    client: { readonly id: string; readonly secret: string },
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<string> {
    const access = providerAccess(values);
    const { tokenEndpoint } = await orAborted(this.#discovery.find(issuer, access), signal);
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
    if (typeof token !== 'string' || token.split('.', 4).length !== 3) {
      throw new Error('the issuer gave an access token that is not a JSON web token');
    }
    return token;
  }
}

/**
 * Whether the password may be a token, even one that is damaged or of a kind that is not taken. It
 * is then checked as a token, and never sent anywhere as a secret. A JWS has three parts with dots
 * between them and a JWE has five (RFC 7516, 7.1); dots and blanks at the ends do not count. `eyJ`
 * begins every base64url that holds a JSON object.
 */
function mayBeToken(password: string): boolean {
  const parts = password.split('.', MOST_PARTS);
  const inner = password.replace(/^[\s.]+/, '').split('.', MOST_PARTS);
  while (inner.at(-1)?.trim() === '') inner.pop();
  return (
    TOKEN_PARTS.has(parts.length) ||
    TOKEN_PARTS.has(inner.length) ||
    /(?<![A-Za-z0-9_-])eyJ/.test(password)
  );
}

/** RFC 6749, 2.3.1: both parts are form-encoded first, so that an id may hold a colon. */
export function basicAuthorization({
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
