/**
 * Who may do what on the console. The names of the two rights are CockroachDB's; who has them is said by `--admin` and `--viewer`.
 */
import { PgError } from '../errors.ts';

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
    sqlstate: '42501',
    message: `only users with the ${names[right]} privilege are allowed to ${to}`,
    reason: `${right === 'modify' ? '--admin' : '--admin and --viewer'} decide who is`,
  });
}
