/**
 * Who has which right, by `--admin` and `--viewer`. A token's user is a folded name, and so is what
 * it is compared with; a native user is whoever the backend says, to the letter.
 */
import { PgError } from '../lib/errors.ts';
import { foldName } from '../lib/text.ts';

/** The roles of a process's operators. */
export class Operators {
  readonly #exact: ReadonlyMap<string, Role>;
  readonly #folded: ReadonlyMap<string, Role>;

  constructor(admins: readonly string[], viewers: readonly string[]) {
    // Who is named as both is an admin.
    const named: [string, Role][] = [
      ...viewers.map((name): [string, Role] => [name, 'viewer']),
      ...admins.map((name): [string, Role] => [name, 'admin']),
    ];
    this.#exact = new Map(named);
    this.#folded = new Map(named.map(([name, role]) => [foldName(name), role]));
  }

  /** The right of a user who has logged in this way; undefined: none. */
  roleOf(user: string, method: 'token' | 'native'): Role | undefined {
    return (method === 'token' ? this.#folded : this.#exact).get(user);
  }
}

/*
 * Who may do what on the console. The names of the two rights are CockroachDB's; who has them is
 * said by `--admin` and `--viewer`.
 */

/** `admin` reads and changes, `viewer` reads. */
export type Role = 'admin' | 'viewer';

/** What a statement needs, and what it is needed for: `set cluster setting 'x'`. */
export interface Requirement {
  readonly right: 'modify' | 'view';
  readonly to: string;
}

const names = { modify: 'MODIFYCLUSTERSETTING', view: 'VIEWCLUSTERSETTING' } as const;

/**
 * Looked at for each statement.
 *
 * @param role undefined: none
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
