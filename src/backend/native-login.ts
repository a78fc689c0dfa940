/**
 * A login without a token. The backend authenticates the client by its own passwords and rules: its
 * authentication requests go to the client, and the answers back. The backend sees the address of
 * the front-end and may trust it. For that reason the front-end never sends a credential of its own
 * here, and only a login that the client was asked to prove counts.
 */
import { PgError } from '../lib/errors.ts';
import { type MessageChannel, readAnswer } from '../wire/channel.ts';
import { AUTHENTICATION, PASSWORD_BODY_LIMIT } from '../wire/constants.ts';
import {
  authenticationCleartextPassword,
  formatMessage,
  int32,
  parsePassword,
} from '../wire/messages.ts';
import type { StartupParameter } from '../wire/startup.ts';
import { logInAtSomeHost } from './connect.ts';
import {
  type AuthenticationRequest,
  type BackendConnection,
  type BackendSession,
  readGreeting,
  readRequest,
  unexpectedRequest,
  write,
} from './connection.ts';
import { BackendRefusal, isAboutFrontEnd, notAdmitted } from './errors.ts';
import type { OpenedAhead } from './opened-ahead.ts';
import { parseMechanisms, performScram, SCRAM_PLUS } from './scram.ts';
import type { BackendTarget } from './target.ts';

/** A native login: the client, and what it asks for. */
export interface NativeLoginOptions {
  readonly target: BackendTarget;
  /** For the startup packet, with the user as the client sent it. */
  readonly parameters: readonly StartupParameter[];
  /** The client, which now expects the first authentication request. */
  readonly client: MessageChannel;
  /** Whether the client is connected over TLS. */
  readonly clientTls: boolean;
  /** Connections that wait for a login. */
  readonly ahead?: OpenedAhead | undefined;
  /**
   * Called when the client has sent a password, or the last message of SCRAM. Until then it is no
   * more than an open connection. The password is undefined if it is not in clear text.
   */
  readonly answered: (password: Buffer | undefined) => void;
  readonly signal: AbortSignal;
}

/** A login that is relayed between a client and a backend. */
interface Relay extends Pick<NativeLoginOptions, 'client' | 'clientTls' | 'answered' | 'signal'> {
  readonly connection: BackendConnection;
  /** Called before the client is asked for something. */
  readonly asking: () => void;
}

/** The client has closed the connection, which is normal at a password prompt. */
class ClientLeft extends Error {}

/**
 * Logs in with the client's own credential.
 *
 * @returns undefined if the client left; the connection to the backend is then closed
 * @throws PgError 28000 if the backend asked the client for nothing, 08P01 if the client sends
 *   something else than an answer; otherwise as connectAs. The client sees the refusal of a
 *   password in the backend's own words
 */
export async function logInNatively(
  options: NativeLoginOptions,
): Promise<BackendSession | undefined> {
  const { target, parameters, ahead, signal } = options;
  let asked = false;
  const attempt = {
    target,
    parameters,
    ahead,
    signal,
    // The certificate of the front-end is not shown: the backend would let the client in for it.
    secureContext: target.secureContext,
    limit: 0,
    mayRepeat: () => !asked,
  };
  const asking = (): void => {
    asked = true;
  };
  try {
    return await logInAtSomeHost(attempt, async (connection) =>
      readGreeting(
        connection,
        await relayAuthentication({ ...options, connection, asking }),
        signal,
      ),
    );
  } catch (error) {
    if (error instanceof ClientLeft) return undefined;
    // What pg_hba.conf says of the front-end's address and TLS is for the log only. That the
    // password is wrong is for the client.
    if (error instanceof BackendRefusal && isAboutFrontEnd(error) && error.sqlstate !== '28P01') {
      throw notAdmitted(
        parameters.find(({ name }) => name === 'user')?.value.toString() ?? '',
        `${error.reason} (${error.sqlstate}), in a native login`,
        error,
      );
    }
    throw error;
  }
}

/** Relays until AuthenticationOk, and returns that message. */
async function relayAuthentication(relay: Relay): Promise<Buffer> {
  const { connection, signal } = relay;
  let asked = false;
  for (;;) {
    const request = await readRequest(connection, signal);
    switch (request.code) {
      case AUTHENTICATION.ok:
        if (!asked) throw unearned(connection);
        return request.bytes;
      case AUTHENTICATION.sasl:
        await relaySasl(relay, request);
        asked = true;
        break;
      case AUTHENTICATION.gss:
      case AUTHENTICATION.sspi:
        await ask(relay, request.bytes);
        asked = true;
        break;
      case AUTHENTICATION.cleartextPassword:
      case AUTHENTICATION.md5Password:
      case AUTHENTICATION.saslContinue: {
        const answer = await ask(relay, request.bytes);
        const isClear = request.code === AUTHENTICATION.cleartextPassword;
        // Not earlier: the first message of SCRAM proves nothing, and a client that stops there may
        // still be dropped in favour of another.
        relay.answered(isClear ? answer.subarray(0, -1) : undefined);
        asked = true;
        break;
      }
      case AUTHENTICATION.gssContinue:
        await sendToClient(relay, request.bytes);
        if (await clientIsNext(relay)) await relayAnswer(relay);
        break;
      case AUTHENTICATION.saslFinal:
        await sendToClient(relay, request.bytes);
        break;
      default:
        throw unexpectedRequest(connection, request.code);
    }
  }
}

/**
 * SCRAM cannot be relayed if the backend offers channel binding: the client sees another
 * certificate than that of the backend. If the offer is removed, a client on TLS says that it was
 * missing, which the backend takes for an attack. Such a client is asked for the password itself. A
 * client in plain text cannot use the binding, and gets the other mechanisms.
 */
async function relaySasl(relay: Relay, request: AuthenticationRequest): Promise<void> {
  const mechanisms = parseMechanisms(request.data);
  if (!mechanisms.includes(SCRAM_PLUS)) {
    await ask(relay, request.bytes);
    return;
  }
  if (relay.clientTls) {
    await sendToClient(relay, authenticationCleartextPassword());
    const password = parsePassword(await readClientAnswer(relay));
    relay.answered(password);
    return performScram(relay.connection, request, password, relay.signal);
  }
  const others = mechanisms.filter((mechanism) => mechanism !== SCRAM_PLUS);
  const names = Buffer.from(`${others.join('\0')}\0\0`);
  await ask(relay, formatMessage('R', int32(AUTHENTICATION.sasl), names));
}

/** Sends a request to the client and relays the answer, whose body is returned. */
async function ask(relay: Relay, request: Buffer): Promise<Buffer> {
  await sendToClient(relay, request);
  return relayAnswer(relay);
}

async function relayAnswer(relay: Relay): Promise<Buffer> {
  const answer = await readClientAnswer(relay);
  await write(relay.connection, formatMessage('p', answer), relay.signal);
  return answer;
}

/**
 * Whether the client speaks next. The last GSSContinue of an exchange has no answer (manual 54.2.1,
 * AuthenticationGSSContinue), so this shows only when one side sends something.
 */
async function clientIsNext({ client, connection, signal }: Relay): Promise<boolean> {
  const turn = new AbortController();
  const within = AbortSignal.any([signal, turn.signal]);
  const speaks = async (channel: MessageChannel): Promise<boolean> => {
    await channel.peek(within);
    return channel === client;
  };
  try {
    return await Promise.race([speaks(connection.channel), speaks(client)]);
  } finally {
    turn.abort();
  }
}

async function sendToClient({ client, asking, signal }: Relay, bytes: Buffer): Promise<void> {
  asking();
  await client.write(bytes, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw new ClientLeft('while an authentication request was sent', { cause: error });
  });
}

/** The body of the client's answer, of whatever kind. */
async function readClientAnswer({ client, signal }: Relay): Promise<Buffer> {
  const body = await readAnswer(client, PASSWORD_BODY_LIMIT, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw error instanceof PgError
      ? error
      : new ClientLeft('while an answer was awaited', { cause: error });
  });
  if (!body) throw new ClientLeft('at the password prompt');
  return body;
}

function unearned({ label }: BackendConnection): PgError {
  return new PgError({
    code: 'native_login_unearned',
    message: 'native login refused: the backend asked for no credential',
    reason:
      `${label} trusts the address or the certificate of the front-end; ` +
      'native logins need a rule that asks for a credential',
    fault: 'us',
  });
}
