/** What an operator and the log are told of a statement that has failed. */
import { errorText, PgError } from '../errors.ts';
import { errorResponse } from '../protocol/messages.ts';
import type { ConsoleSession } from './console-session.ts';

/** The ErrorResponse for anything that was thrown; what is no PgError is a bug, and the log gets its stack. */
export function errorReply(error: unknown, { log, operator: { name: user, client } }: ConsoleSession): Buffer {
  if (error instanceof PgError) {
    const { code, sqlstate, reason, fault } = error;
    // Without the message: it quotes the statement, which may hold a token.
    log[fault === 'client' ? 'debug' : 'warn'](
      { event: 'console', user, client, code, sqlstate, reason, fault },
      'statement failed',
    );
    return errorResponse(error, 'ERROR');
  }
  const stack = error instanceof Error ? error.stack : undefined;
  log.error({ event: 'console', user, client, reason: errorText(error), stack, fault: 'us' }, 'statement failed');
  return errorResponse(
    new PgError({ code: 'internal_error', sqlstate: 'XX000', message: 'internal error of the front-end', fault: 'us' }),
    'ERROR',
  );
}
