/**
 * The life of a client's connection. First comes a login under one signal, which aborts when it
 * takes too long, when the client goes away, or when it is evicted; login.ts has its steps. Then
 * comes what the login was admitted to: a session at the backend, or the console.
 */
import type { Socket } from 'node:net';
import { BackendRefusal } from '../backend/errors.ts';
import { errorText, PgError } from '../lib/errors.ts';
import { addressKey } from '../lib/network.ts';
import type { LoginRecord } from '../observe/audit.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { errorResponse } from '../wire/messages.ts';
import type { ServeConsole } from './console-access.ts';
import type { Admission, LoginAttempt, SessionServices } from './context.ts';
import { closeWithError } from './lingering-close.ts';
import { logIn } from './login.ts';
import { LoginPlace } from './login-place.ts';
import { type ClientTls, openConnection } from './negotiate.ts';
import { BearerFailure, endExchange, isDiscovery } from './oauthbearer.ts';
import { runSession } from './session.ts';
import type { Traffic } from './splice.ts';
import { throttleSettings } from './throttle.ts';

/**
 * How long a client may take to its startup packet once it is to be turned away, in ms. It is told
 * behind that packet: a client that has asked for TLS takes an error in its place for a fault of
 * the connection.
 */
const STARTUP_MS = 1000;

/** The client is gone, or the login was evicted: there is nobody to tell. */
class Abandoned extends Error {}

/** Serves one connection until it is over. Never rejects for what a client or a backend does. */
export async function serveConnection(
  socket: Socket,
  tls: ClientTls,
  session: number,
  services: SessionServices,
): Promise<void> {
  const client = `${socket.remoteAddress}:${socket.remotePort}`;
  const record: LoginRecord = { session, client };
  const admission = await attemptLogin(socket, tls, record, services);
  if (!admission) return;
  const { client: channel, peer, permit } = admission;
  // Returned and not awaited: what the login needed is not kept as long as its session.
  return typeof peer === 'function'
    ? runConsole(channel, peer, record, services).finally(() => permit.release())
    : runSession(channel, peer, { login: record, permit, services });
}

/** From accept to ReadyForQuery. A refusal is written and logged here. */
async function attemptLogin(
  socket: Socket,
  tls: ClientTls,
  record: LoginRecord,
  services: SessionServices,
): Promise<Admission | undefined> {
  const { audit, limits, loginTimeout } = services;
  const started = performance.now();
  const abort = new AbortController();
  const gone = (): void => abort.abort(new Abandoned('the client closed the connection'));
  const evict = (reason?: PgError): void => {
    if (!reason) {
      abort.abort(new Abandoned('dropped for a newer login'));
      socket.destroy();
    } else if (record.method === undefined) {
      setTimeout(() => abort.abort(reason), STARTUP_MS).unref();
    } else {
      abort.abort(reason);
    }
  };
  const address = addressKey(socket.remoteAddress);
  const place = new LoginPlace({
    enter: () => limits.enterLogin(address, evict),
    timeout: loginTimeout,
    timedOut: () => abort.abort(timedOut(loginTimeout)),
  });
  if (!place.enter()) return undefined;
  socket.once('close', gone);
  const connection = openConnection(socket);
  const { signal } = abort;
  const attempt: LoginAttempt = { connection, record, address, place, evict, signal };
  try {
    const admission = await logIn(attempt, tls, services);
    if (admission) noteAccepted(record, timeOf(record, started), services);
    else if (record.method) audit.abandoned(record, whyLeft(record));
    return admission;
  } catch (error) {
    // The place is free before the error is sent, which may take a moment: a flood of refusals
    // must not keep others from logging in.
    place.leave();
    await refuse(attempt, error, timeOf(record, started), services);
    return undefined;
  } finally {
    socket.off('close', gone);
    place.leave();
  }
}

function whyLeft({ mechanism }: LoginRecord): string {
  return mechanism === 'device'
    ? 'the client left before anybody had signed in'
    : 'the client left at the password prompt';
}

/** What a login took, in milliseconds, without the time that a person took to sign in. */
function timeOf({ waitedMs = 0 }: LoginRecord, started: number): number {
  return Math.max(0, Math.round((elapsed(started) - waitedMs) * 10) / 10);
}

/** The server's own answer when authentication_timeout runs out. */
function timedOut(limit: number): PgError {
  return new PgError({
    code: 'login_timeout',
    message: 'canceling authentication due to timeout',
    reason: `the login was not finished within ${limit} ms, --login-timeout`,
  });
}

function noteAccepted(record: LoginRecord, durationMs: number, services: SessionServices): void {
  const { audit, noteLogin } = services;
  audit.accepted(record, durationMs);
  if (record.method === 'token' && record.user !== undefined) noteLogin(record.user, Date.now());
}

/** Tells the client why, and writes the audit event. A client that is gone is not told. */
async function refuse(
  { connection, record, address }: LoginAttempt,
  thrown: unknown,
  durationMs: number,
  services: SessionServices,
): Promise<void> {
  const { audit, metrics } = services;
  const { socket } = connection.channel;
  const error = thrown instanceof BearerFailure ? thrown.refusal : thrown;
  const isGone = error instanceof Abandoned || (socket.destroyed && !(error instanceof PgError));
  const isSilent = record.method === undefined && isTimeout(error);
  if (isGone || isSilent) {
    audit.abandoned(record, errorText(error));
    return;
  }
  const delay = throttledBy(error) ? delayOf(record, socket, services) : 0;
  if (delay > 0) {
    record.delayedMs = delay;
    metrics.refusalDelayed();
  }
  if (isDiscovery(error)) audit.abandoned(record, error.reason ?? error.message);
  else audit.refused(record, error, durationMs);
  if (delay > 0) await waitBeforeRefusal(connection.channel, delay, address, services);
  await closeWithError(socket, await lastMessage(thrown, connection.channel));
}

/** The message that ends the connection. A failure of OAUTHBEARER is told in two steps. */
async function lastMessage(error: unknown, channel: MessageChannel): Promise<Buffer> {
  if (error instanceof BearerFailure) return endExchange(channel, error);
  return error instanceof BackendRefusal ? error.raw : errorResponse(asPgError(error));
}

/** Whether a refusal counts for the throttle: a client's mistake, or a password that was wrong. */
function throttledBy(error: unknown): boolean {
  if (error instanceof BackendRefusal) return error.sqlstate.startsWith('28');
  if (isDiscovery(error)) return false;
  return error instanceof PgError && error.fault === 'client';
}

/** How long this refusal is held back, in milliseconds. */
function delayOf(
  { user }: LoginRecord,
  { remoteAddress }: Socket,
  { throttle, settings }: SessionServices,
): number {
  return throttle.delay(remoteAddress, user, throttleSettings(settings.current.values));
}

/** Holds a refusal back. What the client has sent, a token say, is not held with it. */
async function waitBeforeRefusal(
  channel: MessageChannel,
  delay: number,
  address: string,
  { throttle }: SessionServices,
): Promise<void> {
  const { socket } = channel;
  socket.on('error', () => undefined);
  channel.release();
  await throttle.wait(delay, socket, address);
}

function isTimeout(error: unknown): boolean {
  return error instanceof PgError && error.code === 'login_timeout';
}

function asPgError(error: unknown): PgError {
  if (error instanceof PgError) return error;
  return new PgError({
    code: 'internal_error',
    message: 'internal error of the front-end',
    fault: 'us',
  });
}

/** Serves an operator at the console. */
async function runConsole(
  client: MessageChannel,
  serve: ServeConsole,
  login: LoginRecord,
  { audit, registry }: SessionServices,
): Promise<void> {
  const started = performance.now();
  const traffic: Traffic = { toBackend: 0, toClient: 0 };
  const end = async (): Promise<void> => client.destroy();
  const session = { login, startedAt: Date.now(), traffic, end };
  registry.add(session);
  try {
    await serve(client, login.session, login.mechanism === 'device');
  } finally {
    registry.remove(session);
    audit.ended(login, {
      durationMs: elapsed(started),
      bytesToBackend: 0,
      bytesToClient: 0,
      endedBy: 'console',
      error: undefined,
    });
  }
}

/** Milliseconds since then, to a tenth. */
function elapsed(since: number): number {
  return Math.round((performance.now() - since) * 10) / 10;
}
