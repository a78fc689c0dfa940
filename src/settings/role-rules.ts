/**
 * The role map: which role of the database a group of the identity provider stands for, one rule a line:
 *
 *     # group                role
 *     engineering            developers
 *     /^db-(.*)$             \1
 *     /^domain\x20admins$    pg_monitor
 *
 * An empty map stands for itself: a group is the role of the same name. How a rule is read and matched is told in map-rules.ts.
 */
import { type MapRule, parseMapRules } from './map-rules.ts';

/** The rules in their order; empty where groups name roles themselves. */
export type RoleRules = readonly MapRule[];

/** Tried on each of up to a thousand groups: with all of them, and 20 characters each, a login stays within two seconds. */
const BUDGET = { patterns: 200, instructions: 5000 };

/**
 * The rules of a map's text.
 *
 * @throws PgError 22023 that names the line
 */
export function parseRoleRules(text: string): RoleRules {
  return parseMapRules(text, 2, BUDGET);
}
