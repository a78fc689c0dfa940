/**
 * SCRAM on the wire: the choice of the mechanism and the three round trips of it. Used with the front-end's own passwords, and with that of
 * a native login whose exchange cannot be relayed.
 */

import { errorText } from '../errors.ts';
import { AUTHENTICATION } from '../protocol/constants.ts';
import { protocolViolation } from './backend-errors.ts';
import { endPointHash } from './channel-binding.ts';
import { type AuthenticationRequest, answer, type BackendLeg, expectRequest } from './leg.ts';
import { type ChannelBinding, SCRAM, SCRAM_PLUS, ScramExchange } from './scram.ts';

/** The mechanisms that an AuthenticationSASL offers: strings, ended by an empty one (manual 54.7). */
export function parseMechanisms(data: Buffer): string[] {
  const names = data.toString('latin1').split('\0');
  return names.slice(0, names.indexOf(''));
}

/**
 * Performs SCRAM as an AuthenticationSASL asks for it, until the server has proved itself; AuthenticationOk is still to come.
 *
 * @throws PgError 08P01 when no usable mechanism is offered, or for a server that cannot prove that it knows the password; as readRequest
 */
export async function performScram(
  leg: BackendLeg,
  request: AuthenticationRequest,
  password: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const exchange = new ScramExchange(password, chooseBinding(leg, parseMechanisms(request.data)));
  const first = exchange.first();
  const length = Buffer.alloc(4);
  length.writeUInt32BE(first.length);
  await answer(leg, Buffer.concat([Buffer.from(`${exchange.mechanism}\0`), length, first]), signal);

  const serverFirst = await expectRequest(leg, AUTHENTICATION.saslContinue, signal);
  const final = await exchange.final(serverFirst.data).catch((error: unknown) => {
    throw protocolViolation(leg.label, errorText(error), error);
  });
  signal.throwIfAborted();
  await answer(leg, final, signal);

  const serverFinal = await expectRequest(leg, AUTHENTICATION.saslFinal, signal);
  try {
    exchange.verify(serverFinal.data);
  } catch (error) {
    throw protocolViolation(leg.label, errorText(error), error);
  }
}

/** libpq's rules (fe-auth.c, pg_SASL_init): the binding is used wherever it is offered and can be had. */
function chooseBinding({ certificate, label }: BackendLeg, offered: readonly string[]): ChannelBinding {
  if (offered.includes(SCRAM_PLUS)) {
    // A server offers it on TLS only: somebody in between has taken TLS away.
    if (!certificate) throw protocolViolation(label, `${SCRAM_PLUS} is offered without TLS`);
    const endPoint = endPointHash(certificate);
    if (endPoint) return { endPoint };
  }
  if (!offered.includes(SCRAM)) {
    throw protocolViolation(label, `of the mechanisms offered (${offered.join(' ')}) none can be used`);
  }
  return certificate && !offered.includes(SCRAM_PLUS) ? 'not offered' : 'impossible';
}
