/**
 * The plan for arbitrary roles: what it never contains, and that nothing is left to plan after its
 * changes.
 */

import fc from 'fast-check';
import t from 'tap';
import { planRoles, type RoleFacts, type WantedRole } from '../../src/directory/plan.ts';

const names = ['a', 'b', 'c', 'pg_x', 'pg_y'];

const facts: fc.Arbitrary<RoleFacts> = fc.record({
  oid: fc.integer({ min: 1, max: 100 }),
  name: fc.constantFrom(...names),
  ours: fc.boolean(),
  others: fc.boolean(),
  grantable: fc.boolean(),
  superuser: fc.boolean(),
  directory: fc.boolean(),
  circular: fc.boolean(),
  person: fc.boolean(),
});
const roles = fc.uniqueArray(facts, { selector: ({ name }) => name });
const wishes: fc.Arbitrary<WantedRole[]> = fc.uniqueArray(
  fc.record({ name: fc.constantFrom(...names, 'missing'), isListed: fc.boolean() }),
  { selector: ({ name }) => name },
);

const forbidden = (role: RoleFacts, wish: WantedRole): boolean =>
  role.superuser ||
  role.directory ||
  role.circular ||
  role.person ||
  (role.name.startsWith('pg_') && !wish.isListed);

t.test(
  'only wanted, permitted and grantable roles are granted; only own memberships are revoked',
  async () => {
    fc.assert(
      fc.property(wishes, roles, fc.boolean(), (wanted, given, several) => {
        const { changes, skipped } = planRoles(wanted, given, several);
        return changes.every(({ kind, role: name }) => {
          const role = given.find((one) => one.name === name);
          const wish = wanted.find((one) => one.name === name);
          if (!role) return false;
          if (kind === 'revoke') return role.ours && (!wish || forbidden(role, wish));
          const told = skipped.some(({ role }) => role === name);
          return (
            wish !== undefined && !forbidden(role, wish) && role.grantable && !role.ours && !told
          );
        });
      }),
    );
  },
);

t.test('the changes are in the order of OIDs, in whatever order the roles are given', async () => {
  fc.assert(
    fc.property(wishes, roles, fc.boolean(), (wanted, given, several) => {
      const { changes } = planRoles(wanted, given, several);
      const oids = changes.map(({ role }) => given.find(({ name }) => name === role)?.oid ?? 0);
      return oids.every((oid, i) => i === 0 || oid >= (oids[i - 1] ?? 0));
    }),
  );
});

t.test('after the changes of a plan there is nothing left to change', async () => {
  fc.assert(
    fc.property(wishes, roles, fc.boolean(), (wanted, given, several) => {
      const { changes } = planRoles(wanted, given, several);
      const after = given.map((role) => {
        const change = changes.find((one) => one.role === role.name);
        return change ? { ...role, ours: change.kind === 'grant' } : role;
      });
      return planRoles(wanted, after, several).changes.length === 0;
    }),
  );
});
