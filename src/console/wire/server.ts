/**
 * The server side of a console connection after the login: it sends the greeting and then answers
 * one message after the other until the client leaves (manual 54.2.2 and 54.2.3). An error in a
 * query is reported and the connection stays open; a protocol error closes it.
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

/** Bytes. The longest value of a setting, a megabyte of ASCII, plus its statement. */
const MESSAGE_LIMIT = 1024 * 1024 + 64 * 1024;

/** A longer message is dropped as it arrives and refused. Above this the connection ends. */
const DROP_LIMIT = 16 * MESSAGE_LIMIT;

/**
 * Serves a connection until the client leaves or the signal aborts. The reason of the signal is a
 * PgError, which is sent to the client. Never rejects.
 *
 * @param number of the connection, for BackendKeyData
 * @param wasGreeted whether AuthenticationOk was sent before
 */
export async function serveOperator(
  channel: MessageChannel,
  session: ConsoleSession,
  number: number,
  signal: AbortSignal,
  wasGreeted = false,
): Promise<void> {
  const extended = new ExtendedQueries(session);
  try {
    const ok = wasGreeted ? [] : [authenticationOk()];
    await channel.write(Buffer.concat([...ok, greeting(session, number)]), signal);
    const write = (reply: Buffer): Promise<void> => channel.write(reply, signal);
    for (;;) {
      const message = await channel.message(MESSAGE_LIMIT, signal, DROP_LIMIT);
      if (!message || message.type === FRONTEND.terminate) return;
      await answer(message, session, extended, write);
    }
  } catch (error) {
    // Another error comes from the socket, so the client cannot be told.
    if (!(error instanceof PgError))
      return session.log.debug(
        { event: 'console', reason: errorText(error) },
        'console connection lost',
      );
    await closeWithError(channel.socket, errorResponse(error));
  } finally {
    extended.close();
    channel.destroy();
  }
}

function tooLong(): PgError {
  return new PgError({
    code: 'statement_too_long',
    message: `a statement has at most ${MESSAGE_LIMIT} bytes`,
    hint: 'A value that is longer can be given to pgsso serve with --set.',
  });
}

function greeting({ variables, status }: ConsoleSession, number: number): Buffer {
  return Buffer.concat([
    ...REPORTED.map((name) =>
      parameterStatus(REPORTED_SPELLING[name] ?? name, variables.get(name)),
    ),
    // Drivers expect a cancel key. It is random, since no statement of the console can be canceled
    // and a request with it must not cancel a query of a backend.
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
      const text = message.isDropped ? undefined : parseQuery(message.body);
      extended.forgetUnnamed();
      await answerQuery(text, session, write);
      return write(readyForQuery(session.status));
    }
    case FRONTEND.copyData:
    case FRONTEND.copyDone:
    case FRONTEND.copyFail:
      // Such messages can follow a COPY that has failed (manual 54.2.6) and are ignored.
      return;
    default:
      return write(await extended.answer(message, message.isDropped ? tooLong() : undefined));
  }
}

/** @param text undefined if it was too long and was dropped */
async function answerQuery(
  text: Buffer | undefined,
  session: ConsoleSession,
  write: (reply: Buffer) => Promise<void>,
): Promise<void> {
  let statements: readonly Statement[];
  try {
    if (!text) throw tooLong();
    statements = parseQueryText(decodeText(text));
  } catch (error) {
    session.fail();
    return write(errorReply(error, session));
  }
  await runStatements(statements, session, write);
}
