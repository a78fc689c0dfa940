/**
 * The groups of a user, and the roles that they stand for. The groups come from a claim of the
 * token or, if the token does not have it, from the issuer's userinfo endpoint. The role map turns
 * them into names of roles; whether such roles exist and may be granted is decided by the
 * directory.
 */
import { errorText, type PgError } from '../lib/errors.ts';
import type { JsonObject } from '../lib/json.ts';
import { findMember } from '../lib/json-path.ts';
import { foldName, formatText, isUsableName, isUsableText } from '../lib/text.ts';
import type { RoleRules } from '../settings/maps.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import type { Identity } from './identity.ts';
import { CheckFailure, refusal } from './refusals.ts';
import type { Token } from './token.ts';

/**
 * Asks the issuer's userinfo endpoint (OpenID Connect Core 5.3) with the token as bearer token, by
 * the settings of the login.
 *
 * @returns the members of the answer, none of which has been checked
 * @throws NoUserinfoEndpoint if the issuer's discovery document names none; any other Error if
 *   there is no usable answer
 */
export type UserinfoLookup = (
  issuer: string,
  token: string,
  values: LoginSettings,
  signal: AbortSignal,
) => Promise<JsonObject>;

/** The issuer has no userinfo endpoint. */
export class NoUserinfoEndpoint extends Error {}

/**
 * Each group is compared with each rule of the role map. Entra ID names at most 200 groups in a
 * token, but an answer of userinfo may have a megabyte.
 */
const GROUP_LIMIT = 1000;

/** Elements of the list, before those that are equal or cannot be groups are left out. */
const ELEMENT_LIMIT = 10 * GROUP_LIMIT;

/** In characters. The distinguished name of a group in a directory is longer than a SQL name. */
const GROUP_LENGTH_LIMIT = 1024;

/** Of all groups, in characters. To fold this much of the worst text takes 40 ms. */
const TOTAL_LENGTH_LIMIT = 256 * GROUP_LIMIT;

/** A role that a group stands for. */
export interface MappedRole {
  /** Folded. */
  readonly name: string;
  /**
   * Whether the operator wrote the whole name into the role map, so that no part of it comes from
   * the identity provider.
   */
  readonly isListed: boolean;
}

/**
 * The distinct groups of a token that passed the checks, folded. Empty if the identity provider
 * says that there are none.
 *
 * @param lookup undefined if userinfo cannot be asked
 * @throws CheckFailure of check `overage`, `endpoint`, `userinfo` or `groups`; the signal's reason
 */
export async function readGroups(
  token: Token,
  values: LoginSettings,
  lookup: UserinfoLookup | undefined,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const claim = values['server.jwt_authentication.group_claim'];
  const groups = toGroups(findMember(token.claims, claim));
  if (groups !== undefined) return groups;
  checkOverage(token.claims, claim);
  return askUserinfo(token, values, lookup, signal);
}

/**
 * The refusal of a user without groups, if roles follow groups. It comes after the directory has
 * revoked what was granted for earlier groups: a user that is removed from the last group loses
 * both its roles and its access.
 *
 * @returns undefined if the user has a group, or groups do not matter
 */
export function emptyGroupsRefusal(
  { groups }: Identity,
  values: LoginSettings,
): PgError | undefined {
  if (groups === undefined || groups.length > 0) return undefined;
  return refusal(new CheckFailure('groups', { found: 'no group' }), values);
}

/**
 * The distinct roles that the groups of an issuer stand for, by the rules of that issuer and those
 * without one. A group yields no role if no rule matches it, or if the result cannot be a SQL name.
 *
 * If the role map is empty, a group stands for the role of its name. If there are several issuers,
 * it stands for none then: an issuer that the identity map confines to some users could otherwise
 * give them the roles of all others.
 *
 * @param issuers all issuers that are configured
 */
export function mapGroups(
  rules: RoleRules,
  groups: readonly string[],
  issuer: string,
  issuers: readonly string[],
): readonly MappedRole[] {
  const listed = new Map<string, boolean>();
  const add = (name: string | undefined, isListed: boolean): void => {
    const folded = foldName(name ?? '');
    if (isUsableName(folded)) listed.set(folded, isListed || listed.get(folded) === true);
  };
  const isUnmapped = rules.length === 0 && issuers.length < 2;
  const ofIssuer = rules.filter((rule) => rule.issuer === undefined || rule.issuer === issuer);
  for (const group of groups) {
    if (isUnmapped) add(group, false);
    for (const rule of ofIssuer) add(rule.match(group), rule.isFixed);
  }
  return Array.from(listed, ([name, isListed]) => ({ name, isListed }));
}

async function askUserinfo(
  token: Token,
  values: LoginSettings,
  lookup: UserinfoLookup | undefined,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const claim = formatText(values['server.jwt_authentication.group_claim']);
  const key = values['server.jwt_authentication.userinfo_group_key'];
  if (lookup === undefined)
    throw userinfoFailure(`no claim ${claim} in the token, and no way to ask the issuer`);
  let answer: JsonObject;
  try {
    answer = await lookup(token.issuer, token.compact, values, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof NoUserinfoEndpoint) {
      throw new CheckFailure('endpoint', {
        found: `no claim ${claim} in the token: ${error.message}`,
        fault: 'identity provider',
      });
    }
    throw userinfoFailure(
      `no claim ${claim} in the token, and no answer of userinfo: ${errorText(error)}`,
      error,
    );
  }
  // OpenID Connect Core 5.3.2: an answer about another subject must not be used.
  const subject = answer.get('sub');
  if (typeof subject !== 'string' || subject === '' || subject !== token.claims.get('sub')) {
    throw userinfoFailure('an answer of userinfo whose sub is not that of the token');
  }
  const value = findMember(answer, key);
  // The issuer answered, and named no group: the user is in none, and loses its roles.
  const groups = value === undefined ? [] : toGroups(value);
  if (groups !== undefined) return groups;
  throw userinfoFailure(
    `no claim ${claim} in the token, and no groups in ${formatText(key)} of the answer of userinfo`,
  );
}

/**
 * The groups in a value. Undefined if it is neither a list nor text. Text is split at commas only,
 * since a name may hold a space.
 */
function toGroups(value: unknown): readonly string[] | undefined {
  if (typeof value !== 'string' && !Array.isArray(value)) return undefined;
  const elements: readonly unknown[] =
    typeof value === 'string' ? value.split(',', ELEMENT_LIMIT + 1) : value;
  if (elements.length > ELEMENT_LIMIT) throw tooMany(`${ELEMENT_LIMIT} elements`);
  const groups = new Set<string>();
  let length = 0;
  for (const element of elements) {
    const name = readElement(element).trim();
    // The length comes before the folding, whose time grows with its square.
    if (name.length > GROUP_LENGTH_LIMIT) continue;
    length += name.length;
    if (length > TOTAL_LENGTH_LIMIT) throw tooMany(`${TOTAL_LENGTH_LIMIT} characters of groups`);
    const group = foldName(name);
    if (!isUsableText(group)) continue;
    groups.add(group);
    if (groups.size > GROUP_LIMIT) throw tooMany(`${GROUP_LIMIT} groups`);
  }
  return [...groups];
}

function tooMany(what: string): CheckFailure {
  return new CheckFailure('groups', { found: `more than ${what}`, fault: 'identity provider' });
}

/** The group's name. Empty, and hence not a group, for an object, a list or null. */
function readElement(element: unknown): string {
  return typeof element === 'string' || typeof element === 'number' || typeof element === 'boolean'
    ? String(element)
    : '';
}

/**
 * Entra ID leaves the groups out of a token if there are more than 200 and refers to Microsoft
 * Graph instead, which takes another token than this one (distributed claims, OpenID Connect Core
 * 5.6.2; `hasgroups` in the implicit flow).
 */
function checkOverage(claims: JsonObject, claim: string): void {
  const elsewhere = claims.get('_claim_names');
  const isNamed =
    typeof elsewhere === 'object' && elsewhere !== null && Object.hasOwn(elsewhere, claim);
  const hasGroups = claims.get('hasgroups');
  if (!isNamed && hasGroups !== true && hasGroups !== 'true') return;
  throw new CheckFailure('overage', {
    found: `${isNamed ? '_claim_names' : 'hasgroups'} instead of the claim ${formatText(claim)}`,
    detail:
      'the identity provider left the groups out of the token because there are too many: ' +
      'have it name only the groups that are assigned to the application, ' +
      'or use application roles (roles) instead',
    fault: 'identity provider',
  });
}

function userinfoFailure(found: string, cause?: unknown): CheckFailure {
  return new CheckFailure('userinfo', { found, fault: 'identity provider', cause });
}
