/**
 * Who has which right, by `--admin` and `--viewer`. A token's user is a folded name, and so is what it is compared with; a native user is
 * whoever the backend says, to the letter.
 */
import { foldName } from '../auth/names.ts';
import type { Role } from './privileges.ts';

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
