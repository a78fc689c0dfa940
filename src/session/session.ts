/**
 * The life of a connection, from top to bottom: negotiate, understand, decide, connect, copy. Until the copy begins everything is awaited
 * under one signal, which aborts when the login takes too long, when the client goes away, or when its slot is needed.
 */
import type { Socket } from 'node:net';
import type { Authenticator } from '../auth/authenticator.ts';
import type { Identity } from '../auth/identity.ts';
import { superuserRefusal } from '../auth/superuser-rule.ts';
import { BackendRefusal } from '../backend/backend-errors.ts';
import type { BackendSession } from '../backend/greeting.ts';
import type { Routes } from '../backend/routes.ts';
import type { Directory } from '../directory/directory.ts';
import { errorText, PgError } from '../errors.ts';
import type { Audit, LoginRecord } from '../observe/audit.ts';
import type { Metrics } from '../observe/metrics.ts';
import { FRONTEND, PASSWORD_BODY_LIMIT, PROTOCOL_3_0 } from '../protocol/constants.ts';
import {
  authenticationCleartextPassword,
  errorResponse,
  negotiateProtocolVersion,
  parsePassword,
} from '../protocol/messages.ts';
import { backendParameters, type LoginParameters, readParameters } from '../protocol/parameters.ts';
import type { SettingsSnapshot } from '../settings/snapshot.ts';
import type { MessageChannel } from '../transport/message-channel.ts';
import type { Cancels } from './cancels.ts';
import { sayFarewell } from './farewell.ts';
import type { LoginSlot, LoginSlots } from './login-slots.ts';
import { type ClientTls, type Door, negotiate, openDoor } from './negotiate.ts';
import { prepareUser } from './prepare-user.ts';
import type { SessionLimit } from './session-limit.ts';
import { splice, type Traffic } from './splice.ts';

/** What every session of a process shares. */
export interface SessionParts {
  readonly settings: { readonly current: SettingsSnapshot };
  readonly authenticator: Authenticator;
  readonly routes: Routes;
  /** Creates users and grants roles; undefined without `--directory`. */
  readonly directory: Directory | undefined;
  readonly superusers: 'refuse' | 'allow';
  readonly nativeLogins: 'allow' | 'deny';
  /** Accept to ReadyForQuery, in milliseconds. */
  readonly loginTimeout: number;
  readonly slots: LoginSlots;
  readonly sessions: SessionLimit;
  readonly cancels: Cancels;
  readonly audit: Audit;
  readonly metrics: Metrics;
}

/** A connection whose login is unfinished. */
interface Attempt {
  readonly door: Door;
  readonly record: LoginRecord;
  readonly slot: LoginSlot;
  readonly signal: AbortSignal;
}

/** A login that has succeeded: both ends, and the place that the session takes up. */
interface Admission {
  readonly client: MessageChannel;
  readonly backend: BackendSession;
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
    await runSplice(admission, record, parts);
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
    if (admission) accept(record, elapsed(started), parts);
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

/** Only 3.0 is spoken here: whoever asks for more, or for a protocol option, is told so before authentication (manual 54.2.1). */
async function agreeOnVersion(
  channel: MessageChannel,
  version: number,
  protocolOptions: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  if (version === PROTOCOL_3_0 && protocolOptions.length === 0) return;
  await channel.write(negotiateProtocolVersion(PROTOCOL_3_0, protocolOptions), signal);
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
  await prepareUser(identity, values, parts.directory, record, signal);

  const parameters = backendParameters(login, Buffer.from(identity.user));
  return admit(channel, parts.sessions, record, async () => {
    const route = parts.routes.find(databaseOf(login, identity.user));
    const backend = await (parts.superusers === 'refuse'
      ? route.loginAsHimself(parameters, signal)
      : route.login(parameters, signal));
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
  const route = parts.routes.find(databaseOf(login, login.user.toString()));
  const parameters = backendParameters(login, login.user);
  const clientTls = record.transport !== 'plain';
  return admit(channel, parts.sessions, record, () =>
    route.loginNatively({ parameters, client: channel, clientTls, answered: () => slot.keep(), signal }),
  );
}

/** The database that the backend will take; without one that is the user's name (manual 54.7, StartupMessage). */
function databaseOf(login: LoginParameters, user: string): string {
  return login.database?.toString() || user;
}

/** Takes a place among the running sessions for as long as there is one. */
async function admit(
  client: MessageChannel,
  sessions: SessionLimit,
  record: LoginRecord,
  connect: () => Promise<BackendSession | undefined>,
): Promise<Admission | undefined> {
  const leave = sessions.take();
  let backend: BackendSession | undefined;
  try {
    backend = await connect();
  } finally {
    if (!backend) leave();
  }
  if (!backend) return undefined;
  record.backend = backend.host;
  return { client, backend, leave };
}

/** Hands the greeting to the client, what either side sent ahead to the other, and copies until the end. */
async function runSplice({ client, backend }: Admission, record: LoginRecord, { audit, metrics }: SessionParts): Promise<void> {
  const started = performance.now();
  const traffic: Traffic = { toBackend: 0, toClient: 0 };
  const ended = metrics.sessionBegins(traffic);
  const fromClient = client.release();
  const fromBackend = backend.channel.release();
  const running = splice(client.socket, backend.channel.socket, traffic);
  client.socket.write(Buffer.concat([backend.greeting, fromBackend]));
  if (fromClient.length > 0) backend.channel.socket.write(fromClient);
  const { endedBy, error } = await running.finally(ended);
  audit.ended(record, {
    durationMs: elapsed(started),
    bytesToBackend: traffic.toBackend + fromClient.length,
    bytesToClient: traffic.toClient + fromBackend.length,
    endedBy,
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

function accept(record: LoginRecord, durationMs: number, { audit, directory }: SessionParts): void {
  audit.accepted(record, durationMs);
  if (record.method === 'token' && record.user !== undefined) directory?.noteLogin(record.user, Date.now());
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
