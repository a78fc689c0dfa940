/**
 * The exchange of SASL OAUTHBEARER (RFC 7628; manual 54.3 and 20.15): offered by a rule `oauth`. A
 * client that has a token sends it at once. One that has none asks where to get it, is told, and
 * comes again. A failure is told twice: as JSON in a challenge, for the client's library, and as
 * the ErrorResponse behind the client's answer to that, for people.
 */
import { CheckFailure, refusal } from '../auth/refusals.ts';
import { PgError } from '../lib/errors.ts';
import { Limiter } from '../lib/limiter.ts';
import { formatText } from '../lib/text.ts';
import type { AuthRule } from '../settings/auth-rules.ts';
import { advertisedScope, bearerSettings } from '../settings/oauthbearer.ts';
import type { LoginSettings, SettingValues } from '../settings/snapshot.ts';
import { type MessageChannel, readAnswer } from '../wire/channel.ts';
import { PASSWORD_BODY_LIMIT } from '../wire/constants.ts';
import { authenticationSasl, authenticationSaslContinue, errorResponse } from '../wire/messages.ts';
import {
  bearerToken,
  checkFailureResponse,
  OAUTHBEARER,
  parseBearerMessage,
  parseInitialResponse,
} from '../wire/oauthbearer.ts';

/**
 * How long, in ms, the answer to a failure is waited for, which programs give at once. libpq 18
 * gives none to discovery: it leaves its connection open, for minutes, until it has a token.
 */
const ANSWER_MS = 1000;

/** Bytes of that answer. It has one. */
const ANSWER_LIMIT = 1024;

/** Failed exchanges that wait for it at once. In a flood the oldest are cut short. */
const answers = new Limiter({ limit: 200 });

/** The exchange has failed: the client is told in two steps. */
export class BearerFailure extends Error {
  override readonly name = 'BearerFailure';
  readonly refusal: PgError;
  /** RFC 7628, 3.2.2. */
  readonly challenge: string;

  constructor(refused: PgError, challenge: string) {
    super(refused.message, { cause: refused });
    this.refusal = refused;
    this.challenge = challenge;
  }
}

/** Whether the client only asked where to get a token, which is nobody's fault. */
export function isDiscovery(error: unknown): error is PgError {
  return error instanceof PgError && error.code === 'oauth_discovery';
}

/** What an exchange is made with. */
export interface BearerExchange<Outcome> {
  readonly channel: MessageChannel;
  readonly rule: AuthRule;
  /** The user as it was sent, for messages. */
  readonly user: string | undefined;
  readonly settings: () => SettingValues;
  /** Is called when the client has sent a token. */
  readonly answered: () => void;
  /** Decides by the settings of OAUTHBEARER. What follows on the decision goes by them too. */
  readonly decide: (token: string, values: SettingValues) => Promise<Outcome>;
  readonly signal: AbortSignal;
}

/**
 * Offers the mechanism and reads the client's token, on which the caller decides.
 *
 * @returns undefined if the client left
 * @throws BearerFailure for a token that is refused and for discovery; PgError for a message that
 *   breaks the protocol, or if the mechanism is turned off; the signal's reason
 */
export async function exchangeBearer<Outcome>(
  exchange: BearerExchange<Outcome>,
): Promise<Outcome | undefined> {
  const { channel, rule, settings, answered, decide, signal } = exchange;
  // Before the client sends its user to an identity provider for nothing.
  checkOffer(bearerSettings(settings()), rule);
  await channel.write(authenticationSasl(OAUTHBEARER), signal);
  const message = await readFirstMessage(channel, signal);
  if (!message) return undefined;
  const auth = parseBearerMessage(message);
  const values = bearerSettings(settings());
  const failure = (error: PgError): BearerFailure =>
    new BearerFailure(error, challengeFor(error, values, rule));
  if (auth === '') throw failure(discovery(exchange.user));
  answered();
  const token = bearerToken(auth);
  if (token === undefined) throw failure(notBearer(values));
  try {
    return await decide(token, values);
  } catch (error) {
    throw error instanceof PgError && error.sqlstate.startsWith('28') ? failure(error) : error;
  }
}

/** Tells the client of a failure as JSON. Returns the ErrorResponse that ends the connection. */
export async function endExchange(
  channel: MessageChannel,
  { refusal: refused, challenge }: BearerFailure,
): Promise<Buffer> {
  const abort = new AbortController();
  const cut = (): void => abort.abort();
  const permit = answers.acquireByEviction('', cut);
  const timer = setTimeout(cut, ANSWER_MS);
  try {
    await channel.write(authenticationSaslContinue(challenge), abort.signal);
    const answer = await readAnswer(channel, ANSWER_LIMIT, abort.signal, 'SASL');
    if (answer) checkFailureResponse(answer);
    return errorResponse(refused);
  } catch (error) {
    return errorResponse(error instanceof PgError ? error : refused);
  } finally {
    clearTimeout(timer);
    permit?.release();
  }
}

/** The client's first message, with the choice of the mechanism or after an empty challenge. */
async function readFirstMessage(
  channel: MessageChannel,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const body = await readAnswer(channel, PASSWORD_BODY_LIMIT, signal, 'SASL');
  if (!body) return undefined;
  const response = parseInitialResponse(body);
  if (response) return response;
  await channel.write(authenticationSaslContinue(''), signal);
  return readAnswer(channel, PASSWORD_BODY_LIMIT, signal, 'SASL');
}

function checkOffer(values: LoginSettings, rule: AuthRule): void {
  if (!values['server.jwt_authentication.enabled']) {
    throw refusal(new CheckFailure('enabled', { found: 'false' }), values);
  }
  if (issuerFor(values, rule) !== undefined) return;
  throw new PgError({
    code: 'oauth_not_configured',
    message: 'OAuth is not properly configured for this user',
    reason:
      'there is no issuer: set server.oauthbearer_authentication.issuers or ' +
      'server.jwt_authentication.issuers.configuration',
    fault: 'us',
  });
}

/** The issuer that clients are sent to. */
function issuerFor(values: LoginSettings, { policy }: AuthRule): string | undefined {
  return (policy.issuers ?? values['server.jwt_authentication.issuers.configuration'].issuers)[0];
}

/**
 * RFC 7628, 3.2.2. The address is the issuer and what follows it, as PostgreSQL has it: libpq takes
 * the issuer out of it again, and compares byte for byte.
 */
function challengeFor({ code }: PgError, values: LoginSettings, rule: AuthRule): string {
  return JSON.stringify({
    status: code === 'insufficient_scope' ? 'insufficient_scope' : 'invalid_token',
    'openid-configuration': `${issuerFor(values, rule)}/.well-known/openid-configuration`,
    scope: advertisedScope(values, rule.policy.scope),
  });
}

/** PostgreSQL's own text. */
function discovery(user = ''): PgError {
  return new PgError({
    code: 'oauth_discovery',
    message: `OAuth bearer authentication failed for user "${formatText(user)}"`,
    reason: 'the client asked where to get a token',
  });
}

function notBearer(values: LoginSettings): PgError {
  const failure = new CheckFailure('token', {
    found: 'an auth value that is no bearer token (RFC 6750, 2.1)',
    detail: 'token parsing failed: not a bearer token',
  });
  return refusal(failure, values);
}
