/**
 * A login without the JWT option: the backend's business, with its own passwords and rules. Its
 * authentication requests go to the client and the answers back. The backend sees the front-end's
 * address, however, and may trust it; what keeps this from being a hole is that nothing of the
 * front-end's own is ever sent, and that only a login counts which the client had to earn.
 */
import { PgError } from '../lib/errors.ts';
import { type MessageChannel, readAnswer } from '../wire/channel.ts';
import { AUTHENTICATION, PASSWORD_BODY_LIMIT } from '../wire/constants.ts';
import { authenticationCleartextPassword, formatMessage, parsePassword } from '../wire/messages.ts';
import type { StartupParameter } from '../wire/startup.ts';
import { logInAtSomeHost } from './connect.ts';
import { BackendRefusal, isAboutFrontEnd, notAdmitted } from './errors.ts';
import {
  type AuthenticationRequest,
  answer,
  type BackendLeg,
  type BackendSession,
  readGreeting,
  readRequest,
  unexpectedRequest,
} from './leg.ts';
import type { OpenedAhead } from './opened-ahead.ts';
import { parseMechanisms, performScram, SCRAM_PLUS } from './scram.ts';
import type { BackendTarget } from './target.ts';

/** Who wants to log in where. */
export interface NativeLoginOptions {
  readonly target: BackendTarget;
  /** For the startup packet, the user as the client sent it. */
  readonly parameters: readonly StartupParameter[];
  /** The client, at the point where the first authentication request is due. */
  readonly client: MessageChannel;
  /** Whether the client is connected over TLS. */
  readonly clientTls: boolean;
  /** Connections that wait for a login. */
  readonly ahead?: OpenedAhead | undefined;
  /**
   * Called when the client has sent a password, or the last message of SCRAM: it is more than an
   * open connection from then on.
   */
  readonly answered: () => void;
  readonly signal: AbortSignal;
}

/** The two sides of a login that is being relayed. */
interface Relay extends Omit<NativeLoginOptions, 'target' | 'parameters' | 'ahead'> {
  readonly leg: BackendLeg;
  /** Called before the client is asked for something. */
  readonly asking: () => void;
}

/** The client has closed the connection: normal at a password prompt. */
class ClientLeft extends Error {}

/**
 * Logs in with the client's own credential.
 *
 * @returns undefined when the client left; the connection to the backend is then gone
 * @throws PgError 28000 when the backend asked the client for nothing, 08P01 for a client that
 *   sends something else than an answer; as connectAs, and refusals of a password are in the
 *   backend's own words
 */
export async function loginNatively(
  options: NativeLoginOptions,
): Promise<BackendSession | undefined> {
  const { target, parameters, ahead, signal } = options;
  let asked = false;
  const mayRepeat = (): boolean => !asked;
  // The front-end's own certificate is not shown: the backend would let the client in for it.
  const leg = {
    target,
    parameters,
    ahead,
    signal,
    secureContext: target.secureContext,
    limit: 0,
    mayRepeat,
  };
  try {
    return await logInAtSomeHost(leg, async (leg) => {
      const relay = { ...options, leg, asking: () => (asked = true) };
      return readGreeting(leg, await relayAuthentication(relay), signal);
    });
  } catch (error) {
    if (error instanceof ClientLeft) return undefined;
    // What pg_hba.conf says of our address and our TLS is not the client's business; that a
    // password is wrong is.
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

/** Relays until AuthenticationOk, which it returns. */
async function relayAuthentication(relay: Relay): Promise<Buffer> {
  const { leg, signal } = relay;
  let asked = false;
  for (;;) {
    const request = await readRequest(leg, signal);
    switch (request.code) {
      case AUTHENTICATION.ok:
        if (!asked) throw unearned(leg);
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
      case AUTHENTICATION.saslContinue:
        await ask(relay, request.bytes);
        // Only now: the first message of SCRAM proves nothing, and whoever stops there is still to
        // be dropped for somebody who goes on.
        relay.answered();
        asked = true;
        break;
      case AUTHENTICATION.gssContinue:
        await sendToClient(relay, request.bytes);
        if (await clientIsNext(relay)) await passAnswer(relay);
        break;
      case AUTHENTICATION.saslFinal:
        await sendToClient(relay, request.bytes);
        break;
      default:
        throw unexpectedRequest(leg, request.code);
    }
  }
}

/**
 * SCRAM with an offer of channel binding cannot be relayed: the client sees another certificate
 * than the backend has shown, and one on TLS that finds the offer missing says so, which the
 * backend takes for an attack. A client on TLS is asked for the password itself; one without would
 * not use the binding and does not miss the offer.
 */
async function relaySasl(relay: Relay, request: AuthenticationRequest): Promise<void> {
  const mechanisms = parseMechanisms(request.data);
  if (!mechanisms.includes(SCRAM_PLUS)) return ask(relay, request.bytes);
  if (relay.clientTls) {
    await sendToClient(relay, authenticationCleartextPassword());
    const password = parsePassword(await answerOf(relay));
    relay.answered();
    return performScram(relay.leg, request, password, relay.signal);
  }
  const others = mechanisms.filter((mechanism) => mechanism !== SCRAM_PLUS);
  return ask(
    relay,
    formatMessage(
      'R',
      Buffer.from([0, 0, 0, AUTHENTICATION.sasl]),
      Buffer.from(`${others.join('\0')}\0\0`),
    ),
  );
}

/** Puts a request to the client and passes on the answer. */
async function ask(relay: Relay, request: Buffer): Promise<void> {
  await sendToClient(relay, request);
  await passAnswer(relay);
}

async function passAnswer(relay: Relay): Promise<void> {
  await answer(relay.leg, await answerOf(relay), relay.signal);
}

/**
 * The last GSSContinue of an exchange is not answered (manual 54.2.1, AuthenticationGSSContinue):
 * who is next shows when he speaks.
 */
async function clientIsNext({ client, leg, signal }: Relay): Promise<boolean> {
  const turn = new AbortController();
  const within = AbortSignal.any([signal, turn.signal]);
  const speaks = async (channel: MessageChannel): Promise<boolean> => {
    await channel.peek(within);
    return channel === client;
  };
  try {
    return await Promise.race([speaks(leg.channel), speaks(client)]);
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

/** The body of the client's answer, whatever its kind. */
async function answerOf({ client, signal }: Relay): Promise<Buffer> {
  const body = await readAnswer(client, PASSWORD_BODY_LIMIT, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw error instanceof PgError
      ? error
      : new ClientLeft('while an answer was awaited', { cause: error });
  });
  if (!body) throw new ClientLeft('at the password prompt');
  return body;
}

function unearned({ label }: BackendLeg): PgError {
  return new PgError({
    code: 'native_login_unearned',
    message: 'native login refused: the backend asked for no credential',
    reason: `${label} trusts the address or the certificate of the front-end; native logins need a rule that asks for a credential`,
    fault: 'us',
  });
}
