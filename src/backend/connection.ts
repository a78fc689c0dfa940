/**
 * A connection to a backend during a login, and the messages that a login reads and writes on it.
 * Every error says that the backend was at fault and not the client, and names the host for the
 * log.
 */
import { PgError } from '../lib/errors.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { AUTHENTICATION, BACKEND, CANCEL_KEY_LIMIT } from '../wire/constants.ts';
import type { Message } from '../wire/framer.ts';
import { parseAuthentication, parseParameterStatus } from '../wire/messages.ts';
import { BackendRefusal, connectionLost, protocolViolation } from './errors.ts';
import type { BackendTarget } from './target.ts';
import type { BackendHost } from './url.ts';

/** A connection to a backend, ready for a startup packet. */
export interface BackendConnection {
  readonly channel: MessageChannel;
  readonly target: BackendTarget;
  readonly host: BackendHost;
  /** Host and port, for the log. */
  readonly label: string;
  /** Whether nobody between the front-end and the backend can read the bytes. */
  readonly confidential: boolean;
  /** The server's certificate in DER form; undefined without TLS. */
  readonly certificate: Buffer | undefined;
}

/** An AuthenticationRequest of the backend. */
export interface AuthenticationRequest {
  /** One of {@link AUTHENTICATION}, or a code that is not known here. */
  readonly code: number;
  readonly data: Buffer;
  /** The whole message. */
  readonly bytes: Buffer;
}

/** A session that the backend has begun for a user. */
export interface BackendSession {
  /**
   * The connection. The caller destroys or releases it. The bytes that `release` returns were sent
   * by the backend behind ReadyForQuery, and follow the greeting.
   */
  readonly channel: MessageChannel;
  /** AuthenticationOk to ReadyForQuery, as they came. */
  readonly greeting: Buffer;
  /** `on` if the backend ever reported it; undefined if it reported nothing. */
  readonly isSuperuser: 'on' | 'off' | undefined;
  /** The body of BackendKeyData; undefined if the backend has sent none that can be used. */
  readonly cancelKey: Buffer | undefined;
  /** Every ParameterStatus, with the last value of each. */
  readonly reported: ReadonlyMap<string, string>;
  readonly target: BackendTarget;
  readonly address: BackendHost;
  /** Host and port, for the log. */
  readonly host: string;
}

/**
 * Bytes of an AuthenticationRequest or ErrorResponse. libpq has this limit for an ErrorResponse
 * during a login (fe-connect.c, MAX_ERRLEN) and a lower one for a request.
 */
const REQUEST_BODY_LIMIT = 30_000;

/** Bytes. The greeting of PostgreSQL has about 500; a login trigger may add notices. */
const GREETING_LIMIT = 1024 * 1024;

/**
 * Reads the next AuthenticationRequest, which may be AuthenticationOk.
 *
 * @throws PgError 08006 if the connection ends, 08P01 for another message or a length outside the
 *   limit; BackendRefusal for an ErrorResponse; the signal's reason
 */
export async function readRequest(
  connection: BackendConnection,
  signal: AbortSignal,
): Promise<AuthenticationRequest> {
  const { type, body, bytes } = await readMessage(connection, REQUEST_BODY_LIMIT, signal);
  if (type !== BACKEND.authentication)
    throw unexpectedMessage(connection, type, 'an authentication request');
  return { ...parseAuthentication(body), bytes };
}

/**
 * Reads the next AuthenticationRequest, which must have the given code.
 *
 * @throws as {@link readRequest}; PgError 08P01 for another code
 */
export async function expectRequest(
  connection: BackendConnection,
  code: number,
  signal: AbortSignal,
): Promise<AuthenticationRequest> {
  const request = await readRequest(connection, signal);
  if (request.code !== code) throw unexpectedRequest(connection, request.code);
  return request;
}

/**
 * Reads what follows AuthenticationOk up to ReadyForQuery: parameters, the cancel key and notices.
 * The client gets it unchanged, but only when it is complete, because an `is_superuser` in it can
 * still end the login.
 *
 * @param authenticationOk that message, which begins the greeting
 * @throws PgError 08P01 for a message that does not belong there, or if the greeting is too long;
 *   otherwise as {@link readRequest}
 */
export async function readGreeting(
  connection: BackendConnection,
  authenticationOk: Buffer,
  signal: AbortSignal,
): Promise<BackendSession> {
  const messages = [authenticationOk];
  const reported = new Map<string, string>();
  let isSuperuser: 'on' | 'off' | undefined;
  let cancelKey: Buffer | undefined;
  for (let left = GREETING_LIMIT; ; ) {
    // The greeting mostly comes at once: then nothing is waited for between its messages.
    const message =
      bufferedMessage(connection, left) ?? (await readMessage(connection, left, signal));
    messages.push(message.bytes);
    left -= message.bytes.length;
    if (left < 0)
      throw protocolViolation(connection.label, `a greeting of more than ${GREETING_LIMIT} bytes`);
    switch (message.type) {
      case BACKEND.parameterStatus: {
        const { name, value } = parseParameterStatus(message.body);
        reported.set(name, value);
        if (name === 'is_superuser')
          isSuperuser = isSuperuser === 'on' || value !== 'off' ? 'on' : 'off';
        break;
      }
      case BACKEND.backendKeyData:
        // A client cannot send a longer one.
        if (message.body.length <= 4 + CANCEL_KEY_LIMIT) cancelKey = Buffer.from(message.body);
        break;
      case BACKEND.noticeResponse:
        break;
      case BACKEND.readyForQuery:
        return {
          channel: connection.channel,
          greeting: Buffer.concat(messages),
          isSuperuser,
          cancelKey,
          reported,
          target: connection.target,
          address: connection.host,
          host: connection.label,
        };
      default:
        throw unexpectedMessage(connection, message.type, 'ReadyForQuery');
    }
  }
}

/**
 * Sends bytes to the backend.
 *
 * @throws PgError 08006 if the connection has ended; the signal's reason
 */
export async function write(
  { channel, label }: BackendConnection,
  bytes: Buffer,
  signal: AbortSignal,
): Promise<void> {
  await channel.write(bytes, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw connectionLost(label, error);
  });
}

/** The error for an AuthenticationRequest that does not belong there. */
export function unexpectedRequest({ label }: BackendConnection, code: number): PgError {
  return protocolViolation(label, `unexpected authentication request: ${requestName(code)}`);
}

/** The name of an AuthenticationRequest, for the log. */
export function requestName(code: number): string {
  return Object.entries(AUTHENTICATION).find(([, known]) => known === code)?.[0] ?? `code ${code}`;
}

async function readMessage(
  connection: BackendConnection,
  limit: number,
  signal: AbortSignal,
): Promise<Message> {
  const { channel, label } = connection;
  const message = await channel.message(limit, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw readFailure(connection, error);
  });
  if (!message) throw connectionLost(label);
  return noError(connection, message);
}

/** The next message if it has arrived already. Throws as {@link readMessage} does. */
function bufferedMessage(connection: BackendConnection, limit: number): Message | undefined {
  try {
    const message = connection.channel.bufferedMessage(limit);
    return message && noError(connection, message);
  } catch (error) {
    throw readFailure(connection, error);
  }
}

function noError({ label }: BackendConnection, message: Message): Message {
  if (message.type === BACKEND.errorResponse) throw new BackendRefusal(message.bytes, label);
  return message;
}

function readFailure({ label }: BackendConnection, error: unknown): unknown {
  if (error instanceof BackendRefusal) return error;
  return error instanceof PgError
    ? protocolViolation(label, error.reason ?? error.message, error)
    : connectionLost(label, error);
}

function unexpectedMessage({ label }: BackendConnection, type: number, expected: string): PgError {
  return protocolViolation(
    label,
    `message ${JSON.stringify(String.fromCharCode(type))} came instead of ${expected}`,
  );
}
