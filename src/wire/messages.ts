/**
 * Messages with a type byte: those that the front-end writes to a client, and the parts of a
 * client's or backend's messages that a login has to read. Layouts are those of the manual, 54.7
 * "Message Formats" and 54.8 "Error and Notice Message Fields".
 */
import { PgError } from '../lib/errors.ts';
import { AUTHENTICATION } from './constants.ts';

/** A message of the given type; the parts, one behind the other, are its body. */
export function formatMessage(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = parts.reduce((length, part) => length + part.length, 0);
  const header = Buffer.alloc(5);
  header.write(type, 0, 'latin1');
  header.writeUInt32BE(body + 4, 1);
  return Buffer.concat([header, ...parts]);
}

/** AuthenticationOk. */
export function authenticationOk(): Buffer {
  return formatMessage('R', int32(AUTHENTICATION.ok));
}

/** AuthenticationCleartextPassword: the client answers with its password, here a token. */
export function authenticationCleartextPassword(): Buffer {
  return formatMessage('R', int32(AUTHENTICATION.cleartextPassword));
}

/**
 * NegotiateProtocolVersion: the newest version that is spoken here, and the `_pq_.` options that
 * were not understood.
 *
 * @param version the full version, 196608 for 3.0: the server sends it so since 9.3, although the
 *   manual once said the minor alone
 */
export function negotiateProtocolVersion(version: number, names: readonly string[]): Buffer {
  return formatMessage(
    'v',
    int32(version),
    int32(names.length),
    ...names.map((name) => cstring(name, 'latin1')),
  );
}

/** ErrorResponse: what a client may know of an error, and no more. */
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

/** NoticeResponse: a WARNING, with the SQLSTATE that means no more than that. */
export function warningResponse(message: string): Buffer {
  return fieldsMessage('N', [
    ['S', 'WARNING'],
    ['V', 'WARNING'],
    ['C', '01000'],
    ['M', message],
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
 * @throws PgError 08P01 when the NUL is missing or stands before the end
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

/**
 * The fields of an ErrorResponse or NoticeResponse: code letter → text. Repeated and unfinished
 * fields are dropped.
 */
export function parseErrorFields(body: Buffer): Map<string, string> {
  const fields = new Map<string, string>();
  let at = 0;
  while (at < body.length && body[at] !== 0) {
    const end = body.indexOf(0, at);
    if (end < 0) break;
    fields.set(body.toString('latin1', at, at + 1), body.toString('utf8', at + 1, end));
    at = end + 1;
  }
  return fields;
}

/**
 * The code of an AuthenticationRequest and what follows it.
 *
 * @throws PgError 08P01 when it has no code
 */
export function parseAuthentication(body: Buffer): { code: number; data: Buffer } {
  if (body.length < 4) throw malformedBackendMessage('an AuthenticationRequest without a code');
  return { code: body.readUInt32BE(0), data: body.subarray(4) };
}

/**
 * Name and value of a ParameterStatus.
 *
 * @throws PgError 08P01 when it is not two strings
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

/** A number of four bytes, as lengths, codes and OIDs are. */
export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A string of the protocol, which ends with a NUL; a NUL in the text is left out. */
export function cstring(text: string, encoding: BufferEncoding = 'utf8'): Buffer {
  return Buffer.from(`${text.replaceAll('\0', '')}\0`, encoding);
}
