/**
 * A token as text, taken apart: compact JWS (RFC 7515 section 7.1) around a set of JWT claims (RFC
 * 7519). Nothing here is verified yet, and everything was written by a stranger. What is optional
 * and unused (extensions, encryption, nesting) is refused rather than ignored, so that no other
 * reader of the token can understand it differently.
 */
import { errorText } from '../lib/errors.ts';
import { type JsonObject, parseJsonObject } from '../lib/json.ts';
import { CheckFailure } from './refusals.ts';

/** The longest password that a client may send, in bytes; base64url is one byte a character. */
const TOKEN_LIMIT = 65_535;

/**
 * The largest time value of ECMAScript in seconds: beyond it a date can be neither printed nor
 * compared.
 */
const DATE_LIMIT = 8.64e12;

/** A token that is well-formed, and nothing more. */
export interface Token {
  /** The text, for the signature. A credential: never shown. */
  readonly compact: string;
  readonly algorithm: string;
  /** Undefined when the header names no key. */
  readonly kid: string | undefined;
  /** The claim `iss`; empty when there is none. */
  readonly issuer: string;
  /** The claim `aud`, as a list whatever its form. */
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
  // One part more than there may be: a password of dots must not become as many strings.
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
 * The bytes of one part. Only the one canonical encoding is accepted: without it a token has many
 * spellings, of which a cache or a revocation list knows one.
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
 * `jwk`, `jku`, `x5c` and `x5u` are not looked at: a key comes from the issuer, never from the
 * token.
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
  // RFC 7515 section 4.1.11: an extension that the recipient does not understand makes the JWS
  // invalid, and we understand none. `b64` is one (RFC 7797), which some senders leave out of
  // `crit`.
  if (header.has('crit') || header.has('b64')) {
    throw malformed('the header asks for an extension');
  }
  // RFC 7519 section 5.2; a media type may leave its "application/" out (RFC 7515 section 4.1.10).
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
 * A NumericDate (RFC 7519 section 2) in milliseconds; its seconds may have a fraction. JSON.parse
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
