/**
 * The operators of the process and their privileges. `--admin` and `--viewer` name them; the two
 * privileges have the names that CockroachDB gives them.
 */
import { PgError } from '../lib/errors.ts';
import { foldName } from '../lib/text.ts';

/** `admin` may read and change, `viewer` may read. */
export type Role = 'admin' | 'viewer';

/** The privilege that a statement needs, and for what: `set cluster setting 'x'`. */
export interface Requirement {
  readonly right: 'modify' | 'view';
  readonly to: string;
}

const names = { modify: 'MODIFYCLUSTERSETTING', view: 'VIEWCLUSTERSETTING' } as const;

/** The users that `--admin` and `--viewer` name. */
export class Operators {
  readonly #exact: ReadonlyMap<string, Role>;
  readonly #folded: ReadonlyMap<string, Role>;

  constructor(admins: readonly string[], viewers: readonly string[]) {
    // Admin wins when a user is in both lists.
    const named: [string, Role][] = [
      ...viewers.map((name): [string, Role] => [name, 'viewer']),
      ...admins.map((name): [string, Role] => [name, 'admin']),
    ];
    this.#exact = new Map(named);
    this.#folded = new Map(named.map(([name, role]) => [foldName(name), role]));
  }

  /**
   * The role of a user; undefined if the user is no operator. The user of a token login is a folded
   * name and is compared with the folded names. The user of a native login must match exactly.
   */
  roleOf(user: string, method: 'token' | 'native'): Role | undefined {
    return (method === 'token' ? this.#folded : this.#exact).get(user);
  }

  /**
   * The same for a user who has logged in.
   *
   * @throws PgError 42501 if the user is no operator
   */
  admit(user: string, method: 'token' | 'native'): Role {
    const role = this.roleOf(user, method);
    if (role !== undefined) return role;
    throw new PgError({
      code: 'not_an_operator',
      message: 'only users with the VIEWCLUSTERSETTING privilege are allowed to use the console',
      reason: `${user} is named neither by --admin nor by --viewer`,
    });
  }
}

/**
 * Checks that an operator may run a statement.
 *
 * @param role undefined for a user that is no operator
 * @throws PgError 42501
 */
export function checkPrivilege(role: Role | undefined, { right, to }: Requirement): void {
  if (role === 'admin' || (role === 'viewer' && right === 'view')) return;
  throw new PgError({
    code: 'insufficient_privilege',
    message: `only users with the ${names[right]} privilege are allowed to ${to}`,
    reason: `${right === 'modify' ? '--admin' : '--admin and --viewer'} decide who is`,
  });
}
