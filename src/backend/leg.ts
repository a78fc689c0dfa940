/**
 * The connection to a backend while a login is under way, and reading and writing on it. Whatever happens to it, the error says that it was
 * the backend and not the client, and names the host for the log.
 */
import { PgError } from '../errors.ts';
import { AUTHENTICATION, BACKEND } from '../protocol/constants.ts';
import type { Message } from '../protocol/framer.ts';
import { formatMessage, parseAuthentication } from '../protocol/messages.ts';
import type { MessageChannel } from '../transport/message-channel.ts';
import { BackendRefusal, connectionLost, protocolViolation } from './backend-errors.ts';
import type { BackendHost } from './backend-url.ts';

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

/** libpq's bound for an ErrorResponse during a login (fe-connect.c, MAX_ERRLEN); its bound for a request is lower. */
const REQUEST_BODY_LIMIT = 30_000;

/**
 * The next message of the backend.
 *
 * @param limit the longest body, in bytes
 * @throws PgError 08006 when the connection ends, 08P01 for a length outside the limit; BackendRefusal for an ErrorResponse; the signal's
 * reason
 */
export async function readMessage({ channel, label }: BackendLeg, limit: number, signal: AbortSignal): Promise<Message> {
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
export async function readRequest(leg: BackendLeg, signal: AbortSignal): Promise<AuthenticationRequest> {
  const { type, body, bytes } = await readMessage(leg, REQUEST_BODY_LIMIT, signal);
  if (type !== BACKEND.authentication) throw unexpectedMessage(leg, type, 'an authentication request');
  return { ...parseAuthentication(body), bytes };
}

/**
 * The next AuthenticationRequest, which has to be of the given code.
 *
 * @throws as {@link readRequest}; PgError 08P01 for another code
 */
export async function expectRequest(leg: BackendLeg, code: number, signal: AbortSignal): Promise<AuthenticationRequest> {
  const request = await readRequest(leg, signal);
  if (request.code !== code) throw unexpectedRequest(leg, request.code);
  return request;
}

/**
 * Sends bytes to the backend.
 *
 * @throws PgError 08006 when the connection has ended; the signal's reason
 */
export async function write({ channel, label }: BackendLeg, bytes: Buffer, signal: AbortSignal): Promise<void> {
  await channel.write(bytes, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw connectionLost(label, error);
  });
}

/** Answers an AuthenticationRequest: PasswordMessage, SASLInitialResponse and the others are one message with different bodies. */
export async function answer(leg: BackendLeg, body: Buffer, signal: AbortSignal): Promise<void> {
  await write(leg, formatMessage('p', body), signal);
}

/** A message that has no place here. */
export function unexpectedMessage(leg: BackendLeg, type: number, expected: string): PgError {
  return protocolViolation(leg.label, `message ${JSON.stringify(String.fromCharCode(type))} came instead of ${expected}`);
}

/** An authentication request that has no place here. */
export function unexpectedRequest(leg: BackendLeg, code: number): PgError {
  return protocolViolation(leg.label, `unexpected authentication request: ${requestName(code)}`);
}

/** The name of an authentication request, for the log. */
export function requestName(code: number): string {
  return Object.entries(AUTHENTICATION).find(([, known]) => known === code)?.[0] ?? `code ${code}`;
}
