/**
 * The client's messages of SASL OAUTHBEARER (RFC 7628, 3.1), as PostgreSQL 18 reads them: what it
 * takes and refuses, and its texts, are those of the server's auth-sasl.c and auth-oauth.c.
 *
 *     n,,^Aauth=Bearer <token>^A^A
 *
 * Text is handled as latin1, so that no byte changes. No message repeats more than one character of
 * what the client sent.
 */
import { PgError } from '../lib/errors.ts';

/** The mechanism's name (RFC 7628, 8). */
export const OAUTHBEARER = 'OAUTHBEARER';

/** Separates keys and values, and ends the message: kvsep of RFC 7628, 3.1. */
const SEPARATOR = '\x01';

/** RFC 7628, 3.1: 1*(ALPHA), and *(VCHAR / SP / HTAB / CR / LF). */
const KEY = /^[a-z]+$/i;
const VALUE = /^[\x21-\x7e \t\r\n]*$/;

/** RFC 6750, 2.1. The scheme is in any case of letters, as in HTTP. */
const BEARER = /^bearer +([\w.~+/-]+=*)$/i;

/**
 * Reads the body of a SASLInitialResponse (manual 54.7).
 *
 * @returns the client's first message; undefined if it waits for an empty challenge
 * @throws PgError 08P01 for another mechanism, or a body that breaks the layout
 */
export function parseInitialResponse(body: Buffer): Buffer | undefined {
  const nameEnd = body.indexOf(0);
  if (nameEnd < 0) throw malformedBody('invalid string in message');
  if (body.toString('latin1', 0, nameEnd) !== OAUTHBEARER) {
    throw new PgError({
      code: 'wrong_sasl_mechanism',
      message: 'client selected an invalid SASL authentication mechanism',
    });
  }
  const at = nameEnd + 1;
  if (body.length < at + 4) throw malformedBody('insufficient data left in message');
  const length = body.readInt32BE(at);
  const response = body.subarray(at + 4);
  if (length === -1 && response.length === 0) return undefined;
  if (length > response.length) throw malformedBody('insufficient data left in message');
  if (length !== response.length) throw malformedBody('invalid message format');
  return response;
}

/**
 * Reads the client's first message.
 *
 * @returns the value of `auth`; empty if the client asks where to get a token
 * @throws PgError 08P01 for a malformed message, 0A000 for an authorization identity
 */
export function parseBearerMessage(message: Buffer): string {
  if (message.length === 0) throw malformed('The message is empty.');
  if (message.includes(0)) throw malformed('Message length does not match input length.');
  const text = message.toString('latin1');
  const flag = text.charAt(0);
  if (flag === 'p') {
    throw malformed(
      'The server does not support channel binding for OAuth, ' +
        'but the client message includes channel binding data.',
    );
  }
  if (flag !== 'n' && flag !== 'y') {
    throw malformed(`Unexpected channel-binding flag "${shown(flag)}".`);
  }
  const afterFlag = text.charAt(1);
  if (afterFlag !== ',') {
    throw malformed(`Comma expected, but found character "${shown(afterFlag)}".`);
  }
  const attribute = text.charAt(2);
  if (attribute === 'a') {
    throw new PgError({
      code: 'authorization_identity',
      message: 'client uses authorization identity, but it is not supported',
    });
  }
  if (attribute !== ',') {
    throw malformed(`Unexpected attribute "${shown(attribute)}" in client-first-message.`);
  }
  const afterHeader = text.charAt(3);
  if (afterHeader !== SEPARATOR) {
    throw malformed(`Key-value separator expected, but found character "${shown(afterHeader)}".`);
  }
  return parsePairs(text, 4);
}

/** The value of `auth` among the pairs. Other keys, such as host and port, are ignored. */
function parsePairs(text: string, start: number): string {
  let auth: string | undefined;
  for (let at = start; at < text.length; ) {
    const end = text.indexOf(SEPARATOR, at);
    if (end < 0) throw malformed('Message contains an unterminated key/value pair.');
    if (end === at) return endOf(text, end, auth);
    const equals = text.indexOf('=', at);
    if (equals < 0 || equals > end) throw malformed('Message contains a key without a value.');
    const key = text.slice(at, equals);
    if (key === '') throw malformed('Message contains an empty key name.');
    if (!KEY.test(key)) throw malformed('Message contains an invalid key name.');
    const value = text.slice(equals + 1, end);
    if (!VALUE.test(value)) throw malformed('Message contains an invalid value.');
    if (key === 'auth') {
      if (auth !== undefined) throw malformed('Message contains multiple auth values.');
      auth = value;
    }
    at = end + 1;
  }
  throw malformed('Message did not contain a final terminator.');
}

function endOf(text: string, end: number, auth: string | undefined): string {
  if (auth === undefined) throw malformed('Message does not contain an auth value.');
  if (end + 1 < text.length) {
    throw malformed('Message contains additional data after the final terminator.');
  }
  return auth;
}

/** The token of an `auth` value. Undefined for another scheme, or for what cannot be a token. */
export function bearerToken(auth: string): string | undefined {
  return BEARER.exec(auth)?.[1];
}

/**
 * Checks the client's answer to a failure: a single separator (RFC 7628, 3.2.3).
 *
 * @throws PgError 08P01
 */
export function checkFailureResponse(message: Buffer): void {
  if (message.length === 0) throw malformed('The message is empty.');
  if (message.toString('latin1') !== SEPARATOR) {
    throw malformed('Client did not send a kvsep response.');
  }
}

/** One character, as sanitize_char of the server shows it. Past the end there is a NUL. */
function shown(character: string): string {
  const code = character === '' ? 0 : character.charCodeAt(0);
  if (code >= 0x21 && code <= 0x7e) return `'${character}'`;
  return `0x${code.toString(16).padStart(2, '0')}`;
}

function malformed(detail: string): PgError {
  return new PgError({
    code: 'malformed_oauthbearer',
    message: 'malformed OAUTHBEARER message',
    detail,
    reason: `malformed OAUTHBEARER message: ${detail}`,
  });
}

/** The server's texts for a message that breaks its layout (pqformat.c). */
function malformedBody(message: string): PgError {
  return new PgError({ code: 'malformed_sasl_response', message });
}
