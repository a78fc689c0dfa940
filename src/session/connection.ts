/**
 * The life of a connection: a login under one signal, which aborts when it takes too long, when the
 * client goes away, or when its slot is needed; then what it was admitted to. The steps of the
 * login itself are in login.ts.
 */

import type { Socket } from 'node:net';
import { BackendRefusal } from '../backend/errors.ts';
import type { BackendSession } from '../backend/leg.ts';
import { errorText, PgError } from '../lib/errors.ts';
import type { LoginRecord } from '../observe/audit.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { errorResponse } from '../wire/messages.ts';
import type { ServeConsole } from './console-access.ts';
import { type Admission, type Attempt, elapsed, type SessionServices } from './context.ts';
import { closeWithError } from './lingering-close.ts';
import { logIn, overdue } from './login.ts';
import { type ClientTls, openDoor } from './negotiate.ts';
import { splice, type Traffic } from './splice.ts';

/** The client, or its slot, is gone: there is nobody to tell and nothing to complain of. */
class Abandoned extends Error {}

/** Serves one connection until it is over. Never rejects for what a client or a backend does. */
export async function runSession(
  socket: Socket,
  tls: ClientTls,
  session: number,
  parts: SessionServices,
): Promise<void> {
  const record: LoginRecord = { session, client: `${socket.remoteAddress}:${socket.remotePort}` };
  const admission = await attemptLogin(socket, tls, record, parts);
  if (!admission) return;
  try {
    await runAdmitted(admission, record, parts);
  } finally {
    admission.leave();
  }
}

/** From accept to ReadyForQuery; a refusal is written and logged here. */
async function attemptLogin(
  socket: Socket,
  tls: ClientTls,
  record: LoginRecord,
  parts: SessionServices,
): Promise<Admission | undefined> {
  const started = performance.now();
  const abort = new AbortController();
  const gone = (): void => abort.abort(new Abandoned('the client closed the connection'));
  const slot = parts.slots.enter(() => {
    abort.abort(
      new Abandoned('dropped for a newer login, or because the front-end is shutting down'),
    );
    socket.destroy();
  });
  if (!slot) return undefined;
  const timer = setTimeout(() => abort.abort(overdue(parts.loginTimeout)), parts.loginTimeout);
  socket.once('close', gone);
  const attempt: Attempt = { door: openDoor(socket), record, slot, signal: abort.signal };
  try {
    const admission = await logIn(attempt, tls, parts);
    if (admission) accept(record, elapsed(started), parts);
    else if (record.method !== undefined)
      parts.audit.abandoned(record, 'the client left at the password prompt');
    return admission;
  } catch (error) {
    // Before the farewell, which may take a moment: a flood of refusals must not keep others from
    // logging in.
    slot.release();
    await refuse(attempt, error, elapsed(started), parts);
    return undefined;
  } finally {
    clearTimeout(timer);
    socket.off('close', gone);
    slot.release();
  }
}

function accept(
  record: LoginRecord,
  durationMs: number,
  { audit, directory }: SessionServices,
): void {
  audit.accepted(record, durationMs);
  if (record.method === 'token' && record.user !== undefined)
    directory?.noteLogin(record.user, Date.now());
}

/**
 * Tells the client why and writes the audit event; a client that is gone is neither told nor held
 * against anybody.
 */
async function refuse(
  { door, record }: Attempt,
  error: unknown,
  durationMs: number,
  { audit }: SessionServices,
): Promise<void> {
  const { socket } = door.channel;
  const clientIsGone =
    error instanceof Abandoned || (socket.destroyed && !(error instanceof PgError));
  if (
    clientIsGone ||
    (record.method === undefined && error instanceof PgError && error.code === 'login_timeout')
  ) {
    audit.abandoned(record, errorText(error));
    return;
  }
  audit.refused(record, error, durationMs);
  await closeWithError(
    socket,
    error instanceof BackendRefusal ? error.raw : errorResponse(asPgError(error)),
  );
}

function asPgError(error: unknown): PgError {
  if (error instanceof PgError) return error;
  return new PgError({
    code: 'internal_error',
    message: 'internal error of the front-end',
    fault: 'us',
  });
}

/*
 * What a login was admitted to: a session at the backend, or the console. Each is listed while it
 * runs, and logged when it ends.
 */

/** Runs until either side has had enough. */
async function runAdmitted(
  { client, peer }: Admission,
  record: LoginRecord,
  parts: SessionServices,
): Promise<void> {
  await (typeof peer === 'function'
    ? runConsole(client, peer, record, parts)
    : runSplice(client, peer, record, parts));
}

/** An operator at the console. */
async function runConsole(
  client: MessageChannel,
  visit: ServeConsole,
  login: LoginRecord,
  parts: SessionServices,
): Promise<void> {
  const started = performance.now();
  const traffic: Traffic = { toBackend: 0, toClient: 0 };
  const forget = parts.registry.add({
    login,
    startedAt: Date.now(),
    traffic,
    end: () => client.destroy(),
  });
  try {
    await visit(client, login.session);
  } finally {
    forget();
    const durationMs = elapsed(started);
    parts.audit.ended(login, {
      durationMs,
      bytesToBackend: 0,
      bytesToClient: 0,
      endedBy: 'console',
      error: undefined,
    });
  }
}

/**
 * Hands the greeting to the client, what either side sent ahead to the other, and copies until the
 * end.
 */
async function runSplice(
  client: MessageChannel,
  backend: BackendSession,
  login: LoginRecord,
  { audit, registry, metrics }: SessionServices,
): Promise<void> {
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
    end: (by) => {
      endedByUs = by;
      client.destroy();
      backend.channel.destroy();
    },
  });
  const running = splice(client.socket, backend.channel.socket, traffic);
  client.socket.write(Buffer.concat([backend.greeting, fromBackend]));
  if (fromClient.length > 0) backend.channel.socket.write(fromClient);
  const { endedBy, error } = await running;
  forget();
  counted();
  audit.ended(login, {
    durationMs: elapsed(started),
    bytesToBackend: traffic.toBackend,
    bytesToClient: traffic.toClient,
    endedBy: endedByUs ?? endedBy,
    error: error && errorText(error),
  });
}
