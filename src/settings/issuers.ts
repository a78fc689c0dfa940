/**
 * The issuers and audiences whose tokens are accepted. Each setting is one plain string or a JSON
 * array of strings; the issuers may also be a map to the addresses of their keys, as in
 * `{"issuer_jwks_map": {"https://idp.example": "https://idp.example/keys"}}`. A text that is not
 * JSON is one string. JSON of another form is an error and never taken for a string.
 */
import type { PgError } from '../lib/errors.ts';
import { isJsonObject, readJson } from '../lib/json.ts';
import { POINTER_LIMIT, parsePointer } from '../lib/json-path.ts';
import { parsePemCertificates } from '../lib/pem.ts';
import { invalidSetting, quote } from './values.ts';

/** The configured issuers. */
export interface Issuers {
  /** The distinct issuers in the order of the setting; compared exactly, none is empty. */
  readonly issuers: readonly string[];
  /**
   * Issuer to the address of its key set, if the setting is a map. Discovery documents are then
   * not used to find keys.
   */
  readonly jwksUris: ReadonlyMap<string, string> | undefined;
}

/**
 * Parses the issuers.
 *
 * @throws PgError 22023 for JSON of another form, or for an address of keys that is not an http or
 *   https URL without credentials
 */
export function parseIssuers(text: string): Issuers {
  const reading = readPlainOrJson(text);
  const list = toStringList(reading);
  if (list !== undefined) return Object.freeze({ issuers: list, jwksUris: undefined });
  const jwksUris = readMap(reading);
  return Object.freeze({ issuers: Object.freeze([...jwksUris.keys()]), jwksUris });
}

/**
 * Parses the accepted audiences.
 *
 * @throws PgError 22023 for JSON other than an array of strings
 */
export function parseAudiences(text: string): readonly string[] {
  const audiences = toStringList(readPlainOrJson(text));
  if (audiences === undefined) {
    throw invalidSetting(
      'JWT authentication audiences JSON not valid: expected an array of strings',
    );
  }
  return audiences;
}

/**
 * Checks the name of a claim: a claim, a path with dots, or a JSON Pointer, which begins with `/`.
 *
 * @throws PgError 22023 for a pointer that can find nothing
 */
export function parseClaim(text: string): string {
  if (text.startsWith('/') && parsePointer(text) === undefined) {
    throw invalidSetting(
      `the JSON Pointer ${quote(text)} has more than ${POINTER_LIMIT} members, ` +
        'or a ~ that is neither ~0 nor ~1',
    );
  }
  return text;
}

/**
 * Checks one issuer that is to be reached at its address. The empty text means none.
 *
 * @throws PgError 22023
 */
export function parseIssuerAddress(text: string): string {
  if (text !== '' && !isPlainHttpUrl(text)) {
    throw invalidSetting('the issuer must be an http or https URL without a user name or password');
  }
  return text;
}

/** The value of the JSON; for a text that is not JSON a list with the text as its one string. */
function readPlainOrJson(text: string): unknown {
  const reading = readJson(text);
  return reading.valid ? reading.value : [text];
}

/**
 * The distinct strings in their order; undefined if the value is not a list of strings. The empty
 * string is left out, since no claim may match it.
 */
function toStringList(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) return undefined;
  return Object.freeze([...new Set(value)].filter((item) => item !== ''));
}

function readMap(json: unknown): ReadonlyMap<string, string> {
  const { issuer_jwks_map: addresses, ...others } = isJsonObject(json) ? json : {};
  if (!isJsonObject(addresses) || Object.keys(others).length > 0) {
    throw invalidIssuers(
      'expected an array of strings or an object with the member issuer_jwks_map alone, ' +
        'which maps issuers to JWKS URIs',
    );
  }
  const jwksUris = new Map<string, string>();
  for (const [issuer, address] of Object.entries(addresses)) {
    if (typeof address !== 'string' || !isPlainHttpUrl(address)) {
      throw invalidIssuers(
        `the JWKS URI of issuer ${quote(issuer)} must be an http or https URL ` +
          'without a user name or password',
      );
    }
    if (issuer !== '') jwksUris.set(issuer, address);
  }
  return jwksUris;
}

/** Whether a text is an http or https URL without credentials, which SHOW would reveal. */
function isPlainHttpUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password } = new URL(text);
  return (protocol === 'https:' || protocol === 'http:') && username === '' && password === '';
}

function invalidIssuers(problem: string): PgError {
  return invalidSetting(`JWT authentication: issuers JSON not valid: ${problem}`);
}

/**
 * Checks a bundle of certificates in PEM. Text between the blocks is allowed, as openssl writes it.
 * The empty text is allowed and means no bundle.
 *
 * @returns the text as given
 * @throws PgError 22023, which says nothing about the text: the setting is sensitive
 */
export function parseCertificates(text: string): string {
  try {
    if (text !== '') parsePemCertificates(text, 'refuse');
    return text;
  } catch {
    // The cause is left out, since OpenSSL's text would repeat parts of the value.
    throw invalidSetting('JWT authentication issuer custom CA certificate not valid');
  }
}
