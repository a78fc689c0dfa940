/** The answer to a request for a password, of whatever kind: the one message that a client may send before it is logged in. */
import { PgError } from '../errors.ts';
import { FRONTEND } from '../protocol/constants.ts';
import type { MessageChannel } from './message-channel.ts';

/**
 * Its body; undefined when the client left instead, which psql does at every prompt.
 *
 * @param limit the longest body, in bytes
 * @throws PgError 08P01 for another message, in the server's own words; as MessageChannel.message
 */
export async function readAnswer(channel: MessageChannel, limit: number, signal: AbortSignal): Promise<Buffer | undefined> {
  const message = await channel.message(limit, signal);
  if (!message || message.type === FRONTEND.terminate) return undefined;
  if (message.type === FRONTEND.password) return message.body;
  throw new PgError({
    code: 'unexpected_message',
    sqlstate: '08P01',
    message: `expected password response, got message type ${message.type}`,
  });
}
