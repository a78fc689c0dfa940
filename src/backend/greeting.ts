/**
 * What a backend says between AuthenticationOk and ReadyForQuery: its parameters, the key for cancelling, notices. The client gets it to
 * the byte and in order, but only when it is complete, because `is_superuser` in it can still end the login.
 */
import { BACKEND } from '../protocol/constants.ts';
import { parseParameterStatus } from '../protocol/messages.ts';
import type { MessageChannel } from '../transport/message-channel.ts';
import { protocolViolation } from './backend-errors.ts';
import type { BackendHost } from './backend-url.ts';
import { type BackendLeg, readMessage, unexpectedMessage } from './leg.ts';

/** A backend that a user is logged in at. */
export interface BackendSession {
  /**
   * The connection, now the caller's to destroy or release. What `release` returns was pipelined by the backend behind ReadyForQuery
   * and follows the greeting.
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
 * @throws PgError 08P01 for a message that has no place in it or when it is too long; as readMessage
 */
export async function readGreeting(leg: BackendLeg, authenticationOk: Buffer, signal: AbortSignal): Promise<BackendSession> {
  const messages = [authenticationOk];
  let left = GREETING_LIMIT;
  let isSuperuser: 'on' | 'off' | undefined;
  const reported = new Map<string, string>();
  let cancelKey: Buffer | undefined;
  for (;;) {
    const message = await readMessage(leg, left, signal);
    messages.push(message.bytes);
    left -= message.bytes.length;
    if (left < 0) throw protocolViolation(leg.label, `a greeting of more than ${GREETING_LIMIT} bytes`);
    switch (message.type) {
      case BACKEND.parameterStatus: {
        const { name, value } = parseParameterStatus(message.body);
        reported.set(name, value);
        if (name === 'is_superuser') isSuperuser = isSuperuser === 'on' || value !== 'off' ? 'on' : 'off';
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
