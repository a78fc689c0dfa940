/**
 * What has to change so that a user has the roles that his groups stand for, and no others that we
 * granted. Nothing here asks or tells a database: facts go in, a plan comes out.
 */

/** A role that the user is to have. */
export interface WantedRole {
  readonly name: string;
  /** Whether an operator named it in full: the only way to get one whose name begins with `pg_`. */
  readonly isListed: boolean;
}

/** What the database says about a role that is wanted, or that the user is a member of. */
export interface RoleFacts {
  readonly oid: number;
  readonly name: string;
  /** The user is a member because of us. */
  readonly ours: boolean;
  /** He is a member because of somebody else. */
  readonly others: boolean;
  /** We may grant it. */
  readonly grantable: boolean;
  /** It is a superuser, or a member of one at whatever distance. */
  readonly superuser: boolean;
  /** It is, or is a member of, the role that the directory is connected as. */
  readonly directory: boolean;
  /** It is the user, or a member of the user. */
  readonly circular: boolean;
  /** It is somebody who was created at a first login. */
  readonly person: boolean;
}

/** A role that is wanted and not granted, with the reason, for the log. */
export interface SkippedRole {
  readonly role: string;
  readonly why: string;
}

/** The changes, and what stays as it is against the wish of the identity provider. */
export interface RolePlan {
  /**
   * In the order of the roles' OIDs: two logins that change the same roles lock them in the same
   * order.
   */
  readonly changes: readonly { readonly kind: 'grant' | 'revoke'; readonly role: string }[];
  readonly skipped: readonly SkippedRole[];
  /** Memberships of somebody else's making that no group justifies. */
  readonly kept: readonly string[];
}

/**
 * Plans the changes.
 *
 * @param severalGrantors whether a membership can be granted by several roles beside each other
 *   (PostgreSQL 16 and later)
 */
export function planRoles(
  wanted: readonly WantedRole[],
  facts: readonly RoleFacts[],
  severalGrantors: boolean,
): RolePlan {
  const wishes = new Map(wanted.map((role) => [role.name, role]));
  const changes: RolePlan['changes'][number][] = [];
  const skipped: SkippedRole[] = [];
  const kept: string[] = [];
  for (const role of [...facts].sort((left, right) => left.oid - right.oid)) {
    const wish = wishes.get(role.name);
    const why = wish && forbids(role, wish);
    const justified = wish !== undefined && why === undefined;
    const isMember = role.ours || (role.others && !severalGrantors);
    if (wish && why !== undefined) skipped.push({ role: role.name, why });
    if (justified && !isMember) {
      if (role.grantable) changes.push({ kind: 'grant', role: role.name });
      else skipped.push({ role: role.name, why: "the directory's role has no ADMIN OPTION on it" });
    }
    if (!justified && role.ours) changes.push({ kind: 'revoke', role: role.name });
    if (!justified && role.others) kept.push(role.name);
  }
  return { changes, skipped, kept };
}

/** Why a role is never granted; undefined when it may be. */
function forbids(role: RoleFacts, { isListed }: WantedRole): string | undefined {
  if (role.directory) return "it is the directory's own role or a member of it";
  if (role.superuser) return 'it is a superuser or a member of one';
  if (role.circular) return 'it is the user or a member of the user';
  if (role.person) return 'it is a user who was created at a first login';
  if (role.name.startsWith('pg_') && !isListed)
    return 'no rule of pgsso.role_map.configuration names it in full';
  return undefined;
}
