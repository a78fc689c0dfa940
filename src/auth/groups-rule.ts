/**
 * The rule that a user without groups does not get in where roles follow the groups. It comes after the directory has taken away
 * what was granted for earlier groups, so that being thrown out of the last one is being thrown out of the database, too.
 */
import type { PgError } from '../errors.ts';
import { CheckFailure, refusal } from './checks.ts';
import type { Identity } from './identity.ts';
import type { LoginSettings } from './login-settings.ts';

/** The refusal of a user who is in no group; undefined for anybody else, and where groups are not looked at. */
export function emptyGroupsRefusal({ groups }: Identity, values: LoginSettings): PgError | undefined {
  if (groups === undefined || groups.length > 0) return undefined;
  return refusal(new CheckFailure('groups', { found: 'no group' }), values);
}
