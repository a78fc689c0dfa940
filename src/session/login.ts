/**
 * The steps of a login from top to bottom: negotiate, read the startup packet, decide, connect.
 * Nothing here sends an error. What goes wrong is thrown, and connection.ts tells the client and
 * the log.
 */
import { emptyGroupsRefusal } from '../auth/groups.ts';
import type { Identity, LoginRequest, RuleInForce } from '../auth/identity.ts';
import { superuserRefusal } from '../auth/refusals.ts';
import { findRule, ruleInForce } from '../auth/rules.ts';
import type { Backend } from '../backend/backend.ts';
import type { BackendSession } from '../backend/connection.ts';
import type { Permit } from '../lib/limiter.ts';
import { formatText } from '../lib/text.ts';
import type { LoginRecord } from '../observe/audit.ts';
import type { AuthRule, AuthRules, RuleQuery } from '../settings/auth-rules.ts';
import type { SettingValues } from '../settings/snapshot.ts';
import { type MessageChannel, readAnswer } from '../wire/channel.ts';
import { PASSWORD_BODY_LIMIT } from '../wire/constants.ts';
import { authenticationCleartextPassword, parsePassword } from '../wire/messages.ts';
import {
  backendParameters,
  type LoginParameters,
  readParameters,
  type StartupParameter,
} from '../wire/startup.ts';
import { forwardCancel } from './cancel.ts';
import { asksForConsole, endProof, proofParameters } from './console-access.ts';
import type { Admission, LoginAttempt, SessionServices } from './context.ts';
import { awaitSignIn } from './device-login.ts';
import { ForgottenOption } from './forgotten-option.ts';
import { endQuietly } from './lingering-close.ts';
import {
  emptyPassword,
  nativeLoginsDenied,
  noUser,
  replicationDenied,
  rulesChanged,
} from './login-refusals.ts';
import { agreeOnVersion, type ClientTls, negotiate } from './negotiate.ts';
import { exchangeBearer } from './oauthbearer.ts';
import { checkNativeUser, prepareUser } from './prepare-user.ts';

/**
 * Logs a client in.
 *
 * @returns undefined if the client left, or only wanted to cancel a query
 * @throws PgError that is to be told to the client; the signal's reason
 */
export async function logIn(
  attempt: LoginAttempt,
  tls: ClientTls,
  services: SessionServices,
): Promise<Admission | undefined> {
  const { connection, record, address, signal } = attempt;
  const request = await negotiate(connection, tls, signal);
  if (!request) return undefined;
  const { channel, packet, transport } = request;
  record.transport = transport;
  if (packet.kind === 'cancel') {
    await forwardCancel(packet.packet, record.client, address, services, signal);
    await endQuietly(channel.socket);
    return undefined;
  }
  const login = readParameters(packet.parameters);
  describe(record, login);
  services.limits.checkOpen();
  await agreeOnVersion(channel, packet.version, login.protocolOptions, signal);
  const rule = findRule(rulesOf(services), queryOf(attempt, login));
  const way = wayOf(login, rule);
  if (way === 'native') return logInNatively(attempt, channel, login, services);
  record.method = 'token';
  return logInWithToken(attempt, channel, login, rule, way, services);
}

/** How the client is to prove who it is. With the JWT option it has a token as its password. */
function wayOf({ tokenLogin, deviceLogin }: LoginParameters, { method }: AuthRule) {
  if (tokenLogin) return 'password';
  if (method === 'device' || method === 'oauth') return method;
  if (deviceLogin) return 'device';
  return method === 'jwt' ? 'password' : 'native';
}

/** A login with a token: the front-end decides, and logs in at the backend as the mapped user. */
async function logInWithToken(
  attempt: LoginAttempt,
  channel: MessageChannel,
  login: LoginParameters,
  first: AuthRule,
  way: keyof typeof decideBy,
  services: SessionServices,
): Promise<Admission | undefined> {
  const { record, signal } = attempt;
  if (login.replication && services.replication === 'deny') throw replicationDenied();
  const decided = await decideBy[way](attempt, channel, login, first, services);
  if (!decided) return undefined;
  const { identity, values } = decided;
  identify(record, identity);
  if (asksForConsole(login)) {
    // A console login changes no roles, but a user without groups is refused too.
    const noGroups = emptyGroupsRefusal(identity, values);
    if (noGroups) throw noGroups;
  } else {
    await prepareUser(identity, values, services.directory, record, signal);
  }

  const { route, parameters } = destination(login, Buffer.from(identity.user), services);
  const place = await services.limits.enterSession();
  return admit(attempt, channel, login, services, place, 'token', async () => {
    const mayBeSuperuser = services.superusers === 'allow';
    const backend = mayBeSuperuser
      ? await route.logIn(parameters, signal)
      : await route.logInWithRoleNone(parameters, signal);
    const refused = mayBeSuperuser
      ? undefined
      : superuserRefusal(identity.user, backend.isSuperuser, values);
    if (!refused) return way === 'device' ? withoutOk(backend) : backend;
    backend.channel.destroy();
    throw refused;
  });
}

/** AuthenticationOk begins the greeting, and was sent before the sign-in. */
function withoutOk(backend: BackendSession): BackendSession {
  const { greeting } = backend;
  return { ...backend, greeting: greeting.subarray(1 + greeting.readUInt32BE(1)) };
}

/** The outcome of the decision, with the settings that it was made by. */
interface Decided {
  readonly identity: Identity;
  readonly values: SettingValues;
}

/** The token is the password. */
async function decideByPassword(
  attempt: LoginAttempt,
  channel: MessageChannel,
  login: LoginParameters,
  first: AuthRule,
  services: SessionServices,
): Promise<Decided | undefined> {
  const { record, place, signal } = attempt;
  await channel.write(authenticationCleartextPassword(), signal);
  const answer = await readAnswer(channel, PASSWORD_BODY_LIMIT, signal);
  if (answer === undefined) return undefined;
  const token = parsePassword(answer).toString();
  place.keep();
  if (token === '') throw emptyPassword(record.user ?? '');
  const { values } = services.settings.current;
  const request = requestOf(attempt, login, first, services);
  const identity = await services.authenticator.authenticate({ ...request, token }, values, signal);
  return { identity, values };
}

/** The token comes by SASL OAUTHBEARER. */
async function decideByOAuth(
  attempt: LoginAttempt,
  channel: MessageChannel,
  login: LoginParameters,
  first: AuthRule,
  services: SessionServices,
): Promise<Decided | undefined> {
  const { record, place, signal } = attempt;
  record.mechanism = 'OAUTHBEARER';
  return exchangeBearer({
    channel,
    rule: first,
    user: login.user?.toString(),
    settings: () => services.settings.current.values,
    answered: () => place.keep(),
    decide: async (token, values) => {
      const request = requestOf(attempt, login, first, services);
      const bearer = { ...request, token, isBearer: true };
      return {
        identity: await services.authenticator.authenticate(bearer, values, signal),
        values,
      };
    },
    signal,
  });
}

/** The token comes of a sign-in elsewhere. */
async function decideByDevice(
  attempt: LoginAttempt,
  channel: MessageChannel,
  login: LoginParameters,
  first: AuthRule,
  services: SessionServices,
): Promise<Decided | undefined> {
  const { record, place, signal } = attempt;
  record.mechanism = 'device';
  const token = await awaitSignIn(attempt, channel, login.user?.toString() ?? '', services);
  if (token === undefined) return undefined;
  place.keep();
  const { values } = services.settings.current;
  const request = { ...requestOf(attempt, login, first, services), token, isBearer: true };
  return { identity: await services.authenticator.authenticate(request, values, signal), values };
}

const decideBy = {
  password: decideByPassword,
  oauth: decideByOAuth,
  device: decideByDevice,
} as const;

/** What is known of a login besides its token. */
function requestOf(
  attempt: LoginAttempt,
  login: LoginParameters,
  first: AuthRule,
  services: SessionServices,
): Omit<LoginRequest, 'token'> {
  const { address } = attempt;
  const rule = currentRule(attempt, login, first, services);
  return { user: login.user?.toString(), namesRole: login.namesRole, address, rule };
}

/** A login without a token: the backend decides, as long as it asks the client for a credential. */
async function logInNatively(
  attempt: LoginAttempt,
  channel: MessageChannel,
  login: LoginParameters,
  services: SessionServices,
): Promise<Admission | undefined> {
  const { record, address, place, evict, signal } = attempt;
  const { limits } = services;
  if (services.nativeLogins === 'deny') throw nativeLoginsDenied();
  if (!login.user?.length) throw noUser();
  const { route, parameters } = destination(login, login.user, services);
  const clientTls = record.transport !== 'plain';
  const native = await limits.enterNative(route.target, address, signal, evict);
  const forgotten = new ForgottenOption(login);
  const answered = (password: Buffer | undefined): void => {
    place.keep();
    native.keep();
    forgotten.look(password);
  };
  try {
    const options = { parameters, client: channel, clientTls, answered, signal };
    const backend = await route.logInNatively(options).catch((error: unknown) => {
      throw forgotten.explain(error);
    });
    if (!backend) return undefined;
    // A session's place is taken only now. Before, anybody could take them all.
    const place = await placeFor(backend, login.user, services, signal);
    return await admit(attempt, channel, login, services, place, 'native', async () => backend);
  } finally {
    native.release();
  }
}

/** The place of a session whose connection to the backend is there already. */
async function placeFor(
  { channel }: BackendSession,
  user: Buffer,
  { limits, directory }: SessionServices,
  signal: AbortSignal,
): Promise<Permit> {
  try {
    await checkNativeUser(user, directory, signal);
    return await limits.enterSession();
  } catch (error) {
    channel.destroy();
    throw error;
  }
}

/** The backend of a login, and the parameters of its startup packet. */
function destination(
  login: LoginParameters,
  user: Buffer,
  { routes }: SessionServices,
): { route: Backend; parameters: readonly StartupParameter[] } {
  if (asksForConsole(login)) return proofParameters(routes, user);
  // Without a database the backend takes the user's name (manual 54.7, StartupMessage).
  const route = routes.find(login.database?.toString() || user.toString());
  return { route, parameters: backendParameters(login, user) };
}

/** Connects to the backend, or to the console once the backend has admitted the operator. */
async function admit(
  { record, signal }: LoginAttempt,
  client: MessageChannel,
  login: LoginParameters,
  { console }: SessionServices,
  permit: Permit,
  method: 'token' | 'native',
  connect: () => Promise<BackendSession>,
): Promise<Admission> {
  let peer: Admission['peer'] | undefined;
  try {
    const backend = await connect();
    if (asksForConsole(login)) {
      await endProof(backend, signal);
      peer = console.admit(record.user ?? '', method, record.client);
    } else {
      peer = backend;
      record.backend = backend.host;
    }
    return { client, peer, permit };
  } finally {
    if (!peer) permit.release();
  }
}

/** What the rules look at. */
function queryOf({ record, connection }: LoginAttempt, login: LoginParameters): RuleQuery {
  return {
    address: connection.channel.socket.remoteAddress,
    tls: record.transport !== 'plain',
    database: login.database?.toString(),
    user: login.user?.toString(),
    replication: login.replication,
  };
}

function rulesOf({ settings }: SessionServices): AuthRules {
  return settings.current.values['server.host_based_authentication.configuration'];
}

/** The rules may have changed while the client typed. The decision rests on one snapshot. */
function currentRule(
  attempt: LoginAttempt,
  login: LoginParameters,
  first: AuthRule,
  services: SessionServices,
): RuleInForce {
  const query = queryOf(attempt, login);
  const rule = findRule(rulesOf(services), query);
  if (rule.method !== first.method) throw rulesChanged();
  return ruleInForce(rulesOf(services), query, rule);
}

/** Notes in the record what the startup packet says. */
function describe(record: LoginRecord, login: LoginParameters): void {
  const applicationName = login.others.find(({ name }) => name === 'application_name');
  record.method = login.tokenLogin || login.deviceLogin ? 'token' : 'native';
  record.user = shown(login.user);
  record.database = shown(login.database);
  record.applicationName = shown(applicationName?.value);
}

/** Notes in the record who the client turned out to be. */
function identify(record: LoginRecord, identity: Identity): void {
  record.user = identity.user;
  record.principal = identity.principal;
  record.issuer = identity.issuer;
  record.apiKey = identity.apiKey;
  record.tokenExpires = new Date(identity.expiresAt).toISOString();
}

/** A stranger's text is cut and made printable. */
function shown(value: Buffer | undefined): string | undefined {
  return value && formatText(value.toString());
}
