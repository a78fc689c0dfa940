/**
 * The connection to a backend while a login is under way, and reading and writing on it. Whatever
 * happens to it, the error says that it was the backend and not the client, and names the host for
 * the log.
 */
import { PgError } from '../lib/errors.ts';
import type { MessageChannel } from '../wire/channel.ts';
import { AUTHENTICATION, BACKEND } from '../wire/constants.ts';
import type { Message } from '../wire/framer.ts';
import { formatMessage, parseAuthentication, parseParameterStatus } from '../wire/messages.ts';
import { BackendRefusal, connectionLost, protocolViolation } from './errors.ts';
import type { BackendHost } from './url.ts';

/** A connection to a backend, ready for a startup packet. */
export interface BackendLeg {
  readonly channel: MessageChannel;
  readonly host: BackendHost;
  /** Host and port, for the log. */
  readonly label: string;
  /** Whether nobody on the way can read along. */
  readonly confidential: boolean;
  /** The server's certificate in DER form; undefined without TLS. */
  readonly certificate: Buffer | undefined;
}

/** An AuthenticationRequest of the backend. */
export interface AuthenticationRequest {
  /** One of {@link AUTHENTICATION}, or one that is not known here. */
  readonly code: number;
  readonly data: Buffer;
  /** The whole message. */
  readonly bytes: Buffer;
}

/**
 * libpq's bound for an ErrorResponse during a login (fe-connect.c, MAX_ERRLEN); its bound for a
 * request is lower.
 */
const REQUEST_BODY_LIMIT = 30_000;

/**
 * The next message of the backend.
 *
 * @param limit the longest body, in bytes
 * @throws PgError 08006 when the connection ends, 08P01 for a length outside the limit;
 *   BackendRefusal for an ErrorResponse; the signal's reason
 */
async function readMessage(
  { channel, label }: BackendLeg,
  limit: number,
  signal: AbortSignal,
): Promise<Message> {
  const message = await channel.message(limit, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw error instanceof PgError
      ? protocolViolation(label, error.reason ?? error.message, error)
      : connectionLost(label, error);
  });
  if (!message) throw connectionLost(label);
  if (message.type === BACKEND.errorResponse) throw new BackendRefusal(message.bytes, label);
  return message;
}

/**
 * The next AuthenticationRequest, AuthenticationOk included.
 *
 * @throws as {@link readMessage}; PgError 08P01 for any other message
 */
export async function readRequest(
  leg: BackendLeg,
  signal: AbortSignal,
): Promise<AuthenticationRequest> {
  const { type, body, bytes } = await readMessage(leg, REQUEST_BODY_LIMIT, signal);
  if (type !== BACKEND.authentication)
    throw unexpectedMessage(leg, type, 'an authentication request');
  return { ...parseAuthentication(body), bytes };
}

/**
 * The next AuthenticationRequest, which has to be of the given code.
 *
 * @throws as {@link readRequest}; PgError 08P01 for another code
 */
export async function expectRequest(
  leg: BackendLeg,
  code: number,
  signal: AbortSignal,
): Promise<AuthenticationRequest> {
  const request = await readRequest(leg, signal);
  if (request.code !== code) throw unexpectedRequest(leg, request.code);
  return request;
}

/**
 * Sends bytes to the backend.
 *
 * @throws PgError 08006 when the connection has ended; the signal's reason
 */
export async function write(
  { channel, label }: BackendLeg,
  bytes: Buffer,
  signal: AbortSignal,
): Promise<void> {
  await channel.write(bytes, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw connectionLost(label, error);
  });
}

/**
 * Answers an AuthenticationRequest: PasswordMessage, SASLInitialResponse and the others are one
 * message with different bodies.
 */
export async function answer(leg: BackendLeg, body: Buffer, signal: AbortSignal): Promise<void> {
  await write(leg, formatMessage('p', body), signal);
}

/** A message that has no place here. */
function unexpectedMessage(leg: BackendLeg, type: number, expected: string): PgError {
  return protocolViolation(
    leg.label,
    `message ${JSON.stringify(String.fromCharCode(type))} came instead of ${expected}`,
  );
}

/** An authentication request that has no place here. */
export function unexpectedRequest(leg: BackendLeg, code: number): PgError {
  return protocolViolation(leg.label, `unexpected authentication request: ${requestName(code)}`);
}

/** The name of an authentication request, for the log. */
export function requestName(code: number): string {
  return Object.entries(AUTHENTICATION).find(([, known]) => known === code)?.[0] ?? `code ${code}`;
}

/*
 * What a backend says between AuthenticationOk and ReadyForQuery: its parameters, the key for
 * cancelling, notices. The client gets it to the byte and in order, but only when it is complete,
 * because `is_superuser` in it can still end the login.
 */

/** A backend that a user is logged in at. */
export interface BackendSession {
  /**
   * The connection, now the caller's to destroy or release. What `release` returns was pipelined by
   * the backend behind ReadyForQuery and follows the greeting.
   */
  readonly channel: MessageChannel;
  /** AuthenticationOk to ReadyForQuery, as they came. */
  readonly greeting: Buffer;
  /** What the backend reported, `on` if it ever did; undefined when it reported nothing. */
  readonly isSuperuser: 'on' | 'off' | undefined;
  /** Every ParameterStatus, the last value of each. */
  readonly reported: ReadonlyMap<string, string>;
  /** Process and secret key of BackendKeyData; undefined when there was none. */
  readonly cancelKey: Buffer | undefined;
  /** Where it is. */
  readonly address: BackendHost;
  /** Host and port, for the log. */
  readonly host: string;
}

/** PostgreSQL's greeting has about 500 bytes; a login trigger may add notices. */
const GREETING_LIMIT = 1024 * 1024;

/**
 * Reads the greeting.
 *
 * @param authenticationOk the message that began it
 * @throws PgError 08P01 for a message that has no place in it or when it is too long; as
 *   readMessage
 */
export async function readGreeting(
  leg: BackendLeg,
  authenticationOk: Buffer,
  signal: AbortSignal,
): Promise<BackendSession> {
  const messages = [authenticationOk];
  let left = GREETING_LIMIT;
  let isSuperuser: 'on' | 'off' | undefined;
  const reported = new Map<string, string>();
  let cancelKey: Buffer | undefined;
  for (;;) {
    const message = await readMessage(leg, left, signal);
    messages.push(message.bytes);
    left -= message.bytes.length;
    if (left < 0)
      throw protocolViolation(leg.label, `a greeting of more than ${GREETING_LIMIT} bytes`);
    switch (message.type) {
      case BACKEND.parameterStatus: {
        const { name, value } = parseParameterStatus(message.body);
        reported.set(name, value);
        if (name === 'is_superuser')
          isSuperuser = isSuperuser === 'on' || value !== 'off' ? 'on' : 'off';
        break;
      }
      case BACKEND.backendKeyData:
        cancelKey = message.body;
        break;
      case BACKEND.noticeResponse:
        break;
      case BACKEND.readyForQuery:
        return {
          channel: leg.channel,
          greeting: Buffer.concat(messages),
          isSuperuser,
          reported,
          cancelKey,
          address: leg.host,
          host: leg.label,
        };
      default:
        throw unexpectedMessage(leg, message.type, 'ReadyForQuery');
    }
  }
}
