/** `pgsso settings` over a listener by `PGSSO_URL`, and its error messages and exit statuses. */
import t from 'tap';
import { startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { NAME, type Outcome, runSettings } from './settings-command.ts';

const database = await startPostgres({
  initSql: ['CREATE ROLE alice LOGIN', 'CREATE ROLE vera LOGIN'],
});
t.teardown(() => database.close());
const frontEnd = await startFrontEnd(
  `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`,
  {
    admins: ['alice'],
    viewers: ['vera'],
  },
);
t.teardown(() => frontEnd.close());
const { port, dataDir } = frontEnd;

const settings = (
  args: readonly string[],
  input = '',
  env: NodeJS.ProcessEnv = { PGSSO_DATA_DIR: dataDir },
): Promise<Outcome> => runSettings(args, input, env);

t.test('over a listener the user has the rights of its role', async (t) => {
  const url = (user: string): string =>
    `postgres://${user}@127.0.0.1:${port}/pgsso?options=--crdb:jwt_auth_enabled%3Dtrue`;
  const as = (user: string): NodeJS.ProcessEnv => ({
    PGSSO_URL: url(user),
    PGPASSWORD: token(user),
  });
  t.match(await settings(['set', NAME, '3s'], '', as('alice')), { status: 0, stderr: '' });
  t.match(await settings(['get', NAME], '', as('vera')), { status: 0, stdout: '3s\n' });
  t.match(await settings(['set', NAME, '4s'], '', as('vera')), {
    status: 1,
    stderr: /MODIFYCLUSTERSETTING/,
  });
  t.match(await settings(['get', NAME], '', { PGSSO_URL: url('alice'), PGPASSWORD: 'a.b.c' }), {
    status: 1,
    stderr: /invalid token/,
  });
});

t.test('an error is one line, with exit status 1 or 2', async (t) => {
  t.match(await settings(['get', 'server.jwt_authentication.enabeld']), {
    status: 1,
    stderr: /^pgsso: unknown cluster setting.*nearest.*enabled\.\n$/,
  });
  t.match(await settings(['get', NAME], '', { PGSSO_DATA_DIR: database.socketDir }), { status: 1 });
  t.match(await settings(['get', NAME], '', { PGSSO_DATA_DIR: '/nowhere' }), {
    status: 1,
    stderr: /^pgsso: --data-dir: .*\n$/,
  });
  const secret = 'postgres://alice:hunter2@h/pgsso';
  const flagged = await settings(['--url', secret, 'get', NAME]);
  t.match(flagged, { status: 2, stderr: /^pgsso: --url: .*PGPASSWORD\n$/ });
  t.notMatch(flagged.stderr, /hunter2/);
  t.match(await settings(['--url', 'http://h', 'get', NAME]), { status: 2, stderr: /--url/ });
  t.match(await settings(['--port', '0', 'get', NAME]), { status: 2, stderr: /--port/ });
  t.match(await settings(['frobnicate']), { status: 2 });
});
