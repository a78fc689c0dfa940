/**
 * The client's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) as PostgreSQL
 * speaks it (manual 54.3.1): the user name is left empty because the startup packet has it, and the
 * password goes through SASLprep if it can. The server proves that it knows the password, too, and
 * a login does not count before it has.
 */

import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { saslprep } from '@mongodb-js/saslprep';
import { errorText } from '../lib/errors.ts';
import { AUTHENTICATION } from '../wire/constants.ts';
import { endPointHash } from './channel-binding.ts';
import { protocolViolation } from './errors.ts';
import { type AuthenticationRequest, answer, type BackendLeg, expectRequest } from './leg.ts';

/** The two mechanisms; -PLUS binds the exchange to the TLS connection that it runs in. */
export const SCRAM = 'SCRAM-SHA-256';
export const SCRAM_PLUS = 'SCRAM-SHA-256-PLUS';

/**
 * How the exchange is bound to TLS (RFC 5802, section 6): to the server's certificate; not, because
 * the server did not offer it (which the server checks, so that nobody on the way can strike the
 * offer); or not at all.
 */
export type ChannelBinding = { readonly endPoint: Buffer } | 'not offered' | 'impossible';

/**
 * PostgreSQL's default is 4,096 iterations, OWASP's advice for PBKDF2-HMAC-SHA256 600,000. A
 * million takes a thread of the pool about half a second: enough for any honest server, and a
 * dishonest one cannot hold the pool, which name lookups need as well, for minutes.
 */
const ITERATION_LIMIT = 1_000_000;

const KEY_LENGTH = 32;

/** 18 bytes, as libpq's: 24 characters of base64, which hold no comma. */
const NONCE_LENGTH = 18;

const derive = promisify(pbkdf2);

/**
 * One exchange: {@link first}, {@link final}, {@link verify}, in this order. Every error means that
 * the server is not to be trusted.
 */
export class ScramExchange {
  readonly mechanism: typeof SCRAM | typeof SCRAM_PLUS;
  readonly #header: string;
  readonly #binding: Buffer;
  readonly #password: Buffer;
  readonly #nonce: string;
  #serverSignature: Buffer | undefined;

  constructor(
    password: Buffer,
    binding: ChannelBinding,
    nonce: string = randomBytes(NONCE_LENGTH).toString('base64'),
  ) {
    const bound = typeof binding === 'object';
    this.mechanism = bound ? SCRAM_PLUS : SCRAM;
    this.#header = bound ? 'p=tls-server-end-point,,' : binding === 'not offered' ? 'y,,' : 'n,,';
    this.#binding = bound ? binding.endPoint : Buffer.alloc(0);
    this.#password = password;
    this.#nonce = nonce;
  }

  /** The client-first-message. */
  first(): Buffer {
    return Buffer.from(this.#header + this.#firstBare());
  }

  /**
   * The client-final-message for the server-first-message.
   *
   * @throws Error when that is malformed, does not continue our nonce, or asks for too many
   *   iterations
   */
  async final(serverFirst: Buffer): Promise<Buffer> {
    const text = serverFirst.toString('latin1');
    const { nonce, salt, iterations } = parseServerFirst(text);
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) {
      throw new Error('SCRAM: the server did not continue the nonce');
    }
    const channel = Buffer.concat([Buffer.from(this.#header), this.#binding]).toString('base64');
    const withoutProof = `c=${channel},r=${nonce}`;
    const exchange = `${this.#firstBare()},${text},${withoutProof}`;
    const { proof, serverSignature } = await prove(
      this.#password,
      salt,
      iterations,
      Buffer.from(exchange, 'latin1'),
    );
    this.#serverSignature = serverSignature;
    return Buffer.from(`${withoutProof},p=${proof.toString('base64')}`, 'latin1');
  }

  /**
   * Checks the server-final-message: that the server knows the password.
   *
   * @throws Error when it does not
   */
  verify(serverFinal: Buffer): void {
    const [, encoded = ''] = /^v=([^,]*)(?:,|$)/.exec(serverFinal.toString('latin1')) ?? [];
    const signature = decodeBase64(encoded);
    if (
      !this.#serverSignature ||
      signature?.length !== KEY_LENGTH ||
      !timingSafeEqual(signature, this.#serverSignature)
    ) {
      throw new Error('SCRAM: the server did not prove that it knows the password');
    }
  }

  #firstBare(): string {
    return `n=,r=${this.#nonce}`;
  }
}

/**
 * The proof that goes to the server and the signature that has to come back (RFC 5802, section 3).
 */
export async function prove(
  password: Buffer,
  salt: Buffer,
  iterations: number,
  exchange: Buffer,
): Promise<{ readonly proof: Buffer; readonly serverSignature: Buffer }> {
  const salted = await derive(preparePassword(password), salt, iterations, KEY_LENGTH, 'sha256');
  const clientKey = hmac(salted, 'Client Key');
  const clientSignature = hmac(createHash('sha256').update(clientKey).digest(), exchange);
  const proof = Buffer.from(clientKey.map((byte, at) => byte ^ (clientSignature[at] ?? 0)));
  return { proof, serverSignature: hmac(hmac(salted, 'Server Key'), exchange) };
}

/** Bytes. Half a millisecond at the worst. */
const PREPARED_LIMIT = 1024;

/**
 * The password as it is hashed: SASLprep (RFC 4013), or the bytes as they are where that is not
 * possible, because PostgreSQL takes passwords in any encoding (manual 54.3.1). Plain ASCII is its
 * own preparation. A longer password than any real one is not prepared either: normalising takes
 * quadratic time for text that is made for it, and the text may be a stranger's.
 */
export function preparePassword(password: Buffer): Buffer {
  if (password.length > PREPARED_LIMIT || password.every((byte) => byte < 0x80)) return password;
  try {
    return Buffer.from(
      saslprep(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(password)),
    );
  } catch {
    return password;
  }
}

function parseServerFirst(text: string): { nonce: string; salt: Buffer; iterations: number } {
  const [, nonce = '', encodedSalt = '', count = ''] =
    /^r=([\x21-\x2b\x2d-\x7e]+),s=([^,]+),i=([1-9]\d{0,9})(?:,|$)/.exec(text) ?? [];
  const salt = decodeBase64(encodedSalt);
  if (nonce === '' || salt === undefined) throw new Error('SCRAM: malformed server-first-message');
  const iterations = Number(count);
  if (iterations > ITERATION_LIMIT)
    throw new Error(
      `SCRAM: the server asks for ${iterations} iterations, more than ${ITERATION_LIMIT}`,
    );
  return { nonce, salt, iterations };
}

/** Node.js reads over what is no base64; here it is undefined. */
function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return text !== '' && bytes.toString('base64') === text ? bytes : undefined;
}

function hmac(key: Buffer, data: string | Buffer): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

/*
 * SCRAM on the wire: the choice of the mechanism and the three round trips of it. Used with the
 * front-end's own passwords, and with that of a native login whose exchange cannot be relayed.
 */

/**
 * The mechanisms that an AuthenticationSASL offers: strings, ended by an empty one (manual 54.7).
 */
export function parseMechanisms(data: Buffer): string[] {
  const names = data.toString('latin1').split('\0');
  return names.slice(0, names.indexOf(''));
}

/**
 * Performs SCRAM as an AuthenticationSASL asks for it, until the server has proved itself;
 * AuthenticationOk is still to come.
 *
 * @throws PgError 08P01 when no usable mechanism is offered, or for a server that cannot prove that
 *   it knows the password; as readRequest
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

/**
 * libpq's rules (fe-auth.c, pg_SASL_init): the binding is used wherever it is offered and can be
 * had.
 */
function chooseBinding(
  { certificate, label }: BackendLeg,
  offered: readonly string[],
): ChannelBinding {
  if (offered.includes(SCRAM_PLUS)) {
    // A server offers it on TLS only: somebody in between has taken TLS away.
    if (!certificate) throw protocolViolation(label, `${SCRAM_PLUS} is offered without TLS`);
    const endPoint = endPointHash(certificate);
    if (endPoint) return { endPoint };
  }
  if (!offered.includes(SCRAM)) {
    throw protocolViolation(
      label,
      `of the mechanisms offered (${offered.join(' ')}) none can be used`,
    );
  }
  return certificate && !offered.includes(SCRAM_PLUS) ? 'not offered' : 'impossible';
}
