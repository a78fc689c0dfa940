/**
 * Sign-in from a plain psql: a client that has no token is told where somebody can sign in, by the
 * device authorization grant (RFC 8628), and its login goes on with the token of that. libpq shows
 * notices only after AuthenticationOk, so that comes first. It says nothing about the outcome: a
 * refusal is a FATAL as before it, and nothing is admitted until the token has passed its checks.
 */
import { CheckFailure, refusal } from '../auth/refusals.ts';
import { type Fault, PgError } from '../lib/errors.ts';
import { formatText } from '../lib/text.ts';
import { SignInFailure } from '../oauth/device-authorization.ts';
import type { SettingValues } from '../settings/snapshot.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { FRONTEND } from '../wire/constants.ts';
import { authenticationOk, noticeResponse } from '../wire/messages.ts';
import type { LoginAttempt, SessionServices } from './context.ts';

const MINUTE = 60_000;

/** Bytes that a client may send while it waits. No driver sends any. */
const AHEAD_LIMIT = 16_384;

/** How the waiting of a login ended, for the metrics. */
type Outcome = 'completed' | 'declined' | 'expired' | 'failed' | 'abandoned' | 'ended';

/**
 * Tells the client where to sign in, and waits until somebody has. Meanwhile the login has neither
 * its place nor its time.
 *
 * @returns the token; undefined if the client left
 * @throws PgError 28000 if nobody signs in, 53300 if too many wait; the signal's reason
 */
export async function awaitSignIn(
  attempt: LoginAttempt,
  channel: MessageChannel,
  user: string,
  services: SessionServices,
): Promise<string | undefined> {
  const { values } = services.settings.current;
  const { address, place, record, signal } = attempt;
  checkConfigured(values);
  checkPace(attempt, values, services);
  const ended = new AbortController();
  const end = (reason: PgError): void => ended.abort(reason);
  const limit = values['pgsso.device_login.limit'];
  const wait = services.limits.enterDeviceWait({ user, address, end }, limit);
  place.leave();
  const since = performance.now();
  let outcome: Outcome = 'ended';
  try {
    const token = await signIn(attempt, channel, user, values, services, ended.signal);
    outcome = token === undefined ? 'abandoned' : 'completed';
    if (token !== undefined && !place.enter()) throw noPlace();
    return token;
  } catch (error) {
    if (error instanceof SignInFailure) outcome = error.outcome;
    else if (signal.aborted) outcome = 'abandoned';
    throw error instanceof SignInFailure ? notSignedIn(error) : error;
  } finally {
    wait.release();
    record.waitedMs = Math.round(performance.now() - since);
    services.metrics.deviceLogin(outcome);
  }
}

async function signIn(
  { record, signal }: LoginAttempt,
  channel: MessageChannel,
  user: string,
  values: SettingValues,
  { deviceAuthorization }: SessionServices,
  ended: AbortSignal,
): Promise<string | undefined> {
  return whileConnected(channel, AbortSignal.any([signal, ended]), async (waiting) => {
    const code = await deviceAuthorization.begin(values, waiting);
    const { userCode, address, completeAddress, lifetime } = code;
    const asUser = user === '' ? '' : ` as ${formatText(user)}`;
    const what =
      completeAddress === undefined
        ? `Open ${address} and enter the code ${userCode}`
        : `Open ${completeAddress} and confirm the code ${userCode}`;
    const notice = noticeResponse('NOTICE', `${what} to log in${asUser}`, {
      detail: `The login is from ${record.client} and waits for ${minutes(lifetime)}.`,
      hint: 'Never open such a link that somebody else sent to you: it lets them in as you.',
    });
    await channel.write(Buffer.concat([authenticationOk(), notice]), waiting);
    return code.confirmed(waiting);
  });
}

/** Works as long as the client is there. Returns undefined if it leaves before. */
async function whileConnected<T>(
  channel: MessageChannel,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T | undefined> {
  const over = new AbortController();
  const until = AbortSignal.any([signal, over.signal]);
  const working = work(until);
  try {
    return await Promise.race([working, clientLeft(channel, until)]);
  } finally {
    over.abort();
  }
}

/**
 * Resolves when the client leaves. What else it sends belongs to its session, and is read when that
 * begins. Until then it is kept: behind bytes that nobody reads, the end would not be noticed.
 *
 * @throws PgError 08P01 for too much of it; the signal's reason
 */
async function clientLeft(channel: MessageChannel, signal: AbortSignal): Promise<undefined> {
  const type = await channel.peek(signal);
  if (type === undefined || type === FRONTEND.terminate) return;
  if (!(await channel.sendsAhead(AHEAD_LIMIT, signal))) return;
  throw new PgError({
    code: 'unexpected_message',
    message: 'too much was sent before the login is over',
    reason: `the client sent more than ${AHEAD_LIMIT} bytes while it waited for a sign-in`,
  });
}

/** Before somebody signs in for nothing. */
function checkConfigured(values: SettingValues): void {
  if (values['pgsso.device_login.issuer'] === '') {
    throw new PgError({
      code: 'device_login_not_configured',
      message: 'device login is not configured',
      hint: 'Set pgsso.device_login.issuer and pgsso.device_login.client_id.',
      reason: 'pgsso.device_login.issuer is empty',
    });
  }
  if (!values['server.jwt_authentication.enabled']) {
    throw refusal(new CheckFailure('enabled', { found: 'false' }), values);
  }
}

/** Each asks the issuer for a code, and nobody has to log in for that. */
function checkPace(
  { connection }: LoginAttempt,
  values: SettingValues,
  { throttle }: SessionServices,
): void {
  const { remoteAddress } = connection.channel.socket;
  if (throttle.admitsSignIn(remoteAddress, values['pgsso.throttle.exempt'])) return;
  throw new PgError({
    code: 'too_many_device_logins',
    message: 'too many sign-ins from this address',
    hint: 'Try again in a minute.',
    reason: 'more than 10 sign-ins a minute of one address; pgsso.throttle.exempt',
  });
}

const messages: Readonly<Record<SignInFailure['outcome'], string>> = {
  declined: 'sign-in was declined',
  expired: 'sign-in was not completed in time',
  failed: 'sign-in failed',
};

const codes = {
  declined: 'device_login_declined',
  expired: 'device_login_expired',
  failed: 'device_login_failed',
} as const satisfies Record<SignInFailure['outcome'], string>;

function notSignedIn({ outcome, message, cause }: SignInFailure): PgError {
  const fault: Fault = outcome === 'failed' ? 'identity provider' : 'client';
  return new PgError({
    code: codes[outcome],
    message: `JWT authentication: ${messages[outcome]}`,
    reason: `${message}; pgsso.device_login.issuer`,
    fault,
    cause,
  });
}

function noPlace(): PgError {
  return new PgError({
    code: 'too_many_logins',
    message: 'sorry, too many clients already',
    reason: 'somebody signed in, and there was no place to go on with the login: --max-logins',
    fault: 'us',
  });
}

function minutes(ms: number): string {
  const count = Math.max(1, Math.floor(ms / MINUTE));
  return ms < MINUTE ? `${Math.ceil(ms / 1000)} seconds` : `${count} minute${count > 1 ? 's' : ''}`;
}
