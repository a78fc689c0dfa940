/**
 * The server's side of a connection after the login: greeting, then one message after the other
 * until the client leaves (manual 54.2.2 and 54.2.3). An error in a query is answered and the
 * connection goes on; one in the protocol ends it.
 */

import { randomBytes } from 'node:crypto';
import { errorText, PgError } from '../../lib/errors.ts';
import { closeWithError } from '../../session/lingering-close.ts';
import type { MessageChannel } from '../../wire/channel.ts';
import { FRONTEND } from '../../wire/constants.ts';
import type { Message } from '../../wire/framer.ts';
import { authenticationOk, errorResponse } from '../../wire/messages.ts';
import {
  backendKeyData,
  parameterStatus,
  parseQuery,
  readyForQuery,
} from '../../wire/query-messages.ts';
import { decodeText } from '../results.ts';
import type { ConsoleSession, Statement } from '../session.ts';
import { parseQueryText } from '../statements/grammar.ts';
import { REPORTED, REPORTED_SPELLING } from '../variables.ts';
import { ExtendedQueries } from './extended-queries.ts';
import { errorReply, runStatements } from './replies.ts';

/** A setting has at most a megabyte of characters, each of at most 4 bytes. */
const MESSAGE_LIMIT = 4 * 1024 * 1024 + 64 * 1024;

/**
 * Serves until the client leaves or the signal, whose reason is a PgError, ends it. Never rejects.
 */
export async function serveOperator(
  channel: MessageChannel,
  session: ConsoleSession,
  number: number,
  signal: AbortSignal,
): Promise<void> {
  try {
    await channel.write(greeting(session, number), signal);
    const extended = new ExtendedQueries(session);
    const write = (reply: Buffer): Promise<void> => channel.write(reply, signal);
    for (;;) {
      const message = await channel.message(MESSAGE_LIMIT, signal);
      if (!message || message.type === FRONTEND.terminate) return;
      await answer(message, session, extended, write);
    }
  } catch (error) {
    // A socket's own error means that there is nobody to tell.
    if (!(error instanceof PgError))
      return session.log.debug(
        { event: 'console', reason: errorText(error) },
        'console connection lost',
      );
    await closeWithError(channel.socket, errorResponse(error));
  } finally {
    channel.destroy();
  }
}

function greeting({ variables, status }: ConsoleSession, number: number): Buffer {
  return Buffer.concat([
    authenticationOk(),
    ...REPORTED.map((name) =>
      parameterStatus(REPORTED_SPELLING[name] ?? name, variables.get(name)),
    ),
    // Drivers keep it for a cancel request; nothing here runs long enough for one, and the backend
    // knows no such key.
    backendKeyData(number, randomBytes(4)),
    readyForQuery(status),
  ]);
}

async function answer(
  message: Message,
  session: ConsoleSession,
  extended: ExtendedQueries,
  write: (reply: Buffer) => Promise<void>,
): Promise<void> {
  switch (message.type) {
    case FRONTEND.query: {
      const text = parseQuery(message.body);
      extended.forgetUnnamed();
      await answerQuery(text, session, write);
      return write(readyForQuery(session.status));
    }
    case FRONTEND.copyData:
    case FRONTEND.copyDone:
    case FRONTEND.copyFail:
      // Left over from a COPY that has failed (54.2.6).
      return;
    default:
      return write(await extended.answer(message));
  }
}

async function answerQuery(
  text: Buffer,
  session: ConsoleSession,
  write: (reply: Buffer) => Promise<void>,
): Promise<void> {
  let statements: readonly Statement[];
  try {
    statements = parseQueryText(decodeText(text));
  } catch (error) {
    session.fail();
    return write(errorReply(error, session));
  }
  await runStatements(statements, session, write);
}
