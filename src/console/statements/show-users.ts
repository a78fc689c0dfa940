/** SHOW USERS: whom the directory has created or granted a role, in the database and not in this process alone. */
import type { DirectoryUser } from '../../directory/directory.ts';
import { PgError } from '../../errors.ts';
import type { Cell } from '../results.ts';
import { textColumns } from '../results.ts';
import type { Rule } from '../statement.ts';

export const showUsers: Rule = {
  begins: 'SHOW USERS',
  help: {
    syntax: 'SHOW USERS',
    does: 'the users whom the directory created or granted a role: origin, last login through this process, roles that it granted',
  },
  parse: () => ({
    tag: 'SHOW',
    columns: textColumns('user', 'origin', 'last_login', 'roles'),
    requires: { right: 'view', to: 'show users' },
    async run({ parts: { directory } }) {
      if (!directory) throw noDirectory();
      return { rows: (await directory.users()).map(rowOf) };
    },
  }),
};

function rowOf({ user, origin, lastLogin, roles }: DirectoryUser): readonly Cell[] {
  return [user, origin, lastLogin === undefined ? undefined : new Date(lastLogin).toISOString(), roles.join(', ')];
}

function noDirectory(): PgError {
  return new PgError({
    code: 'no_directory',
    sqlstate: '55000',
    message: 'there is no directory of users and roles',
    hint: 'Start pgsso with --directory: a connection to the backend that may create users and grant roles.',
  });
}
