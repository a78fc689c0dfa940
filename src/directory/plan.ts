/**
 * Plans the changes after which a user has the roles of the user's groups, and no others that the
 * directory granted. The plan is made from facts alone; no statement is run here.
 */

/** A role that a user should have. */
export interface WantedRole {
  readonly name: string;
  /** Whether an operator named it in full. A role that begins with `pg_` is granted only then. */
  readonly isListed: boolean;
}

/** Facts about a role that is wanted, or that the user is a member of. */
export interface RoleFacts {
  readonly oid: number;
  readonly name: string;
  /** Whether the directory granted it to the user. */
  readonly ours: boolean;
  /** Whether another role granted it to the user. */
  readonly others: boolean;
  /** Whether the directory may grant it. */
  readonly grantable: boolean;
  /** Whether it is a superuser, or a direct or indirect member of one. */
  readonly superuser: boolean;
  /** Whether it is the directory's own role, or a direct or indirect member of it. */
  readonly directory: boolean;
  /** Whether it is the user, or a direct or indirect member of the user. */
  readonly circular: boolean;
  /** Whether it is a user that was created at the first login. */
  readonly person: boolean;
}

/** A wanted role that is not granted, with the reason for the log. */
export interface SkippedRole {
  readonly role: string;
  readonly why: string;
}

/** The changes, and the roles that differ from the user's groups after them. */
export interface RolePlan {
  /** In the order of the roles' OIDs, so that two logins lock the same roles in the same order. */
  readonly changes: readonly { readonly kind: 'grant' | 'revoke'; readonly role: string }[];
  readonly skipped: readonly SkippedRole[];
  /** Memberships that other roles granted and no group justifies. They are not changed. */
  readonly kept: readonly string[];
}

/**
 * Plans the changes.
 *
 * @param severalGrantors whether several roles can grant the same membership (PostgreSQL 16 and
 *   later)
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

/** Why a role must not be granted; undefined if it may be. */
function forbids(role: RoleFacts, { isListed }: WantedRole): string | undefined {
  if (role.directory) return "it is the directory's own role or a member of it";
  if (role.superuser) return 'it is a superuser or a member of one';
  if (role.circular) return 'it is the user or a member of the user';
  if (role.person) return 'it is a user who was created at a first login';
  if (role.name.startsWith('pg_') && !isListed)
    return 'no rule of pgsso.role_map.configuration names it in full';
  return undefined;
}
