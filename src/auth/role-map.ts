/**
 * The role map at work: from the groups of a user to the names of roles that he is to have. Whether there are such roles, and whether
 * they may be granted, is for the directory to say.
 */
import type { RoleRules } from '../settings/role-rules.ts';
import { foldName, isUsableName } from './names.ts';

/** A role that a group stands for. */
export interface MappedRole {
  /** Folded. */
  readonly name: string;
  /** Whether an operator wrote the name in full into the role map, and no part of it comes from the identity provider. */
  readonly isListed: boolean;
}

/** The distinct roles that the groups stand for; groups whose role cannot be a SQL name, or that no rule matches, yield none. */
export function mapGroups(rules: RoleRules, groups: readonly string[]): readonly MappedRole[] {
  const listed = new Map<string, boolean>();
  const add = (name: string | undefined, isListed: boolean): void => {
    const folded = foldName(name ?? '');
    if (isUsableName(folded)) listed.set(folded, isListed || listed.get(folded) === true);
  };
  for (const group of groups) {
    if (rules.length === 0) add(group, false);
    for (const rule of rules) add(rule.match(group), rule.isFixed);
  }
  return Array.from(listed, ([name, isListed]) => ({ name, isListed }));
}
