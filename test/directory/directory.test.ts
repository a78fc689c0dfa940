/**
 * Users and roles on every installed PostgreSQL: what is created, granted, revoked and not changed,
 * by one login and by many at the same time.
 */

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t from 'tap';
import { Directory, type DirectoryRequest } from '../../src/directory/directory.ts';
import type { DirectoryConnection } from '../../src/directory/pool.ts';
import { PgError } from '../../src/lib/errors.ts';
import { type Postgres, startPostgres } from '../support/postgres.ts';
import { installedVersions } from '../support/postgres-versions.ts';

const ISSUER = 'https://id.example.test';
const ROLES = ['analysts', 'developers', 'readers', 'team a', 'team_b'];
const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;

const manual = readFileSync(new URL('../../../docs/directory.md', import.meta.url), 'utf8');

/** The statements of docs/directory.md for an operator, with the roles of this test. */
function setUp(version: number): string[] {
  const heading = version >= 16 ? '### PostgreSQL 16 and later' : '### PostgreSQL 15';
  const [, block = ''] = /```sql\n(.*?)```/s.exec(manual.slice(manual.indexOf(heading))) ?? [];
  const statements = block
    .replace('GRANT developers, readers', `GRANT ${ROLES.map(quote).join(', ')}`)
    .split(';');
  return [
    ...ROLES.map((role) => `CREATE ROLE ${quote(role)}`),
    ...statements.filter((statement) => statement.trim() !== ''),
  ];
}

function connectionOf(
  { socketDir, port }: Postgres,
  user = 'pgsso_directory',
  database = 'pgsso_directory',
): DirectoryConnection {
  return {
    label: socketDir,
    host: socketDir,
    port,
    database,
    user,
    password: () => undefined,
    tls: () => undefined,
  };
}

/** `role by grantor` for each membership of the user. */
async function memberships(database: Postgres, user: string): Promise<string[]> {
  const { rows } = await database.query(
    `SELECT roleid::regrole::text AS role, grantor::regrole::text AS grantor FROM pg_auth_members
      WHERE member = (SELECT oid FROM pg_roles WHERE rolname = $1) ORDER BY 1, 2`,
    [user],
  );
  return rows.map(({ role, grantor }) => `${role} by ${grantor}`);
}

async function refusal(promise: Promise<unknown>): Promise<PgError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof PgError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

const roles = (...names: string[]): DirectoryRequest['roles'] =>
  names.map((name) => ({ name, isListed: false }));
const existing = (user: string, ...names: string[]): DirectoryRequest => ({
  user,
  createFor: undefined,
  roles: roles(...names),
});
const first = (user: string, ...names: string[]): DirectoryRequest => ({
  ...existing(user, ...names),
  createFor: ISSUER,
});

for (const version of installedVersions()) {
  t.test(`PostgreSQL ${version}`, async (t) => {
    const database = await startPostgres({
      version,
      initSql: setUp(version),
      conf: { log_statement: 'all' },
    });
    t.teardown(() => database.close());
    const directory = new Directory(connectionOf(database));
    t.teardown(() => directory.close());
    const { rows } = await database.query('SHOW server_version_num');
    t.equal(Math.floor(rows[0].server_version_num / 10_000), version, 'the requested version');

    const prepare = (request: DirectoryRequest, from = directory) =>
      from.prepare(request, new AbortController().signal);
    /** The number of statements with the text that were logged while `work` ran. */
    const statements = async (text: string, work: () => Promise<unknown>): Promise<number> => {
      const before = database.log().length;
      await work();
      return database
        .log()
        .slice(before)
        .split('\n')
        .filter((line) => /(?:statement|execute [^:]*): /.test(line) && line.includes(text)).length;
    };

    t.test('the grants of the manual are enough', async (t) => {
      t.equal(await directory.problem('create'), undefined);
      t.equal(await directory.problem('grant'), undefined);
    });

    t.test(
      'a missing user is created with LOGIN, no password, no other right, and the origin',
      async (t) => {
        t.match(await prepare(first('alice')), {
          exists: true,
          created: true,
          granted: [],
          revoked: [],
        });
        const { rows } = await database.query(
          `SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
            rolpassword, rolconnlimit, shobj_description(oid, 'pg_authid') AS origin
          FROM pg_authid WHERE rolname = 'alice'`,
        );
        t.strictSame(rows, [
          {
            rolcanlogin: true,
            rolsuper: false,
            rolcreaterole: false,
            rolcreatedb: false,
            rolreplication: false,
            rolbypassrls: false,
            rolpassword: null,
            rolconnlimit: -1,
            origin: `jwt_token:${ISSUER}`,
          },
        ]);
        t.match(await prepare(first('alice')), { exists: true, created: false });
        t.strictSame(await memberships(database, 'alice'), []);
      },
    );

    t.test('a hundred first logins of one user: all succeed, one CREATE ROLE', async (t) => {
      const other = new Directory(connectionOf(database));
      let outcomes: { created: boolean; exists: boolean }[] = [];
      const created = await statements('CREATE ROLE "crowd"', async () => {
        outcomes = await Promise.all(
          Array.from({ length: 100 }, (_, i) =>
            prepare(first('crowd', 'readers'), i % 2 ? directory : other),
          ),
        );
      });
      await other.close();
      t.equal(outcomes.filter(({ exists }) => exists).length, 100);
      t.equal(outcomes.filter(({ created }) => created).length, 1);
      t.equal(created, 1);
      t.strictSame(await memberships(database, 'crowd'), ['readers by pgsso_directory']);
    });

    t.test('roles follow the groups: granted, exchanged, and all revoked', async (t) => {
      await database.query('CREATE ROLE bob LOGIN');
      t.match(await prepare(existing('bob', 'developers', 'readers', 'no such role')), {
        granted: ['developers', 'readers'],
        revoked: [],
      });
      t.strictSame(await memberships(database, 'bob'), [
        'developers by pgsso_directory',
        'readers by pgsso_directory',
      ]);
      t.match(await prepare(existing('bob', 'readers', 'team a')), {
        granted: ['team a'],
        revoked: ['developers'],
      });
      t.strictSame(await memberships(database, 'bob'), [
        '"team a" by pgsso_directory',
        'readers by pgsso_directory',
      ]);
      t.match(await prepare(existing('bob')), { granted: [], revoked: ['readers', 'team a'] });
      t.strictSame(await memberships(database, 'bob'), []);
    });

    t.test('a login that changes nothing takes one statement and no transaction', async (t) => {
      await prepare(existing('bob', 'readers'));
      const all = await statements('', () => prepare(existing('bob', 'readers')));
      t.equal(all, 1);
    });

    t.test('a grant by another role stays, and is reported', async (t) => {
      await database.query('CREATE ROLE carol LOGIN');
      await database.query('GRANT analysts TO carol');
      t.match(await prepare(existing('carol', 'readers')), {
        granted: ['readers'],
        kept: ['analysts'],
      });
      t.strictSame(await memberships(database, 'carol'), [
        'analysts by postgres',
        'readers by pgsso_directory',
      ]);
      t.match(await prepare(existing('carol')), { revoked: ['readers'], kept: ['analysts'] });
      t.strictSame(await memberships(database, 'carol'), ['analysts by postgres']);
      await prepare(existing('carol', 'analysts'));
      const both = ['analysts by pgsso_directory', 'analysts by postgres'];
      t.strictSame(
        await memberships(database, 'carol'),
        version >= 16 ? both : ['analysts by postgres'],
      );
      await prepare(existing('carol'));
      t.strictSame(await memberships(database, 'carol'), ['analysts by postgres']);
    });

    t.test(
      'superusers, pg_ roles, the directory, circles, users and roles without ADMIN OPTION ' +
        'are not granted',
      async (t) => {
        for (const sql of [
          'CREATE ROLE dave LOGIN',
          'CREATE ROLE chief SUPERUSER',
          'CREATE ROLE deputies',
          'GRANT chief TO deputies',
          'CREATE ROLE admins',
          'GRANT pgsso_directory TO admins',
          'CREATE ROLE inner_circle',
          'GRANT dave TO inner_circle',
          'CREATE ROLE foreign_role',
          'GRANT pg_monitor TO pgsso_directory WITH ADMIN OPTION',
          'GRANT deputies TO pgsso_directory WITH ADMIN OPTION',
          'GRANT inner_circle TO pgsso_directory WITH ADMIN OPTION',
        ]) {
          await database.query(sql);
        }
        const names = [
          'chief',
          'deputies',
          'admins',
          'pgsso_directory',
          'inner_circle',
          'dave',
          'foreign_role',
          'pg_monitor',
          'alice',
          'postgres',
        ];
        const { granted, skipped } = await prepare(existing('dave', 'readers', ...names));
        t.strictSame(granted, ['readers']);
        t.strictSame(skipped.map(({ role }) => role).sort(), names.sort());
        const why = new Map(skipped.map(({ role, why }) => [role, why]));
        t.match(why.get('deputies'), /superuser/);
        t.match(why.get('admins'), /directory's own/);
        t.match(why.get('inner_circle'), /member of the user/);
        t.match(why.get('alice'), /created at a first login/);
        t.match(why.get('foreign_role'), /ADMIN OPTION/);
        t.match(why.get('pg_monitor'), /role_map/);
        const listed = await prepare({
          user: 'dave',
          createFor: undefined,
          roles: [{ name: 'pg_monitor', isListed: true }],
        });
        t.match(listed, { granted: ['pg_monitor'], revoked: ['readers'] });
      },
    );

    t.test('an inherited ADMIN OPTION does not count', async (t) => {
      for (const sql of [
        'CREATE ROLE owners',
        'CREATE ROLE owned',
        'GRANT owned TO owners WITH ADMIN OPTION',
        'CREATE ROLE heir LOGIN CREATEROLE',
        'GRANT owners TO heir',
        'CREATE ROLE erin LOGIN',
      ]) {
        await database.query(sql);
      }
      const heir = new Directory(connectionOf(database, 'heir', 'postgres'));
      t.match(await heir.problem('grant'), /heir may grant no role/);
      t.match(await prepare(existing('erin', 'owned'), heir), {
        granted: [],
        skipped: [{ role: 'owned' }],
      });
      await heir.close();
    });

    t.test('a group role, a superuser and a missing user are not changed', async (t) => {
      for (const user of ['analysts', 'chief', 'nobody at all']) {
        t.match(
          await prepare(existing(user, 'readers')),
          { created: false, granted: [], revoked: [] },
          user,
        );
      }
      t.match(await prepare(existing('nobody at all')), { exists: false });
    });

    t.test('names that look like SQL are only names', async (t) => {
      const names = [
        'x"; DROP ROLE readers; --',
        "o'brien",
        'back\\slash',
        '$1',
        'ümläut',
        'a;b',
        '%s',
        '"',
      ];
      for (const name of names) {
        await database.query(`CREATE ROLE ${quote(`g ${name}`)}`);
        await database.query(`GRANT ${quote(`g ${name}`)} TO pgsso_directory WITH ADMIN OPTION`);
        const request = { ...first(name, `g ${name}`), createFor: `https://${name}/\\'` };
        t.match(await prepare(request), { created: true, granted: [`g ${name}`] }, name);
        const { rows } = await database.query(
          "SELECT shobj_description(oid, 'pg_authid') AS origin FROM pg_roles WHERE rolname = $1",
          [name],
        );
        t.equal(rows[0].origin, `jwt_token:https://${name}/\\'`);
        t.match(await prepare(existing(name)), { revoked: [`g ${name}`] });
      }
      t.equal((await database.query("SELECT FROM pg_roles WHERE rolname = 'readers'")).rowCount, 1);
    });

    t.test(
      'many logins at the same time, in two processes, cause no deadlock and lose nothing',
      async (t) => {
        const other = new Directory(connectionOf(database));
        const users = Array.from({ length: 12 }, (_, i) => `user${i}`);
        const orders = [ROLES, [...ROLES].reverse(), [...ROLES.slice(2), ...ROLES.slice(0, 2)]];
        for (const wanted of [ROLES, ROLES.slice(0, 1), ROLES]) {
          await Promise.all(
            users.flatMap((user) =>
              orders.map((order, i) =>
                prepare(
                  first(user, ...order.filter((role) => wanted.includes(role))),
                  i % 2 ? directory : other,
                ),
              ),
            ),
          );
          for (const user of users)
            t.equal((await memberships(database, user)).length, wanted.length, user);
        }
        await other.close();
        t.notMatch(database.log(), /deadlock detected/);
      },
    );

    t.test('a change that is interrupted leaves everything as it was', async (t) => {
      await database.query('CREATE ROLE frank LOGIN');
      await prepare(existing('frank', 'analysts'));
      const { socketDir: host, port } = database;
      const person = new pg.Client({ host, port, user: 'postgres', database: 'postgres' });
      await person.connect();
      await person.query('BEGIN');
      await person.query('GRANT team_b TO frank');
      const changing = refusal(prepare(existing('frank', 'developers', 'team_b')));
      const waiting =
        "FROM pg_stat_activity WHERE application_name = 'pgsso directory' " +
        "AND wait_event_type = 'Lock'";
      for (;;) {
        const { rowCount } = await database.query(`SELECT pg_terminate_backend(pid) ${waiting}`);
        if (rowCount) break;
        await sleep(10);
      }
      t.match(await changing, {
        sqlstate: '57P03',
        code: 'directory_unavailable',
        reason: /57P01|terminated/,
      });
      await person.query('ROLLBACK');
      await person.end();
      t.strictSame(await memberships(database, 'frank'), ['analysts by pgsso_directory']);
      const after = await prepare(existing('frank', 'developers', 'team_b'));
      t.match(after, { granted: ['developers', 'team_b'], revoked: ['analysts'] });
    });

    t.test(
      "a user that cannot be created is refused with the contract's message and gets no role",
      async (t) => {
        const lame = new Directory(connectionOf(database, 'bob', 'postgres'));
        const error = await refusal(prepare(first('greta', 'readers'), lame));
        t.match(error, {
          sqlstate: '28000',
          message: 'JWT provisioning: failed to create role',
          reason: /permission denied.*42501/,
        });
        t.match(await lame.problem('create'), /bob may not create users/);
        await lame.close();
      },
    );

    t.test('a superuser is refused as directory, from the start or later', async (t) => {
      const mighty = new Directory(connectionOf(database, 'postgres'));
      t.match(await mighty.problem(), /postgres is a superuser/);
      t.match(await refusal(prepare(existing('bob', 'readers'), mighty)), {
        sqlstate: '57P03',
        reason: /superuser/,
      });
      await mighty.close();
      await database.query('ALTER ROLE pgsso_directory SUPERUSER');
      t.match(await refusal(prepare(existing('bob', 'readers'))), {
        sqlstate: '57P03',
        reason: /superuser/,
      });
      await database.query('ALTER ROLE pgsso_directory NOSUPERUSER');
      t.match(await prepare(existing('bob', 'readers')), { exists: true });
    });

    t.test('settings of the role and of the database have no effect', async (t) => {
      for (const sql of [
        'ALTER ROLE pgsso_directory SET search_path = public',
        'ALTER ROLE pgsso_directory SET default_transaction_read_only = on',
        "ALTER ROLE pgsso_directory SET statement_timeout = '1ms'",
        'ALTER ROLE pgsso_directory SET default_transaction_isolation = serializable',
        ...(version >= 16
          ? ["ALTER ROLE pgsso_directory SET createrole_self_grant = 'set, inherit'"]
          : []),
      ]) {
        await database.query(sql);
      }
      const fresh = new Directory(connectionOf(database));
      t.match(await prepare(first('henry', 'readers'), fresh), {
        created: true,
        granted: ['readers'],
      });
      await fresh.close();
      const { rows } = await database.query(
        `SELECT count(*) FROM pg_auth_members
          WHERE roleid = 'henry'::regrole AND to_jsonb(pg_auth_members) @> '{"set_option": true}'`,
      );
      t.equal(rows[0].count, '0', 'the directory did not become a member of the user');
      await database.query('ALTER ROLE pgsso_directory RESET ALL');
    });

    t.test('the users are listed with origin, last login and roles', async (t) => {
      directory.noteLogin('alice', 1000);
      const users = new Map((await directory.users()).map((user) => [user.user, user]));
      t.strictSame(users.get('alice'), {
        user: 'alice',
        origin: `jwt_token:${ISSUER}`,
        lastLogin: 1000,
        roles: [],
      });
      t.strictSame(users.get('frank'), {
        user: 'frank',
        origin: undefined,
        lastLogin: undefined,
        roles: ['developers', 'team_b'],
      });
      t.notOk(users.has('erin'));
    });

    t.test(
      'logins are refused with 57P03 while the database is away, and served when it is back',
      async (t) => {
        await database.stop();
        t.match(await refusal(prepare(existing('bob', 'readers'))), {
          sqlstate: '57P03',
          message: 'the directory of users and roles is not available',
          reason: /ENOENT|ECONNREFUSED|terminat|57P01/,
          fault: 'backend',
        });
        await database.restart();
        t.match(await prepare(existing('bob', 'readers')), { exists: true });
      },
    );

    t.test('an aborted login does not wait for the directory', async (t) => {
      const abort = new AbortController();
      const waiting = directory.prepare(existing('bob', 'readers'), abort.signal);
      abort.abort(new Error('gone'));
      await t.rejects(waiting, { message: 'gone' });
      await t.rejects(directory.prepare(existing('bob'), abort.signal), { message: 'gone' });
    });
  });
}
