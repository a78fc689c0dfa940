/**
 * Logins that create the user, or that grant and revoke roles by the groups of the token: from the
 * token to what the user may do in the database. They run on each installed version of PostgreSQL.
 */

import pg from 'pg';
import t from 'tap';
import { ISSUER, JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startIssuer } from '../support/issuer.ts';
import { startPostgres } from '../support/postgres.ts';
import { installedVersions } from '../support/postgres-versions.ts';
import { type Members, testKey } from '../support/tokens.ts';

const PROVISION = { 'security.provisioning.jwt.enabled': 'true' };
const SYNC = { 'server.jwt_authentication.authorization.enabled': 'true' };

const INIT_SQL = [
  'CREATE ROLE pgsso_directory LOGIN CREATEROLE NOINHERIT',
  'CREATE ROLE readers',
  'CREATE ROLE writers',
  'CREATE ROLE viewer LOGIN',
  'CREATE ROLE byhand LOGIN',
  'CREATE TABLE notes (note text)',
  'GRANT SELECT ON notes TO readers',
  'GRANT INSERT ON notes TO writers',
  'GRANT readers, writers, pg_monitor TO pgsso_directory WITH ADMIN OPTION',
];

// All servers start at once: the tests of one run while the next ones are made.
const servers = installedVersions().map(
  (version) => [version, startPostgres({ version, initSql: INIT_SQL })] as const,
);

for (const [version, starting] of servers) {
  t.test(`PostgreSQL ${version}`, async (t) => {
    const database = await starting;
    t.teardown(() => database.close());
    const socket = `host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
    const backend = `postgres:///?${socket}`;
    const directory = `postgres://pgsso_directory@/postgres?${socket}`;
    const start = async (settings: Record<string, string>) => {
      const frontEnd = await startFrontEnd(backend, { directory, settings, viewers: ['viewer'] });
      t.teardown(() => frontEnd.close());
      return frontEnd;
    };

    /** Logs in with a token of these claims and runs a query. */
    async function run(
      port: number,
      user: string,
      claims: Members,
      sql = 'SELECT 1',
    ): Promise<pg.QueryResult> {
      const options = JWT_OPTION;
      return query(
        {
          host: '127.0.0.1',
          port,
          user,
          password: token(user, claims),
          database: 'postgres',
          options,
        },
        sql,
      );
    }

    async function query(config: pg.ClientConfig, sql: string): Promise<pg.QueryResult> {
      const client = new pg.Client(config);
      await client.connect();
      try {
        return await client.query(sql);
      } finally {
        await client.end();
      }
    }

    async function refused(
      port: number,
      user: string,
      claims: Members = {},
    ): Promise<pg.DatabaseError> {
      try {
        await run(port, user, claims);
      } catch (error) {
        return error as pg.DatabaseError;
      }
      throw new Error('the login was accepted');
    }

    async function rolesOf(user: string): Promise<string[]> {
      const { rows } = await database.query(
        'SELECT roleid::regrole::text AS role FROM pg_auth_members ' +
          'WHERE member = $1::regrole ORDER BY 1',
        [`"${user}"`],
      );
      return rows.map(({ role }) => role);
    }

    function showUsers(config: pg.ClientConfig): Promise<pg.QueryResult> {
      return query({ ...config, database: 'pgsso' }, 'SHOW USERS');
    }

    t.test(
      'groups that are missing from the token are fetched from the issuer with the token',
      async (t) => {
        const issuer = await startIssuer([testKey('RS256')]);
        t.teardown(() => issuer.close());
        const { port, event } = await start({
          ...PROVISION,
          ...SYNC,
          'server.jwt_authentication.issuers.configuration': issuer.issuer,
          'server.jwt_authentication.jwks_auto_fetch.enabled': 'true',
        });
        const claims = { iss: issuer.issuer };
        t.match(await refused(port, 'asked', claims), {
          code: '28000',
          message: 'JWT authorization: No userinfo endpoint',
        });
        t.match(await event({ outcome: 'refused' }), { fault: 'identity provider' });

        const another = await startIssuer([testKey('RS256')]);
        t.teardown(() => another.close());
        another.document = { userinfo_endpoint: `${another.issuer}/userinfo` };
        let bearer = '';
        another.behaviour = (request, response, ordinary) => {
          if (request.url !== '/userinfo') return ordinary();
          bearer = request.headers.authorization ?? '';
          response
            .writeHead(200, { 'content-type': 'application/json' })
            .end(JSON.stringify({ sub: 'asked', groups: ['Writers'] }));
        };
        const front = await start({
          ...PROVISION,
          ...SYNC,
          'server.jwt_authentication.issuers.configuration': another.issuer,
          'server.jwt_authentication.jwks_auto_fetch.enabled': 'true',
        });
        await run(front.port, 'asked', { iss: another.issuer });
        t.match(bearer, /^Bearer eyJ/);
        t.strictSame(await rolesOf('asked'), ['writers']);
        another.behaviour = (request, response, ordinary) =>
          request.url === '/userinfo' ? void response.writeHead(401).end() : ordinary();
        t.match(await refused(front.port, 'asked', { iss: another.issuer }), {
          message: 'JWT authorization: userinfo lookup failed',
        });
        t.strictSame(
          await rolesOf('asked'),
          ['writers'],
          'no role is revoked if the issuer does not answer',
        );
        another.behaviour = (request, response, ordinary) => {
          if (request.url !== '/userinfo') return ordinary();
          response
            .writeHead(200, { 'content-type': 'application/json' })
            .end(JSON.stringify({ sub: 'asked', name: 'no groups' }));
        };
        t.match(await refused(front.port, 'asked', { iss: another.issuer }), {
          message: 'JWT authorization: empty group list',
        });
        t.strictSame(await rolesOf('asked'), [], 'an answer without groups revokes all roles');
      },
    );

    t.test(
      'with provisioning and roles, the first login may do what the groups allow',
      async (t) => {
        const { port, event } = await start({ ...PROVISION, ...SYNC });
        const { rows } = await run(
          port,
          'newcomer',
          { groups: ['Readers', 'an unknown group'] },
          'SELECT count(*)::int AS n FROM notes',
        );
        t.strictSame(rows, [{ n: 0 }]);
        t.match(await event({ event: 'login', user: 'newcomer' }), {
          outcome: 'accepted',
          created: true,
          granted: ['readers'],
        });
        await t.rejects(
          run(port, 'newcomer', { groups: 'readers' }, "INSERT INTO notes VALUES ('x')"),
          { code: '42501' },
        );

        await run(port, 'newcomer', { groups: ['readers', 'writers'] });
        t.strictSame(await rolesOf('newcomer'), ['readers', 'writers'], 'two roles as an array');
        await run(port, 'newcomer', { groups: 'WRITERS' });
        t.strictSame(await rolesOf('newcomer'), ['writers'], 'one role as text revokes the other');
        await run(port, 'newcomer', { groups: 'writers, Readers' });
        t.strictSame(await rolesOf('newcomer'), ['readers', 'writers'], 'text with a comma');

        const error = await refused(port, 'newcomer');
        t.match(
          error,
          { code: '28000', message: 'JWT authorization: userinfo lookup failed' },
          'no claim',
        );
        t.strictSame(
          await rolesOf('newcomer'),
          ['readers', 'writers'],
          'a failure changes nothing',
        );

        t.match(await refused(port, 'newcomer', { groups: [] }), {
          code: '28000',
          message: 'JWT authorization: empty group list',
        });
        t.strictSame(await rolesOf('newcomer'), [], 'without a group there is no role');
        t.match(await refused(port, 'never seen', { groups: [] }), {
          message: 'JWT authorization: empty group list',
        });
        t.equal(
          (await database.query("SELECT FROM pg_roles WHERE rolname = 'never seen'")).rowCount,
          0,
        );
      },
    );

    t.test(
      'SHOW USERS lists each user that the directory created, or granted a role to',
      async (t) => {
        const { port, dataDir } = await start({ ...PROVISION, ...SYNC });
        const origin = `jwt_token:${ISSUER}`;
        const shown = async (user: string) => {
          const { rows } = await showUsers({ host: dataDir, port, user: 'owner' });
          return rows.find((row) => row.user === user);
        };
        t.equal(await shown('listed'), undefined);
        const before = new Date().toISOString();
        await run(port, 'listed', { groups: ['Writers', 'readers'] });
        const listed = await shown('listed');
        t.match(listed, { user: 'listed', origin, roles: 'readers, writers' });
        t.ok(
          listed.last_login >= before && listed.last_login <= new Date().toISOString(),
          listed.last_login,
        );

        await database.query('GRANT pg_monitor TO listed, byhand');
        t.equal(
          (await shown('listed')).roles,
          'readers, writers',
          'roles that others granted are not listed',
        );
        t.equal(await shown('byhand'), undefined);
        await run(port, 'byhand', { groups: 'readers' });
        t.match(
          await shown('byhand'),
          { origin: null, roles: 'readers' },
          'created by hand, with a role granted by us',
        );

        for (const user of ['listed', 'byhand'])
          t.match(await refused(port, user, { groups: [] }), {
            code: '28000',
            message: 'JWT authorization: empty group list',
          });
        t.strictSame(
          await shown('listed'),
          { ...listed, roles: '' },
          'without roles; a refused login is not counted',
        );
        t.equal(await shown('byhand'), undefined);

        const seen = await showUsers({
          host: '127.0.0.1',
          port,
          user: 'viewer',
          password: token('viewer', { groups: 'readers' }),
          options: JWT_OPTION,
        });
        t.strictSame(
          seen.rows,
          (await showUsers({ host: dataDir, port, user: 'owner' })).rows,
          'a viewer may see the users',
        );
        const empty = {
          host: '127.0.0.1',
          port,
          user: 'viewer',
          password: token('viewer', { groups: [] }),
          options: JWT_OPTION,
        };
        await t.rejects(
          showUsers(empty),
          { message: 'JWT authorization: empty group list' },
          'a viewer without a group may not',
        );
        const another = await start({});
        t.match(
          (await showUsers({ host: another.dataDir, port: another.port, user: 'owner' })).rows.find(
            ({ user }) => user === 'listed',
          ),
          { origin, last_login: null },
          'another process knows the users, but not their last login',
        );
      },
    );

    t.test('a running session goes on with the roles that the next login leaves', async (t) => {
      const { port } = await start({ ...PROVISION, ...SYNC });
      const password = token('runner', { groups: ['readers'] });
      const running = new pg.Client({
        host: '127.0.0.1',
        port,
        user: 'runner',
        password,
        database: 'postgres',
        options: JWT_OPTION,
      });
      await running.connect();
      await running.query('SELECT FROM notes');
      await run(port, 'runner', { groups: ['writers'] });
      await t.rejects(running.query('SELECT FROM notes'), {
        code: '42501',
        message: /permission denied/,
      });
      t.equal((await running.query("INSERT INTO notes VALUES ('still here')")).rowCount, 1);
      await running.end();
    });

    t.test('a hundred first logins of one user at once are all accepted', async (t) => {
      const { port } = await start({ ...PROVISION, ...SYNC });
      const results = await Promise.all(
        Array.from({ length: 100 }, () => run(port, 'crowd', { groups: ['readers'] })),
      );
      t.equal(results.length, 100);
      t.strictSame(await rolesOf('crowd'), ['readers']);
    });

    t.test(
      'provisioning alone grants no roles, and creates only users that match the pattern',
      async (t) => {
        const { port, event } = await start({
          ...PROVISION,
          'pgsso.provisioning.pattern': '^svc-[a-z]+$',
        });
        await run(port, 'svc-reports', { groups: ['readers'] });
        t.strictSame(await rolesOf('svc-reports'), []);
        const error = await refused(port, 'mallory');
        t.match(error, {
          code: '28000',
          message: 'JWT authentication: invalid claim value',
          detail: /^the value mallory for the issuer /,
        });
        t.match(await event({ event: 'login', user: 'mallory' }), {
          reason: /pgsso\.provisioning\.pattern/,
        });
        await run(port, 'newcomer', {});
        t.match(
          await refused(port, 'pgsso_directory'),
          { message: 'JWT authentication: invalid identity' },
          'the name of the directory user is reserved',
        );
      },
    );

    t.test('roles alone create no user, and the backend refuses a missing one', async (t) => {
      const { port } = await start({
        ...SYNC,
        'pgsso.role_map.configuration': 'watchers pg_monitor\n/^db-(.*)$ \\1',
      });
      t.match(await refused(port, 'stranger', { groups: ['db-readers'] }), {
        code: '28000',
        message: 'role "stranger" does not exist',
      });
      await run(port, 'newcomer', { groups: ['watchers', 'db-readers', 'writers'] });
      t.strictSame(await rolesOf('newcomer'), ['pg_monitor', 'readers']);
      await run(port, 'newcomer', { groups: ['db-pg_monitor'] });
      t.strictSame(await rolesOf('newcomer'), [], 'a pg_ role must be named in full');
    });

    t.test(
      'without the directory, logins that need it are refused with 57P03, and others work',
      async (t) => {
        const needing = await start(SYNC);
        const plain = await startFrontEnd(backend);
        t.teardown(() => plain.close());
        await database.query('ALTER ROLE pgsso_directory CONNECTION LIMIT 0');
        await database.query(
          'SELECT pg_terminate_backend(pid) FROM pg_stat_activity ' +
            "WHERE usename = 'pgsso_directory'",
        );
        const error = await refused(needing.port, 'newcomer', { groups: ['readers'] });
        t.match(error, {
          code: '57P03',
          message: 'the directory of users and roles is not available',
        });
        t.match(await needing.event({ code: 'directory_unavailable' }), {
          reason: /--directory: .*(53300|57P01|terminated)/,
          fault: 'backend',
        });
        await run(plain.port, 'newcomer', {});
        const owner = { host: needing.dataDir, port: needing.port, user: 'owner' };
        t.match(await showUsers(owner).catch((thrown) => thrown), {
          code: '57P03',
          message: error.message,
          hint: /in the log/,
        });
        t.match(await needing.event({ event: 'console', code: 'directory_unavailable' }), {
          reason: /--directory: .*53300/,
        });
        await database.query('ALTER ROLE pgsso_directory CONNECTION LIMIT -1');
        t.ok((await showUsers(owner)).rows.length > 0, 'the directory is available again');
        await run(needing.port, 'newcomer', { groups: ['readers'] });
        t.strictSame(await rolesOf('newcomer'), ['readers']);
      },
    );

    t.test('a user that a token made has no native login, whatever its password', async (t) => {
      const { port, event } = await start(PROVISION);
      const without = await startFrontEnd(backend);
      t.teardown(() => without.close());
      const long = 'l'.repeat(63);
      for (const user of ['leaver', long])
        await run(port, user, {}, `ALTER ROLE "${user}" PASSWORD 'own'`);
      await database.query("ALTER ROLE byhand PASSWORD 'own'");
      await database.reload({ hba: ['local all pgsso_directory trust', 'local all all password'] });
      const native = async (user: string, password = 'own', at = port): Promise<string> => {
        const config = { host: '127.0.0.1', port: at, user, password, database: 'postgres' };
        return query(config, 'SELECT session_user AS who').then(
          ({ rows }) => rows[0].who,
          (error: pg.DatabaseError) => `${error.code}: ${error.message}`,
        );
      };
      const made = (user: string): string =>
        `28000: user "${user}" was created by an identity provider and logs in with a token`;
      t.strictSame(
        {
          leaver: await native('leaver'),
          // The server cuts the name.
          cut: await native(`${long}xyz`),
          console: await query(
            { host: '127.0.0.1', port, user: 'leaver', password: 'own', database: 'pgsso' },
            'SHOW USERS',
          ).catch(({ message }) => message),
          byhand: await native('byhand'),
          // Who does not know the password learns nothing of the user.
          wrong: await native('leaver', 'wrong'),
          without: await native('leaver', 'own', without.port),
        },
        {
          leaver: made('leaver'),
          cut: made(`${long}xyz`),
          console: made('leaver').slice('28000: '.length),
          byhand: 'byhand',
          wrong: '28P01: password authentication failed for user "leaver"',
          without: 'leaver',
        },
      );
      t.match(await event({ code: 'provisioned_user' }), {
        user: 'leaver',
        fault: 'client',
        reason: /the comment on the role says so.*--directory/,
      });
      await database.query('ALTER ROLE pgsso_directory CONNECTION LIMIT 0');
      await database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgsso_directory'",
      );
      t.match(await native('byhand'), /^57P03: the directory of users and roles is not available/);
      await database.query('ALTER ROLE pgsso_directory CONNECTION LIMIT -1');
      await database.reload({ hba: ['local all all trust', 'host all all all trust'] });
    });

    t.test(
      'a missing or unfit directory refuses the start, and an unreachable one is a warning',
      async (t) => {
        await t.rejects(startFrontEnd(backend, { settings: PROVISION }), {
          message: /security\.provisioning\.jwt\.enabled.*directory/,
        });
        await t.rejects(startFrontEnd(backend, { settings: SYNC }), {
          message: /authorization\.enabled.*directory/,
        });
        const as = (user: string) => directory.replace('pgsso_directory', user);
        await t.rejects(startFrontEnd(backend, { directory: as('postgres') }), {
          message: /--directory: postgres is a superuser/,
        });
        await t.rejects(
          startFrontEnd(backend, { directory: as('newcomer'), settings: PROVISION }),
          {
            message: /newcomer may not create users/,
          },
        );
        await t.rejects(startFrontEnd(backend, { directory: as('newcomer'), settings: SYNC }), {
          message: /newcomer may grant no role/,
        });
        const away = await startFrontEnd(backend, {
          directory: 'postgres://pgsso_directory@127.0.0.1:1/postgres',
          settings: SYNC,
        });
        t.teardown(() => away.close());
        t.match(await away.event({ event: 'start', level: 'warn' }), {
          reason: /127\.0\.0\.1:1.*ECONNREFUSED/,
        });
      },
    );
  });
}
