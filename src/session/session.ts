/**
 * The life of a connection: a login under one signal, which aborts when it takes too long, when the client goes away, or when its slot is
 * needed; then what it was admitted to. The steps of the login itself are in login.ts.
 */
import type { Socket } from 'node:net';
import { BackendRefusal } from '../backend/backend-errors.ts';
import { errorText, PgError } from '../errors.ts';
import type { LoginRecord } from '../observe/audit.ts';
import { errorResponse } from '../protocol/messages.ts';
import { sayFarewell } from './farewell.ts';
import { logIn } from './login.ts';
import { overdue } from './login-errors.ts';
import { type ClientTls, openDoor } from './negotiate.ts';
import { runAdmitted } from './running.ts';
import { type Admission, type Attempt, elapsed, type SessionParts } from './session-parts.ts';

/** The client, or its slot, is gone: there is nobody to tell and nothing to complain of. */
class Abandoned extends Error {}

/** Serves one connection until it is over. Never rejects for what a client or a backend does. */
export async function runSession(socket: Socket, tls: ClientTls, session: number, parts: SessionParts): Promise<void> {
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
  parts: SessionParts,
): Promise<Admission | undefined> {
  const started = performance.now();
  const abort = new AbortController();
  const gone = (): void => abort.abort(new Abandoned('the client closed the connection'));
  const slot = parts.slots.enter(() => {
    abort.abort(new Abandoned('dropped for a newer login, or because the front-end is shutting down'));
    socket.destroy();
  });
  if (!slot) return undefined;
  const timer = setTimeout(() => abort.abort(overdue(parts.loginTimeout)), parts.loginTimeout);
  socket.once('close', gone);
  const attempt: Attempt = { door: openDoor(socket), record, slot, signal: abort.signal };
  try {
    const admission = await logIn(attempt, tls, parts);
    if (admission) accept(record, elapsed(started), parts);
    else if (record.method !== undefined) parts.audit.abandoned(record, 'the client left at the password prompt');
    return admission;
  } catch (error) {
    // Before the farewell, which may take a moment: a flood of refusals must not keep others from logging in.
    slot.release();
    await refuse(attempt, error, elapsed(started), parts);
    return undefined;
  } finally {
    clearTimeout(timer);
    socket.off('close', gone);
    slot.release();
  }
}

function accept(record: LoginRecord, durationMs: number, { audit, directory }: SessionParts): void {
  audit.accepted(record, durationMs);
  if (record.method === 'token' && record.user !== undefined) directory?.noteLogin(record.user, Date.now());
}

/** Tells the client why and writes the audit event; a client that is gone is neither told nor held against anybody. */
async function refuse({ door, record }: Attempt, error: unknown, durationMs: number, { audit }: SessionParts): Promise<void> {
  const { socket } = door.channel;
  const clientIsGone = error instanceof Abandoned || (socket.destroyed && !(error instanceof PgError));
  if (clientIsGone || (record.method === undefined && error instanceof PgError && error.code === 'login_timeout')) {
    audit.abandoned(record, errorText(error));
    return;
  }
  audit.refused(record, error, durationMs);
  await sayFarewell(socket, error instanceof BackendRefusal ? error.raw : errorResponse(asPgError(error)));
}

function asPgError(error: unknown): PgError {
  if (error instanceof PgError) return error;
  return new PgError({ code: 'internal_error', sqlstate: 'XX000', message: 'internal error of the front-end', fault: 'us' });
}
