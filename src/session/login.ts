/**
 * The steps of a login, from top to bottom: negotiate, understand, decide, connect. Nothing here
 * sends an error: what goes wrong is thrown, and session.ts tells the client and the log.
 */
import { emptyGroupsRefusal } from '../auth/groups.ts';
import type { Identity } from '../auth/identity.ts';
import { superuserRefusal } from '../auth/refusals.ts';
import type { BackendSession } from '../backend/leg.ts';
import { PgError } from '../lib/errors.ts';
import { formatText } from '../lib/text.ts';
import type { LoginRecord } from '../observe/audit.ts';
import { type MessageChannel, readAnswer } from '../wire/channel.ts';
import { PASSWORD_BODY_LIMIT } from '../wire/constants.ts';
import { authenticationCleartextPassword, parsePassword } from '../wire/messages.ts';
import { backendParameters, type LoginParameters, readParameters } from '../wire/startup.ts';
import { asksForConsole, endProof, proofParameters } from './console-access.ts';
import type { Admission, Attempt, SessionServices } from './context.ts';
import { agreeOnVersion, type ClientTls, negotiate } from './negotiate.ts';
import { prepareUser } from './prepare-user.ts';

/**
 * Logs in.
 *
 * @returns undefined when the client left, or only wanted to cancel something
 * @throws PgError for what is to be told to the client; the signal's reason
 */
export async function logIn(
  attempt: Attempt,
  tls: ClientTls,
  parts: SessionServices,
): Promise<Admission | undefined> {
  const { door, record, signal } = attempt;
  const arrival = await negotiate(door, tls, signal);
  if (!arrival) return undefined;
  const { channel, packet, transport } = arrival;
  record.transport = transport;
  if (packet.kind === 'cancel') {
    await parts.cancels.forward(packet.packet, record.client, signal);
    return undefined;
  }
  const login = readParameters(packet.parameters);
  describe(record, login);
  await agreeOnVersion(channel, packet.version, login.protocolOptions, signal);
  return login.tokenLogin
    ? logInWithToken(attempt, channel, login, parts)
    : logInNatively(attempt, channel, login, parts);
}

/**
 * A login with a token: the front-end decides who it is, and logs in at the backend as that user.
 */
async function logInWithToken(
  attempt: Attempt,
  channel: MessageChannel,
  login: LoginParameters,
  parts: SessionServices,
): Promise<Admission | undefined> {
  const { record, slot, signal } = attempt;
  await channel.write(authenticationCleartextPassword(), signal);
  const answer = await readAnswer(channel, PASSWORD_BODY_LIMIT, signal);
  if (answer === undefined) return undefined;
  const token = parsePassword(answer).toString();
  slot.keep();
  if (token === '') throw emptyPassword(record.user ?? '');

  const { values } = parts.settings.current;
  const request = { token, user: login.user?.toString(), namesRole: login.namesRole };
  const identity = await parts.authenticator.authenticate(request, values, signal);
  identify(record, identity);
  if (asksForConsole(login)) {
    // An operator's way to the console changes nothing in the database, but whose groups went empty
    // is out there as well.
    const noGroups = emptyGroupsRefusal(identity, values);
    if (noGroups) throw noGroups;
  } else {
    await prepareUser(identity, values, parts.directory, record, signal);
  }

  const { route, parameters } = destination(login, Buffer.from(identity.user), parts);
  return admit(attempt, channel, login, parts, parts.sessions.take(), async () => {
    if (parts.superusers === 'allow') return route.login(parameters, signal);
    const backend = await route.loginAsHimself(parameters, signal);
    const refused = superuserRefusal(identity.user, backend.isSuperuser, values);
    if (!refused) return backend;
    backend.channel.destroy();
    throw refused;
  });
}

/**
 * A login without a token: the backend's business, as long as it asks the client to prove
 * something.
 */
async function logInNatively(
  attempt: Attempt,
  channel: MessageChannel,
  login: LoginParameters,
  parts: SessionServices,
): Promise<Admission | undefined> {
  const { record, slot, signal } = attempt;
  if (parts.nativeLogins === 'deny') throw nativeLoginsDenied();
  if (!login.user?.length) throw noUser();
  const { route, parameters } = destination(login, login.user, parts);
  const clientTls = record.transport !== 'plain';
  const pass = await parts.natives.enter(() => slot.drop(), signal);
  const answered = (): void => {
    slot.keep();
    pass.keep();
  };
  try {
    const backend = await route.loginNatively({
      parameters,
      client: channel,
      clientTls,
      answered,
      signal,
    });
    if (!backend) return undefined;
    // Only now is a place taken: before, anybody could take them all.
    return await admit(
      attempt,
      channel,
      login,
      parts,
      parts.sessions.takeFor(backend.channel),
      async () => backend,
    );
  } finally {
    pass.leave();
  }
}

/**
 * Which backend, and what it is told: all that the client asked for, or, on the way to the console,
 * who it is.
 */
function destination(login: LoginParameters, user: Buffer, { routes }: SessionServices) {
  if (asksForConsole(login)) return proofParameters(routes, user);
  // Without a database the backend takes the user's name (manual 54.7, StartupMessage).
  const route = routes.find(login.database?.toString() || user.toString());
  return { route, parameters: backendParameters(login, user) };
}

/** Connects, and holds the place among the running sessions if that succeeds. */
async function admit(
  { record, signal }: Attempt,
  client: MessageChannel,
  login: LoginParameters,
  { console }: SessionServices,
  leave: () => void,
  connect: () => Promise<BackendSession>,
): Promise<Admission> {
  let peer: Admission['peer'] | undefined;
  try {
    const backend = await connect();
    if (asksForConsole(login)) {
      await endProof(backend, signal);
      peer = console.admit(record.user ?? '', login.tokenLogin ? 'token' : 'native', record.client);
    } else {
      peer = backend;
      record.backend = backend.host;
    }
    return { client, peer, leave };
  } finally {
    if (!peer) leave();
  }
}

/*
 * What the audit trail is told of a login. All of it is a stranger's text until the login has
 * succeeded, so it is cut and made printable.
 */

/** Notes what the startup packet says. */
function describe(record: LoginRecord, login: LoginParameters): void {
  record.method = login.tokenLogin ? 'token' : 'native';
  record.user = shown(login.user);
  record.database = shown(login.database);
  record.applicationName = shown(
    login.others.find(({ name }) => name === 'application_name')?.value,
  );
}

/** Notes who it turned out to be. */
function identify(record: LoginRecord, identity: Identity): void {
  record.user = identity.user;
  record.principal = identity.principal;
  record.issuer = identity.issuer;
  record.apiKey = identity.apiKey;
  record.tokenExpires = new Date(identity.expiresAt).toISOString();
}

function shown(value: Buffer | undefined): string | undefined {
  return value && formatText(value.toString());
}

/* The refusals that are the session's own, and neither the decision's nor the backend's. */

/** The server's own answer when authentication_timeout runs out. */
export function overdue(limit: number): PgError {
  return new PgError({
    code: 'login_timeout',
    message: 'canceling authentication due to timeout',
    reason: `the login was not finished within ${limit} ms, --login-timeout`,
  });
}

/** What a server says of a wrong password: psql asks for another one then. */
function emptyPassword(user: string): PgError {
  return new PgError({
    code: 'empty_password',
    message: `password authentication failed for user "${user}"`,
    reason: 'the client sent an empty password where a token was asked for',
  });
}

function nativeLoginsDenied(): PgError {
  return new PgError({
    code: 'native_logins_denied',
    message: 'logins without a token are not allowed here',
    hint: 'Add options=--crdb:jwt_auth_enabled=true and give a token as the password.',
    reason: '--native-logins is deny',
  });
}

/** As the server has it; a token may do without a user, a native login may not. */
function noUser(): PgError {
  return new PgError({
    code: 'missing_user',
    message: 'no PostgreSQL user name specified in startup packet',
  });
}
