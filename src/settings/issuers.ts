/**
 * Whose tokens are taken: one issuer, a JSON array of them, or a map from each issuer to the
 * address of its keys, as in `{"issuer_jwks_map": {"https://idp.example":
 * "https://idp.example/keys"}}`. With the map the issuer's discovery document is not asked where
 * its keys are.
 */
import { PgError } from '../lib/errors.ts';
import { isJsonObject, readJson } from '../lib/json.ts';
import { quote } from './values.ts';

/** The configured issuers. */
export interface Issuers {
  /** The distinct issuers in the order of the setting; compared exactly, none is empty. */
  readonly issuers: readonly string[];
  /** Issuer to the address of its key set, when the setting has the form of a map. */
  readonly jwksUris: ReadonlyMap<string, string> | undefined;
}

/**
 * The issuers of the setting's text.
 *
 * @throws PgError 22023 for JSON of another form, or an address of keys that is no plain http or
 *   https URL
 */
export function parseIssuers(text: string): Issuers {
  const reading = readPlainOrJson(text);
  const list = toStringList('plain' in reading ? [reading.plain] : reading.json);
  if (list !== undefined) return Object.freeze({ issuers: list, jwksUris: undefined });
  const jwksUris = readMap('json' in reading ? reading.json : undefined);
  return Object.freeze({ issuers: Object.freeze([...jwksUris.keys()]), jwksUris });
}

function readMap(json: unknown): ReadonlyMap<string, string> {
  const { issuer_jwks_map: addresses, ...others } = isJsonObject(json) ? json : {};
  if (!isJsonObject(addresses) || Object.keys(others).length > 0) {
    throw invalid(
      'expected an array of strings or an object with the member issuer_jwks_map alone, which maps issuers to JWKS URIs',
    );
  }
  const jwksUris = new Map<string, string>();
  for (const [issuer, address] of Object.entries(addresses)) {
    if (typeof address !== 'string' || !isPlainHttpUrl(address)) {
      throw invalid(
        `the JWKS URI of issuer ${quote(issuer)} must be an http or https URL without a user name or password`,
      );
    }
    if (issuer !== '') jwksUris.set(issuer, address);
  }
  return jwksUris;
}

/** An address that can be asked, and that holds no credential which SHOW would reveal. */
function isPlainHttpUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password } = new URL(text);
  return (protocol === 'https:' || protocol === 'http:') && username === '' && password === '';
}

/**
 * One issuer that is to be asked for something, so that it has to be an address. Empty for none.
 *
 * @throws PgError 22023
 */
export function parseIssuerAddress(text: string): string {
  if (text !== '' && !isPlainHttpUrl(text)) {
    throw new PgError({
      code: 'invalid_setting_value',
      message: 'the issuer must be an http or https URL without a user name or password',
    });
  }
  return text;
}

function invalid(problem: string): PgError {
  return new PgError({
    code: 'invalid_setting_value',
    message: `JWT authentication: issuers JSON not valid: ${problem}`,
  });
}

/*
 * A setting that is one plain string or a JSON array of strings: the audiences, and the shorter
 * forms of the issuers. A text that is no JSON is one string, however odd it looks; JSON of another
 * form is a mistake and never silently taken for a string.
 */

/** The plain string or the JSON's value. */
function readPlainOrJson(text: string): { readonly plain: string } | { readonly json: unknown } {
  const reading = readJson(text);
  return reading.valid ? { json: reading.value } : { plain: text };
}

/**
 * The distinct strings in their order without the empty one, which no claim may match; undefined
 * when it is no list of strings.
 */
function toStringList(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) return undefined;
  return Object.freeze([...new Set(value)].filter((item) => item !== ''));
}

/**
 * The accepted audiences.
 *
 * @throws PgError 22023 for JSON other than an array of strings
 */
export function parseAudiences(text: string): readonly string[] {
  const reading = readPlainOrJson(text);
  const audiences = toStringList('plain' in reading ? [reading.plain] : reading.json);
  if (audiences === undefined) {
    throw new PgError({
      code: 'invalid_setting_value',
      message: 'JWT authentication audiences JSON not valid: expected an array of strings',
    });
  }
  return audiences;
}
