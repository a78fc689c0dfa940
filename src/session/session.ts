/**
 * The life of a connection, from top to bottom: negotiate, understand, decide, connect, copy. Until the copy begins everything is awaited
 * under one signal, which aborts when the login takes too long, when the client goes away, or when its slot is needed.
 */
import type { Socket } from 'node:net';
import type { Authenticator } from '../auth/authenticator.ts';
import type { Identity } from '../auth/identity.ts';
import { superuserRefusal } from '../auth/superuser-rule.ts';
import { BackendRefusal } from '../backend/backend-errors.ts';
import { connectAs } from '../backend/connect.ts';
import type { Credentials } from '../backend/credentials.ts';
import type { BackendSession } from '../backend/greeting.ts';
import { loginNatively } from '../backend/native-login.ts';
import type { BackendTarget } from '../backend/target.ts';
import { errorText, PgError } from '../errors.ts';
import type { Audit, LoginRecord } from '../observe/audit.ts';
import { FRONTEND, PASSWORD_BODY_LIMIT } from '../protocol/constants.ts';
import { authenticationCleartextPassword, errorResponse, parsePassword } from '../protocol/messages.ts';
import { backendParameters, type LoginParameters, readParameters } from '../protocol/parameters.ts';
import type { StartupParameter } from '../protocol/startup.ts';
import type { SettingsSnapshot } from '../settings/snapshot.ts';
import type { MessageChannel } from '../transport/message-channel.ts';
import type { Cancels } from './cancels.ts';
import { asksForConsole, type ConsoleDoor, type ConsoleVisit, endProof, proofParameters } from './console-door.ts';
import { sayFarewell } from './farewell.ts';
import type { LoginSlot, LoginSlots } from './login-slots.ts';
import { agreeOnVersion, type ClientTls, type Door, negotiate, openDoor } from './negotiate.ts';
import type { SessionLimit } from './session-limit.ts';
import type { SessionRegistry } from './session-registry.ts';
import { splice, type Traffic } from './splice.ts';

/** What every session of a process shares. */
export interface SessionParts {
  readonly settings: { readonly current: SettingsSnapshot };
  readonly authenticator: Authenticator;
  readonly target: BackendTarget;
  readonly credentials: Credentials;
  readonly superusers: 'refuse' | 'allow';
  readonly nativeLogins: 'allow' | 'deny';
  /** Accept to ReadyForQuery, in milliseconds. */
  readonly loginTimeout: number;
  readonly slots: LoginSlots;
  readonly sessions: SessionLimit;
  readonly registry: SessionRegistry;
  readonly console: ConsoleDoor;
  readonly cancels: Cancels;
  readonly audit: Audit;
}

/** A connection whose login is unfinished. */
interface Attempt {
  readonly door: Door;
  readonly record: LoginRecord;
  readonly slot: LoginSlot;
  readonly signal: AbortSignal;
}

/** A login that has succeeded: the client, what it is to be connected with, and the place that the session takes up. */
interface Admission {
  readonly client: MessageChannel;
  readonly peer: BackendSession | ConsoleVisit;
  readonly leave: () => void;
}

/** The client, or its slot, is gone: there is nobody to tell and nothing to complain of. */
class Abandoned extends Error {}

/** Serves one connection until it is over. Never rejects for what a client or a backend does. */
export async function runSession(socket: Socket, tls: ClientTls, session: number, parts: SessionParts): Promise<void> {
  const record: LoginRecord = { session, client: `${socket.remoteAddress}:${socket.remotePort}` };
  const admission = await attemptLogin(socket, tls, record, parts);
  if (!admission) return;
  try {
    const { client, peer } = admission;
    await (typeof peer === 'function' ? runConsole(client, peer, record, parts) : runSplice(client, peer, record, parts));
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
    abort.abort(new Abandoned('dropped for a newer login'));
    socket.destroy();
  });
  if (!slot) return undefined;
  const timer = setTimeout(() => abort.abort(overdue(parts.loginTimeout)), parts.loginTimeout);
  socket.once('close', gone);
  const attempt: Attempt = { door: openDoor(socket), record, slot, signal: abort.signal };
  try {
    const admission = await logIn(attempt, tls, parts);
    if (admission) parts.audit.accepted(record, elapsed(started));
    return admission;
  } catch (error) {
    await refuse(attempt.door, record, error, elapsed(started), parts.audit);
    return undefined;
  } finally {
    clearTimeout(timer);
    socket.off('close', gone);
    slot.release();
  }
}

/** The steps of a login. Undefined: the client left, or it only wanted to cancel something. */
async function logIn(attempt: Attempt, tls: ClientTls, parts: SessionParts): Promise<Admission | undefined> {
  const { door, record, signal } = attempt;
  const arrival = await negotiate(door, tls, signal);
  if (!arrival) return undefined;
  const { channel, packet } = arrival;
  if (packet.kind === 'cancel') {
    await parts.cancels.forward(packet.packet, record.client, signal);
    return undefined;
  }
  const login = readParameters(packet.parameters);
  describe(record, arrival.transport, login);
  await agreeOnVersion(channel, packet.version, login.protocolOptions, signal);
  return login.tokenLogin ? logInWithToken(attempt, channel, login, parts) : logInNatively(attempt, channel, login, parts);
}

/** A login with a token: the front-end decides who it is, and logs in at the backend as that user. */
async function logInWithToken(
  { record, slot, signal }: Attempt,
  channel: MessageChannel,
  login: LoginParameters,
  parts: SessionParts,
): Promise<Admission | undefined> {
  await channel.write(authenticationCleartextPassword(), signal);
  const token = await readPassword(channel, signal);
  if (token === undefined) return undefined;
  slot.keep();
  if (token === '') throw emptyPassword(record.user ?? '');

  const { values } = parts.settings.current;
  const request = { token, user: login.user?.toString(), namesRole: login.namesRole };
  const identity = await parts.authenticator.authenticate(request, values, signal);
  identify(record, identity);

  const parameters = parametersFor(login, Buffer.from(identity.user), parts);
  return admit(channel, login, parts, record, signal, async () => {
    const { target, credentials } = parts;
    const backend = await connectAs({ target, credentials, parameters, signal });
    const refused = parts.superusers === 'refuse' ? superuserRefusal(identity.user, backend.isSuperuser, values) : undefined;
    if (!refused) return backend;
    backend.channel.destroy();
    throw refused;
  });
}

/** A login without a token: the backend's business, as long as it asks the client to prove something. */
async function logInNatively(
  { record, slot, signal }: Attempt,
  channel: MessageChannel,
  login: LoginParameters,
  parts: SessionParts,
): Promise<Admission | undefined> {
  if (parts.nativeLogins === 'deny') throw nativeLoginsDenied();
  if (!login.user?.length) throw noUser();
  const { target } = parts;
  const parameters = parametersFor(login, login.user, parts);
  const clientTls = record.transport !== 'plain';
  return admit(channel, login, parts, record, signal, () =>
    loginNatively({ target, parameters, client: channel, clientTls, answered: () => slot.keep(), signal }),
  );
}

/** What the backend is told: all that the client asked for, or, on the way to the console, who it is. */
function parametersFor(login: LoginParameters, user: Buffer, { target }: SessionParts): readonly StartupParameter[] {
  return asksForConsole(login) ? proofParameters(target, user) : backendParameters(login, user);
}

/** Takes a place among the running sessions for as long as there is one. */
async function admit(
  client: MessageChannel,
  login: LoginParameters,
  { sessions, console }: SessionParts,
  record: LoginRecord,
  signal: AbortSignal,
  connect: () => Promise<BackendSession | undefined>,
): Promise<Admission | undefined> {
  const leave = sessions.take();
  let peer: Admission['peer'] | undefined;
  try {
    const backend = await connect();
    if (backend && asksForConsole(login)) {
      await endProof(backend, signal);
      peer = console.admit(record.user ?? '', login.tokenLogin ? 'token' : 'native', record.client);
    } else {
      peer = backend;
      record.backend = backend?.host;
    }
  } finally {
    if (!peer) leave();
  }
  return peer && { client, peer, leave };
}

/** An operator at the console. */
async function runConsole(client: MessageChannel, visit: ConsoleVisit, login: LoginRecord, parts: SessionParts): Promise<void> {
  const started = performance.now();
  const traffic: Traffic = { toBackend: 0, toClient: 0 };
  const forget = parts.registry.add({ login, startedAt: Date.now(), traffic, end: () => client.destroy() });
  try {
    await visit(client, login.session);
  } finally {
    forget();
    const durationMs = elapsed(started);
    parts.audit.ended(login, { durationMs, bytesToBackend: 0, bytesToClient: 0, endedBy: 'console', error: undefined });
  }
}

/** Hands the greeting to the client, what either side sent ahead to the other, and copies until the end. */
async function runSplice(
  client: MessageChannel,
  backend: BackendSession,
  login: LoginRecord,
  { audit, registry }: SessionParts,
): Promise<void> {
  const started = performance.now();
  const fromClient = client.release();
  const fromBackend = backend.channel.release();
  const traffic: Traffic = { toBackend: fromClient.length, toClient: fromBackend.length };
  let cancelled = false;
  const forget = registry.add({
    login,
    startedAt: Date.now(),
    traffic,
    end: () => {
      cancelled = true;
      client.destroy();
      backend.channel.destroy();
    },
  });
  const running = splice(client.socket, backend.channel.socket, traffic);
  client.socket.write(Buffer.concat([backend.greeting, fromBackend]));
  if (fromClient.length > 0) backend.channel.socket.write(fromClient);
  const { endedBy, error } = await running;
  forget();
  audit.ended(login, {
    durationMs: elapsed(started),
    bytesToBackend: traffic.toBackend,
    bytesToClient: traffic.toClient,
    endedBy: cancelled ? 'operator' : endedBy,
    error: error && errorText(error),
  });
}

/** The text of the client's PasswordMessage; undefined when it left instead, which psql does at every prompt. */
async function readPassword(channel: MessageChannel, signal: AbortSignal): Promise<string | undefined> {
  const message = await channel.message(PASSWORD_BODY_LIMIT, signal);
  if (!message || message.type === FRONTEND.terminate) return undefined;
  if (message.type !== FRONTEND.password) {
    throw new PgError({
      code: 'unexpected_message',
      sqlstate: '08P01',
      message: `expected password response, got message type ${message.type}`,
    });
  }
  return parsePassword(message.body).toString();
}

/** Tells the client why and writes the audit event; a client that is gone is neither told nor held against anybody. */
async function refuse(door: Door, record: LoginRecord, error: unknown, durationMs: number, audit: Audit): Promise<void> {
  const { socket } = door.channel;
  const clientIsGone = error instanceof Abandoned || (socket.destroyed && !(error instanceof PgError));
  if (clientIsGone || (record.method === undefined && error instanceof PgError && error.code === 'login_timeout')) {
    audit.abandoned(record, errorText(error));
    return;
  }
  audit.refused(record, error, durationMs);
  await sayFarewell(socket, error instanceof BackendRefusal ? error.raw : errorResponse(asPgError(error)));
}

function describe(record: LoginRecord, transport: string, login: LoginParameters): void {
  const applicationName = login.others.find(({ name }) => name === 'application_name')?.value;
  record.transport = transport;
  record.method = login.tokenLogin ? 'token' : 'native';
  record.user = login.user?.toString();
  record.database = login.database?.toString();
  record.applicationName = applicationName?.toString();
}

function identify(record: LoginRecord, identity: Identity): void {
  record.user = identity.user;
  record.principal = identity.principal;
  record.issuer = identity.issuer;
  record.tokenExpires = new Date(identity.expiresAt).toISOString();
}

function elapsed(since: number): number {
  return Math.round((performance.now() - since) * 10) / 10;
}

/** The server's own answer when authentication_timeout runs out. */
function overdue(limit: number): PgError {
  return new PgError({
    code: 'login_timeout',
    sqlstate: '57014',
    message: 'canceling authentication due to timeout',
    reason: `the login was not finished within ${limit} ms, --login-timeout`,
  });
}

function emptyPassword(user: string): PgError {
  return new PgError({
    code: 'empty_password',
    sqlstate: '28P01',
    message: `password authentication failed for user "${user}"`,
    reason: 'the client sent an empty password where a token was asked for',
  });
}

function nativeLoginsDenied(): PgError {
  return new PgError({
    code: 'native_logins_denied',
    sqlstate: '28000',
    message: 'logins without a token are not allowed here',
    hint: 'Add options=--crdb:jwt_auth_enabled=true and give a token as the password.',
    reason: '--native-logins is deny',
  });
}

function noUser(): PgError {
  return new PgError({
    code: 'missing_user',
    sqlstate: '28000',
    message: 'no PostgreSQL user name specified in startup packet',
  });
}

function asPgError(error: unknown): PgError {
  if (error instanceof PgError) return error;
  return new PgError({ code: 'internal_error', sqlstate: 'XX000', message: 'internal error of the front-end', fault: 'us' });
}
