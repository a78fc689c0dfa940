/**
 * Messages with a type byte: what the front-end writes to a client, and what a login reads of a
 * client's or backend's messages. Layouts are those of the manual, 54.7 "Message Formats" and 54.8
 * "Error and Notice Message Fields". pg-protocol has only the client's side: it formats what the
 * front-end sends to a backend, and parses what a backend reports.
 */
import { DatabaseError } from 'pg-protocol/dist/messages.js';
import { Parser } from 'pg-protocol/dist/parser.js';
import { PgError } from '../lib/errors.ts';
import { AUTHENTICATION } from './constants.ts';

/** A message of the given type. Its body is the parts, one behind the other. */
export function formatMessage(type: string, ...parts: readonly Buffer[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 5);
  const message = Buffer.allocUnsafe(length);
  message[0] = type.charCodeAt(0);
  message.writeUInt32BE(length - 1, 1);
  let at = 5;
  for (const part of parts) at += part.copy(message, at);
  return message;
}

/** AuthenticationOk. */
export function authenticationOk(): Buffer {
  return formatMessage('R', int32(AUTHENTICATION.ok));
}

const CLEARTEXT_PASSWORD = formatMessage('R', int32(AUTHENTICATION.cleartextPassword));

/** AuthenticationCleartextPassword. The client answers with its password, here a token. */
export function authenticationCleartextPassword(): Buffer {
  return CLEARTEXT_PASSWORD;
}

/** AuthenticationSASL: offers one mechanism. */
export function authenticationSasl(mechanism: string): Buffer {
  return formatMessage('R', int32(AUTHENTICATION.sasl), cstring(mechanism), Buffer.from([0]));
}

/** AuthenticationSASLContinue. */
export function authenticationSaslContinue(challenge: string): Buffer {
  return formatMessage('R', int32(AUTHENTICATION.saslContinue), Buffer.from(challenge));
}

/**
 * NegotiateProtocolVersion: the newest version that the front-end supports, and the `_pq_.` options
 * that it does not know.
 *
 * @param version the full version, 196608 for 3.0. PostgreSQL sends it in full since 9.3, although
 *   older manuals say that it is the minor version alone
 */
export function negotiateProtocolVersion(version: number, names: readonly string[]): Buffer {
  return formatMessage(
    'v',
    int32(version),
    int32(names.length),
    ...names.map((name) => cstring(name, 'latin1')),
  );
}

/** ErrorResponse: what a client may see of an error. The private reason is not in it. */
export function errorResponse(error: PgError, severity: 'FATAL' | 'ERROR' = 'FATAL'): Buffer {
  return fieldsMessage('E', [
    ['S', severity],
    ['V', severity],
    ['C', error.sqlstate],
    ['M', error.message],
    ['D', error.detail],
    ['H', error.hint],
    ['P', error.position?.toString()],
  ]);
}

/** The SQLSTATEs of notices that have no meaning of their own. */
const NOTICE_CODES = { WARNING: '01000', NOTICE: '00000' } as const;

/** NoticeResponse: a WARNING or a NOTICE. */
export function noticeResponse(
  severity: keyof typeof NOTICE_CODES,
  message: string,
  { detail, hint }: { readonly detail?: string; readonly hint?: string } = {},
): Buffer {
  return fieldsMessage('N', [
    ['S', severity],
    ['V', severity],
    ['C', NOTICE_CODES[severity]],
    ['M', message],
    ['D', detail],
    ['H', hint],
  ]);
}

function fieldsMessage(
  type: 'E' | 'N',
  fields: readonly (readonly [string, string | undefined])[],
): Buffer {
  const parts = fields.flatMap(([field, text]) =>
    text === undefined ? [] : [cstring(field + text)],
  );
  return formatMessage(type, ...parts, Buffer.from([0]));
}

/**
 * The password of a PasswordMessage: the bytes before the NUL at its end.
 *
 * @throws PgError 08P01 if there is no NUL, or one before the end
 */
export function parsePassword(body: Buffer): Buffer {
  if (body.indexOf(0) !== body.length - 1 || body.length === 0) {
    throw new PgError({
      code: 'malformed_password',
      message: 'invalid password packet size',
    });
  }
  return body.subarray(0, -1);
}

/** The fields of an ErrorResponse or NoticeResponse that are read; undefined: not sent. */
export type ErrorFields = Readonly<
  Pick<DatabaseError, 'severity' | 'code' | 'message' | 'detail' | 'hint' | 'position' | 'routine'>
>;

/**
 * Parses the body of an ErrorResponse or NoticeResponse. Of a repeated field the last value counts.
 * A field without an end is ignored, and the message is empty if there is none.
 */
export function parseErrorFields(body: Buffer): ErrorFields {
  // The parser never returns from a list of fields without an end, so the list is ended here.
  const fields = body.subarray(0, body.lastIndexOf(0) + 1);
  let parsed: unknown;
  // The parser calls back before it returns.
  new Parser().parse(formatMessage('E', fields, Buffer.from([0])), (message) => {
    parsed = message;
  });
  if (!(parsed instanceof DatabaseError)) throw new Error('not an ErrorResponse');
  return parsed;
}

/** An ErrorResponse with one more hint, behind its own one. All other fields keep their bytes. */
export function addHint(message: Buffer, hint: string): Buffer {
  const fields: Buffer[] = [];
  let own = '';
  for (let at = 5; message[at] !== 0 && at < message.length; ) {
    const end = message.indexOf(0, at) + 1;
    if (end === 0) break;
    const field = message.subarray(at, end);
    if (field[0] === HINT) own = `${field.toString('utf8', 1, field.length - 1)} `;
    else fields.push(field);
    at = end;
  }
  return formatMessage('E', ...fields, cstring(`H${own}${hint}`), Buffer.from([0]));
}

/** The field H of an ErrorResponse. */
const HINT = 0x48;

/**
 * The code of an AuthenticationRequest and what follows it. pg-protocol's parser is not used: it
 * takes a cleartext request with a surplus byte, or an MD5 request with a short salt, for
 * AuthenticationOk.
 *
 * @throws PgError 08P01 if there is no code
 */
export function parseAuthentication(body: Buffer): { code: number; data: Buffer } {
  if (body.length < 4) throw malformedBackendMessage('an AuthenticationRequest without a code');
  return { code: body.readUInt32BE(0), data: body.subarray(4) };
}

/**
 * Name and value of a ParameterStatus.
 *
 * @throws PgError 08P01 if it is not two strings
 */
export function parseParameterStatus(body: Buffer): { name: string; value: string } {
  const nameEnd = body.indexOf(0);
  const valueEnd = nameEnd < 0 ? -1 : body.indexOf(0, nameEnd + 1);
  if (valueEnd !== body.length - 1 || valueEnd < 0)
    throw malformedBackendMessage('a ParameterStatus that is not two strings');
  return {
    name: body.toString('utf8', 0, nameEnd),
    value: body.toString('utf8', nameEnd + 1, valueEnd),
  };
}

function malformedBackendMessage(reason: string): PgError {
  return new PgError({
    code: 'malformed_backend_message',
    message: 'the backend sent a malformed message',
    reason,
    fault: 'backend',
  });
}

/** A number of four bytes, such as a length, a code or an OID. */
export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A string of the protocol, which ends with a NUL. A NUL in the text is left out. */
export function cstring(text: string, encoding: BufferEncoding = 'utf8'): Buffer {
  return Buffer.from(`${text.replaceAll('\0', '')}\0`, encoding);
}
