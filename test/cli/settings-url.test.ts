/** `pgsso settings` over a listener by `PGSSO_URL`, and its error messages and exit statuses. */
import t from 'tap';
import { startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { runMany } from './command-line.ts';
import { NAME, runSettings } from './settings-command.ts';

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

t.test('over a listener the user has the rights of its role', async (t) => {
  const url = (user: string): string =>
    `postgres://${user}@127.0.0.1:${port}/pgsso?options=--crdb:jwt_auth_enabled%3Dtrue`;
  const as = (user: string): NodeJS.ProcessEnv => ({
    PGSSO_URL: url(user),
    PGPASSWORD: token(user),
  });
  t.match(await runSettings(['set', NAME, '3s'], '', as('alice')), { status: 0, stderr: '' });
  t.match(await runSettings(['get', NAME], '', as('vera')), { status: 0, stdout: '3s\n' });
  t.match(await runSettings(['set', NAME, '4s'], '', as('vera')), {
    status: 1,
    stderr: /MODIFYCLUSTERSETTING/,
  });
  t.match(await runSettings(['get', NAME], '', { PGSSO_URL: url('alice'), PGPASSWORD: 'a.b.c' }), {
    status: 1,
    stderr: /invalid token/,
  });
});

t.test('an error is one line, with exit status 1 or 2', async (t) => {
  const here = { PGSSO_DATA_DIR: dataDir };
  const secret = 'postgres://alice:hunter2@h/pgsso';
  const rows: [readonly string[], NodeJS.ProcessEnv, number, RegExp][] = [
    [
      ['get', 'server.jwt_authentication.enabeld'],
      here,
      1,
      /^pgsso: unknown cluster setting.*nearest.*enabled\.\n$/,
    ],
    [['get', NAME], { PGSSO_DATA_DIR: database.socketDir }, 1, /^pgsso: [^\n]*\n$/],
    [['get', NAME], { PGSSO_DATA_DIR: '/nowhere' }, 1, /^pgsso: --data-dir: .*\n$/],
    [['--url', secret, 'get', NAME], here, 2, /^pgsso: --url: .*PGPASSWORD\n$/],
    [['--url', 'http://h', 'get', NAME], here, 2, /--url/],
    [['--port', '0', 'get', NAME], here, 2, /--port/],
    [['frobnicate'], here, 2, /frobnicate/],
  ];
  const outcomes = await runMany(rows.map(([args, env]) => ({ args: ['settings', ...args], env })));
  t.equal(outcomes.length, rows.length);
  for (const [index, [args, , status, stderr]] of rows.entries())
    t.match(outcomes[index], { status, stderr }, args.join(' '));
  t.notMatch(JSON.stringify(outcomes), /hunter2/);
});
