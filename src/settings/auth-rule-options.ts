/**
 * The options of a rule: what it takes of tokens. `audience`, `claim` and `map` stand in place of
 * their settings; the others only narrow what the settings accept. The names of PostgreSQL 18 and
 * of YugabyteDB are both understood.
 */
import { errorText } from '../lib/errors.ts';
import { isJsonObject, readJson } from '../lib/json.ts';
import { foldName } from '../lib/text.ts';
import { type Field, invalidLine } from './auth-rule-syntax.ts';
import { parseClaim } from './issuers.ts';
import { quote } from './values.ts';

/** What a rule takes of tokens. A member that is undefined leaves the settings in force. */
export interface TokenPolicy {
  /** Of the configured issuers only these. */
  readonly issuers: readonly string[] | undefined;
  /** In place of `server.jwt_authentication.audience`. */
  readonly audiences: readonly string[] | undefined;
  /** In place of `server.jwt_authentication.claim`. */
  readonly claim: string | undefined;
  /** A map name of the identity map, in place of the issuer. */
  readonly map: string | undefined;
  /** Words that must all be in the token's scope. */
  readonly scope: readonly string[];
  /** Claims that the token must have, with these values. */
  readonly claims: ReadonlyMap<string, string | number | boolean>;
  /** Of these groups the token must name one, folded. Empty: groups are not looked at. */
  readonly groups: readonly string[];
  /** Whether SQL names are folded. */
  readonly folds: boolean;
}

/** What a rule without options takes: all that the settings accept. */
export const noPolicy: TokenPolicy = Object.freeze({
  issuers: undefined,
  audiences: undefined,
  claim: undefined,
  map: undefined,
  scope: [],
  claims: new Map(),
  groups: [],
  folds: true,
});

/** The two names of an option, and what its value is. */
const OPTIONS: ReadonlyMap<string, keyof TokenPolicy> = new Map([
  ['issuer', 'issuers'],
  ['jwt_issuers', 'issuers'],
  ['audience', 'audiences'],
  ['jwt_audiences', 'audiences'],
  ['claim', 'claim'],
  ['jwt_matching_claim_key', 'claim'],
  ['map', 'map'],
  ['scope', 'scope'],
  ['claims', 'claims'],
  ['groups', 'groups'],
  ['fold', 'folds'],
]);

/**
 * Reads the options of a line.
 *
 * @throws PgError 22023 that names the line
 */
export function parsePolicy(line: number, fields: readonly Field[]): TokenPolicy {
  const policy: { -readonly [Name in keyof TokenPolicy]: TokenPolicy[Name] } = { ...noPolicy };
  const given = new Set<keyof TokenPolicy>();
  for (const field of fields) {
    const { name, value } = readOption(line, field);
    const member = OPTIONS.get(name);
    if (member === undefined) {
      const known = [...OPTIONS.keys()].join(', ');
      throw invalidLine(line, `there is no option ${quote(name)}; there are ${known}`);
    }
    if (given.has(member)) throw invalidLine(line, `the option ${name} is given twice`);
    if (value === '') throw invalidLine(line, `the option ${name} is empty`);
    given.add(member);
    Object.assign(policy, { [member]: parseValue(line, name, member, value) });
  }
  return Object.freeze(policy);
}

function readOption(line: number, field: Field): { name: string; value: string } {
  const [token, ...more] = field;
  const text = token?.text ?? '';
  const equals = text.indexOf('=');
  if (more.length > 0) {
    throw invalidLine(line, `a value with commas is quoted: ${quote(text)}`);
  }
  if (equals < 1) throw invalidLine(line, `an option is of the form NAME=VALUE: ${quote(text)}`);
  return { name: text.slice(0, equals).toLowerCase(), value: text.slice(equals + 1).trim() };
}

function parseValue(
  line: number,
  name: string,
  member: keyof TokenPolicy,
  value: string,
): TokenPolicy[keyof TokenPolicy] {
  switch (member) {
    case 'issuers':
    case 'audiences':
      return Object.freeze(listOf(value, ','));
    case 'groups':
      // As those of tokens are folded.
      return Object.freeze(listOf(value, ',').map(foldName));
    case 'scope':
      return Object.freeze(listOf(value, ' '));
    case 'claims':
      return parseClaims(line, value);
    case 'folds':
      return parseFold(line, value);
    default:
      if (/\s/.test(value)) throw invalidLine(line, `the option ${name} has white space in it`);
      return member === 'claim' ? checkClaim(line, value) : value;
  }
}

function checkClaim(line: number, value: string): string {
  try {
    return parseClaim(value);
  } catch (error) {
    throw invalidLine(line, errorText(error));
  }
}

function listOf(value: string, separator: ',' | ' '): string[] {
  const items = value.split(separator).map((item) => item.trim());
  return [...new Set(items)].filter((item) => item !== '');
}

function parseFold(line: number, value: string): boolean {
  if (value === 'yes') return true;
  if (value === 'no') return false;
  throw invalidLine(line, `fold is yes or no, not ${quote(value)}`);
}

function parseClaims(line: number, value: string): TokenPolicy['claims'] {
  const reading = readJson(value);
  if (!reading.valid || !isJsonObject(reading.value)) {
    throw invalidLine(
      line,
      `claims is a JSON object: ${quote(value)}`,
      'Quote it, and write "" for each quote inside: claims="{""tid"":""42""}".',
    );
  }
  const claims = new Map<string, string | number | boolean>();
  for (const [name, wanted] of Object.entries(reading.value)) {
    if (typeof wanted !== 'string' && typeof wanted !== 'number' && typeof wanted !== 'boolean') {
      throw invalidLine(line, `the claim ${quote(name)} is neither text, number nor boolean`);
    }
    claims.set(name, wanted);
  }
  if (claims.size === 0) throw invalidLine(line, 'claims names no claim');
  return claims;
}
