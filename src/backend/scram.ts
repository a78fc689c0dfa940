/**
 * The client's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), as PostgreSQL
 * uses them (manual 54.3.1). The user name is empty because the startup packet has it. The server
 * also proves that it knows the password, and the login fails if it does not. Used with the
 * front-end's own passwords, and for native logins that cannot be relayed.
 */

import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { saslprep } from '@mongodb-js/saslprep';
import { serialize } from 'pg-protocol';
import { errorText } from '../lib/errors.ts';
import { Limiter } from '../lib/limiter.ts';
import { AUTHENTICATION } from '../wire/constants.ts';
import { endPointHash } from './channel-binding.ts';
import {
  type AuthenticationRequest,
  type BackendConnection,
  expectRequest,
  write,
} from './connection.ts';
import { protocolViolation } from './errors.ts';

/** The two mechanisms. -PLUS binds the exchange to its TLS connection. */
export const SCRAM = 'SCRAM-SHA-256';
export const SCRAM_PLUS = 'SCRAM-SHA-256-PLUS';

/**
 * How the exchange is bound to TLS (RFC 5802, section 6): to the server's certificate; not, because
 * the server did not offer it; or not, because the client cannot. The server checks the second
 * claim, so an attacker cannot remove the offer.
 */
export type ChannelBinding = { readonly endPoint: Buffer } | 'not offered' | 'impossible';

/**
 * PostgreSQL's default is 4,096 iterations. 100,000 take 50 ms in a thread of Node.js' pool, which
 * also looks up the names of hosts: a dishonest server must not keep the threads.
 */
const ITERATION_LIMIT = 100_000;

/**
 * Derivations at once: half of the four threads of the pool, so that name lookups have the others.
 * The hosts of backends take turns.
 */
const derivations = new Limiter({ limit: 2 });

const KEY_LENGTH = 32;

/** Bytes, as in libpq: 24 characters of base64, which has no comma. */
const NONCE_LENGTH = 18;

const derive = promisify(pbkdf2);

/**
 * One exchange: {@link first}, {@link final}, {@link verify}, in this order. Every error means that
 * the server cannot be trusted.
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
  first(): string {
    return this.#header + this.#firstBare();
  }

  /**
   * The client-final-message for the server-first-message.
   *
   * @param host of the server, which waits in line for a thread with the others
   * @throws Error if that is malformed, does not continue the nonce, or asks for too many
   *   iterations; the signal's reason
   */
  async final(serverFirst: Buffer, host: string, signal: AbortSignal): Promise<string> {
    const text = serverFirst.toString('latin1');
    const { nonce, salt, iterations } = parseServerFirst(text);
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) {
      throw new Error('SCRAM: the server did not continue the nonce');
    }
    const channel = Buffer.concat([Buffer.from(this.#header), this.#binding]).toString('base64');
    const withoutProof = `c=${channel},r=${nonce}`;
    const exchange = `${this.#firstBare()},${text},${withoutProof}`;
    const permit = await derivations.wait(host, signal);
    try {
      const { proof, serverSignature } = await prove(
        this.#password,
        salt,
        iterations,
        Buffer.from(exchange, 'latin1'),
      );
      this.#serverSignature = serverSignature;
      return `${withoutProof},p=${proof.toString('base64')}`;
    } finally {
      permit.release();
    }
  }

  /**
   * Checks the server-final-message, with which the server proves that it knows the password.
   *
   * @throws Error if it does not
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

/** The client's proof, and the signature that the server has to send (RFC 5802, section 3). */
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

/** Bytes. Preparing that many takes half a millisecond at worst. */
const PREPARED_LIMIT = 1024;

/**
 * The password as it is hashed: prepared by SASLprep (RFC 4013), or unchanged if that fails,
 * because PostgreSQL accepts passwords in any encoding (manual 54.3.1). ASCII needs no preparation.
 * A password above the limit is not prepared: a client can send text for which normalisation takes
 * quadratic time.
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

/** Undefined for invalid base64, which Node.js ignores. */
function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return text !== '' && bytes.toString('base64') === text ? bytes : undefined;
}

function hmac(key: Buffer, data: string | Buffer): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

/** The mechanisms of an AuthenticationSASL: strings, ended by an empty one (manual 54.7). */
export function parseMechanisms(data: Buffer): string[] {
  const names = data.toString('latin1').split('\0');
  return names.slice(0, names.indexOf(''));
}

/**
 * Performs SCRAM as an AuthenticationSASL asks for it, until the server has proved that it knows
 * the password. AuthenticationOk comes after that.
 *
 * @throws PgError 08P01 if no usable mechanism is offered, or if the server cannot prove that it
 *   knows the password; otherwise as readRequest
 */
export async function performScram(
  connection: BackendConnection,
  request: AuthenticationRequest,
  password: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const binding = chooseBinding(connection, parseMechanisms(request.data));
  const exchange = new ScramExchange(password, binding);
  const first = serialize.sendSASLInitialResponseMessage(exchange.mechanism, exchange.first());
  await write(connection, first, signal);

  const serverFirst = await expectRequest(connection, AUTHENTICATION.saslContinue, signal);
  const { label } = connection;
  const final = await exchange.final(serverFirst.data, label, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw protocolViolation(connection.label, errorText(error), error);
  });
  signal.throwIfAborted();
  await write(connection, serialize.sendSCRAMClientFinalMessage(final), signal);

  const serverFinal = await expectRequest(connection, AUTHENTICATION.saslFinal, signal);
  try {
    exchange.verify(serverFinal.data);
  } catch (error) {
    throw protocolViolation(connection.label, errorText(error), error);
  }
}

/** As libpq (fe-auth.c, pg_SASL_init): channel binding is used if it is offered and possible. */
function chooseBinding(
  { certificate, label }: BackendConnection,
  offered: readonly string[],
): ChannelBinding {
  if (offered.includes(SCRAM_PLUS)) {
    // A server offers it on TLS only, so something in between has removed TLS.
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
