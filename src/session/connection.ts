/**
 * The life of a client's connection. First comes a login under one signal, which aborts when it
 * takes too long, when the client goes away, or when it is evicted; login.ts has its steps. Then
 * comes what the login was admitted to: a session at the backend, or the console.
 */
import type { Socket } from 'node:net';
import { cancelQuery } from '../backend/cancel.ts';
import type { BackendSession } from '../backend/connection.ts';
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
import { splice, type Traffic } from './splice.ts';
import { throttleSettings } from './throttle.ts';

/** How long, in ms, the cancel request of a session that is ended may take. */
const CANCEL_FIRST_MS = 1000;

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
  try {
    const { client, peer } = admission;
    if (typeof peer === 'function') await runConsole(client, peer, record, services);
    else await runSession(client, peer, record, services);
  } finally {
    admission.permit.release();
  }
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
  const forget = registry.add({ login, startedAt: Date.now(), traffic, end });
  try {
    await serve(client, login.session, login.mechanism === 'device');
  } finally {
    forget();
    audit.ended(login, {
      durationMs: elapsed(started),
      bytesToBackend: 0,
      bytesToClient: 0,
      endedBy: 'console',
      error: undefined,
    });
  }
}

/**
 * Hands the greeting to the client, and to each side what the other sent ahead. Then copies until
 * the end.
 */
async function runSession(
  client: MessageChannel,
  backend: BackendSession,
  login: LoginRecord,
  services: SessionServices,
): Promise<void> {
  const { audit, registry, cancelKeys, metrics, tcpUserTimeout, copy } = services;
  const started = performance.now();
  const fromClient = client.release();
  const fromBackend = backend.channel.release();
  const traffic: Traffic = { toBackend: fromClient.length, toClient: fromBackend.length };
  const counted = metrics.sessionBegins(traffic);
  let endedByUs: 'operator' | 'drain' | undefined;
  const forget = registry.add({
    login,
    startedAt: Date.now(),
    traffic,
    end: async (by) => {
      endedByUs ??= by;
      await cancelFirst(backend, services);
      client.destroy();
      backend.channel.destroy();
    },
  });
  const forgetKey = cancelKeys.add(backend);
  const { endedBy, error } = await splice(client.socket, backend.channel.socket, traffic, {
    copy: copy.start,
    peerTimeout: tcpUserTimeout,
    ahead: { toClient: Buffer.concat([backend.greeting, fromBackend]), toBackend: fromClient },
  });
  forget();
  forgetKey();
  counted();
  audit.ended(login, {
    durationMs: elapsed(started),
    bytesToBackend: traffic.toBackend,
    bytesToClient: traffic.toClient,
    endedBy: endedByUs ?? endedBy,
    error: error && errorText(error),
  });
}

/**
 * Cancels what a session runs before its connections are closed. Otherwise the backend notices the
 * end only when the query is done, and commits what it did.
 */
async function cancelFirst(backend: BackendSession, { limits }: SessionServices): Promise<void> {
  const signal = AbortSignal.timeout(CANCEL_FIRST_MS);
  try {
    const permit = await limits.enterOwnCancel(signal);
    await cancelQuery(backend, signal).finally(() => permit.release());
  } catch {
    // The time is up: the connections are closed all the same.
  }
}

/** Milliseconds since then, to a tenth. */
function elapsed(since: number): number {
  return Math.round((performance.now() - since) * 10) / 10;
}
