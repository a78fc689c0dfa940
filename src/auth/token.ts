/**
 * Parses a token: a compact JWS (RFC 7515 section 7.1) around a set of JWT claims (RFC 7519).
 * Nothing is verified yet, so nothing in the result can be trusted. Optional features that we do
 * not support (extensions, encryption, nesting) are refused and not ignored, so that no other
 * reader of the token can understand it differently.
 */
import { errorText } from '../lib/errors.ts';
import { type JsonObject, parseJsonObject } from '../lib/json.ts';
import { CheckFailure } from './refusals.ts';

/** The longest password that a client may send, in bytes. Base64url has one byte a character. */
const TOKEN_LIMIT = 65_535;

/** Of a header that is only looked for, in characters. Those in use have some hundred. */
const HEADER_LIMIT = 4096;

/** The largest time value of ECMAScript, in seconds. A later date cannot be printed. */
const DATE_LIMIT = 8.64e12;

/** A token that is well-formed, but not verified. */
export interface Token {
  /** The whole text. It is a credential and never shown. */
  readonly compact: string;
  readonly algorithm: string;
  /** The key ID. Undefined if the header names none. */
  readonly kid: string | undefined;
  /** The claim `iss`. Empty if there is none. */
  readonly issuer: string;
  /** The claim `aud`, as a list in either form. */
  readonly audiences: readonly string[];
  /** The claim `exp` in milliseconds since the epoch. */
  readonly expiresAt: number | undefined;
  /** The claim `nbf` in milliseconds since the epoch. */
  readonly notBefore: number | undefined;
  /** The claim `iat` in milliseconds since the epoch. */
  readonly issuedAt: number | undefined;
  readonly claims: JsonObject;
}

/**
 * Takes a token apart.
 * @throws CheckFailure of check `token`, which says what is wrong without repeating the token.
 */
export function parseToken(compact: string): Token {
  if (compact.length > TOKEN_LIMIT) {
    throw malformed(`the token is longer than ${TOKEN_LIMIT} bytes`);
  }
  // The limit keeps a password of many dots from becoming as many strings.
  const [header, payload, signature, ...surplus] = compact.split('.', 4);
  if (
    header === undefined ||
    payload === undefined ||
    signature === undefined ||
    surplus.length > 0
  ) {
    throw malformed('the token is not three parts separated by dots');
  }
  const algorithmAndKey = readHeader(parseObject('header', header));
  decodePart('signature', signature);
  return { compact, ...algorithmAndKey, ...readClaims(parseObject('payload', payload)) };
}

/**
 * Whether a password of the database's own is meant to be a token: it has three parts, and the
 * first one is a header. No more is decoded, and nothing is checked.
 */
export function isMeantAsToken(password: Buffer): boolean {
  if (password.length > TOKEN_LIMIT) return false;
  const [header = '', ...others] = password.toString('latin1').split('.', 4);
  if (others.length !== 2 || header.length > HEADER_LIMIT) return false;
  try {
    return parseJsonObject(Buffer.from(header, 'base64url')).has('alg');
  } catch {
    return false;
  }
}

/**
 * The bytes of one part. Only the canonical encoding is accepted. Otherwise one token would have
 * many spellings, of which a cache or a revocation list knows one.
 */
function decodePart(part: string, text: string): Buffer {
  const bytes = Buffer.from(text, 'base64url');
  if (text === '' || bytes.toString('base64url') !== text) {
    throw malformed(`the ${part} is not unpadded base64url`);
  }
  return bytes;
}

function parseObject(part: string, text: string): JsonObject {
  const bytes = decodePart(part, text);
  try {
    return parseJsonObject(bytes);
  } catch (error) {
    throw malformed(`the ${part} ${errorText(error)}`);
  }
}

/**
 * `jwk`, `jku`, `x5c` and `x5u` are not read: keys come from the issuer and never from the token.
 */
function readHeader(header: JsonObject): Pick<Token, 'algorithm' | 'kid'> {
  const algorithm = header.get('alg');
  if (typeof algorithm !== 'string') {
    throw malformed('the header has no "alg" that is a string');
  }
  if (algorithm.toLowerCase() === 'none') {
    throw malformed('the token is not signed');
  }
  if (header.has('enc') || header.has('zip')) {
    throw malformed('the token is encrypted');
  }
  // RFC 7515 section 4.1.11: an extension that the recipient does not support makes the JWS
  // invalid. We support none. Some senders leave `b64` (RFC 7797) out of `crit`.
  if (header.has('crit') || header.has('b64')) {
    throw malformed('the header asks for an extension');
  }
  // RFC 7519 section 5.2. A media type may omit "application/" (RFC 7515 section 4.1.10).
  if (/^(application\/)?jwt$/i.test(readString(header, 'cty') ?? '')) {
    throw malformed('the token holds another token');
  }
  return { algorithm, kid: readString(header, 'kid') };
}

function readClaims(claims: JsonObject): Omit<Token, 'compact' | 'algorithm' | 'kid'> {
  readString(claims, 'sub');
  return {
    issuer: readString(claims, 'iss') ?? '',
    audiences: readAudiences(claims.get('aud')),
    expiresAt: readDate(claims, 'exp'),
    notBefore: readDate(claims, 'nbf'),
    issuedAt: readDate(claims, 'iat'),
    claims,
  };
}

function readString(members: JsonObject, name: string): string | undefined {
  const value = members.get(name);
  if (value !== undefined && typeof value !== 'string') {
    throw malformed(`"${name}" is not a string`);
  }
  return value;
}

function readAudiences(value: unknown): readonly string[] {
  const audiences: readonly unknown[] =
    value === undefined ? [] : Array.isArray(value) ? value : [value];
  if (!audiences.every((audience) => typeof audience === 'string')) {
    throw malformed('"aud" is neither a string nor an array of strings');
  }
  return audiences;
}

/**
 * A NumericDate (RFC 7519 section 2) in milliseconds. Its seconds may have a fraction. JSON.parse
 * reads 1e400 as infinity.
 */
function readDate(claims: JsonObject, name: string): number | undefined {
  const seconds = claims.get(name);
  if (seconds === undefined) {
    return undefined;
  }
  if (typeof seconds !== 'number' || Math.abs(seconds) > DATE_LIMIT) {
    throw malformed(`"${name}" is not a number of seconds since 1970`);
  }
  return Math.floor(seconds * 1000);
}

function malformed(what: string): CheckFailure {
  return new CheckFailure('token', { found: what, detail: `token parsing failed: ${what}` });
}
