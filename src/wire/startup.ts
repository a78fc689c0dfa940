/**
 * The first packet of a connection, which has no type byte: a startup packet, or one of the
 * requests that stand in its place. Values are kept as bytes. A database name may be in any
 * encoding, and what is not understood here has to arrive unchanged.
 */
import { PgError } from '../lib/errors.ts';
import { CANCEL_KEY_LIMIT, CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST } from './constants.ts';
import { dropOptions, optionNames, takeJwtOption } from './options.ts';

/** One name and value of a startup packet. */
export interface StartupParameter {
  /** Decoded as latin1, so that every byte survives. */
  readonly name: string;
  readonly value: Buffer;
}

/** A startup packet proper. */
export interface StartupPacket {
  readonly kind: 'startup';
  /** Major in the upper, minor in the lower 16 bits. */
  readonly version: number;
  /** In the order of the packet, repetitions included. */
  readonly parameters: readonly StartupParameter[];
}

/**
 * A request to cancel what another connection is running; the whole packet, as it goes to the
 * backend.
 */
export interface CancelRequest {
  readonly kind: 'cancel';
  readonly packet: Buffer;
}

/** What the first packet of a connection can be. */
export type FirstPacket =
  | StartupPacket
  | CancelRequest
  | { readonly kind: 'ssl' }
  | { readonly kind: 'gss' };

/**
 * Reads the body of a first packet, without its length word.
 *
 * @throws PgError 0A000 for another major version, 08P01 for a packet that breaks its layout
 *   (manual 54.7, StartupMessage)
 */
export function parseFirstPacket(body: Buffer): FirstPacket {
  if (body.length < 4) throw malformed('invalid length of startup packet');
  const code = body.readUInt32BE(0);
  switch (code) {
    case SSL_REQUEST:
      return lengthOf(body, 4, { kind: 'ssl' });
    case GSSENC_REQUEST:
      return lengthOf(body, 4, { kind: 'gss' });
    case CANCEL_REQUEST:
      return parseCancel(body);
  }
  if (code >>> 16 !== 3) {
    throw new PgError({
      code: 'unsupported_protocol',
      message: `unsupported frontend protocol ${code >>> 16}.${code & 0xffff}: server supports 3.0 to 3.0`,
    });
  }
  return { kind: 'startup', version: code, parameters: parseParameters(body.subarray(4)) };
}

function parseCancel(body: Buffer): CancelRequest {
  const key = body.length - 8;
  if (key < 4 || key > CANCEL_KEY_LIMIT) throw malformed('invalid length of cancel request');
  return { kind: 'cancel', packet: Buffer.concat([lengthWord(body.length), body]) };
}

function parseParameters(bytes: Buffer): StartupParameter[] {
  const parameters: StartupParameter[] = [];
  let at = 0;
  while (at < bytes.length && bytes[at] !== 0) {
    const nameEnd = bytes.indexOf(0, at);
    const valueEnd = nameEnd < 0 ? -1 : bytes.indexOf(0, nameEnd + 1);
    if (valueEnd < 0)
      throw malformed('invalid startup packet layout: expected terminator as last byte');
    parameters.push({
      name: bytes.toString('latin1', at, nameEnd),
      value: bytes.subarray(nameEnd + 1, valueEnd),
    });
    at = valueEnd + 1;
  }
  if (at !== bytes.length - 1)
    throw malformed('invalid startup packet layout: expected terminator as last byte');
  return parameters;
}

function lengthOf<T>(body: Buffer, length: number, packet: T): T {
  if (body.length !== length) throw malformed('invalid length of startup packet');
  return packet;
}

function malformed(message: string): PgError {
  return new PgError({ code: 'malformed_startup', message });
}

function lengthWord(bodyLength: number): Buffer {
  const word = Buffer.alloc(4);
  word.writeUInt32BE(bodyLength + 4);
  return word;
}

/** A startup packet for the backend. */
export function formatStartup(version: number, parameters: readonly StartupParameter[]): Buffer {
  const word = Buffer.alloc(4);
  word.writeUInt32BE(version);
  const nul = Buffer.from([0]);
  const pairs = parameters.flatMap(({ name, value }) => [
    Buffer.from(name, 'latin1'),
    nul,
    value,
    nul,
  ]);
  const body = Buffer.concat([word, ...pairs, nul]);
  return Buffer.concat([lengthWord(body.length), body]);
}

/** The request for TLS, as the front-end sends it to a backend. */
export const sslRequest: Buffer = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);

/*
 * What the parameters of a startup packet say about the login, and what of them goes on to the
 * backend. The names that decide (`user`, `database`, `options`) are read in any case of letters:
 * CockroachDB does so, and a second `USER` that slipped past would be another user than the one
 * that was checked.
 */

/** A startup packet, understood. */
export interface LoginParameters {
  /** As sent; undefined or empty when the client left it out. */
  readonly user: Buffer | undefined;
  readonly database: Buffer | undefined;
  /** Whether the options carry `crdb:jwt_auth_enabled` with a true value. */
  readonly tokenLogin: boolean;
  /** Whether the session would begin as another role than the one that logged in. */
  readonly namesRole: boolean;
  /** The `_pq_.` protocol options, none of which is understood here (manual 54.2.1). */
  readonly protocolOptions: readonly string[];
  /**
   * For the backend: everything but `user` and `database`, unchanged and in order, without what was
   * meant for the front-end.
   */
  readonly others: readonly StartupParameter[];
}

/**
 * Names that never reach a backend. A session revival token is a login of its own, and a remote
 * address is to be told by the front-end alone (both are CockroachDB's own proxy's); `_pq_.`
 * options belong to the connection to the client.
 */
function isWithheld(name: string): boolean {
  return (
    name === 'crdb:session_revival_token_base64' ||
    name === 'crdb:remote_addr' ||
    name.startsWith('_pq_.')
  );
}

/**
 * Reads the parameters of a startup packet. Of a name that is repeated the last value counts, as in
 * the server.
 *
 * @throws PgError 22023 or 08P01 for a JWT option that cannot be read
 */
export function readParameters(parameters: readonly StartupParameter[]): LoginParameters {
  const last = (wanted: string): Buffer | undefined =>
    parameters.findLast(({ name }) => name.toLowerCase() === wanted)?.value;
  const options = takeJwtOption(last('options')?.toString('latin1') ?? '');
  const forwarded = dropOptions(options.rest, isWithheld);
  const others = parameters.filter(
    ({ name }) => !isDecisive(name.toLowerCase()) && !isWithheld(name.toLowerCase()),
  );
  const names = new Set([
    ...others.map(({ name }) => name.toLowerCase()),
    ...optionNames(forwarded),
  ]);
  return {
    user: last('user'),
    database: last('database'),
    tokenLogin: options.enabled ?? false,
    namesRole: names.has('role') || names.has('session_authorization'),
    protocolOptions: parameters
      .map(({ name }) => name)
      .filter((name) => name.toLowerCase().startsWith('_pq_.')),
    others:
      forwarded === ''
        ? others
        : [...others, { name: 'options', value: Buffer.from(forwarded, 'latin1') }],
  };
}

function isDecisive(name: string): boolean {
  return name === 'user' || name === 'database' || name === 'options';
}

/** The parameters of the backend's startup packet for this user. */
export function backendParameters(login: LoginParameters, user: Buffer): StartupParameter[] {
  const database =
    login.database === undefined ? [] : [{ name: 'database', value: login.database }];
  return [{ name: 'user', value: user }, ...database, ...login.others];
}
