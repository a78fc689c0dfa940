/** `pgsso settings` over the socket of the console: get, set, reset and list. */
import pg from 'pg';
import t from 'tap';
import { ISSUER, startFrontEnd } from '../support/front-end.ts';
import type { Outcome } from '../support/node-command.ts';
import { NAME, NO_BACKEND, runSettings } from './settings-command.ts';

const frontEnd = await startFrontEnd(NO_BACKEND);
t.teardown(() => frontEnd.close());
const { dataDir } = frontEnd;

const settings = (args: readonly string[], input = ''): Promise<Outcome> =>
  runSettings(args, input, { PGSSO_DATA_DIR: dataDir });

t.test('set, get, reset and list over the socket', async (t) => {
  t.strictSame(await settings(['set', NAME, '00:00:07']), { status: 0, stdout: '', stderr: '' });
  t.strictSame(await settings(['get', NAME]), { status: 0, stdout: '7s\n', stderr: '' });
  t.strictSame(await settings(['get', '--json', NAME]), {
    status: 0,
    stdout: '"7s"\n',
    stderr: '',
  });
  t.match(await settings(['set', NAME, '-'], '8s'), { status: 0 });
  const alias = await settings(['get', 'server.jwt_authentication.issuers']);
  t.match(alias, { status: 0, stderr: /^pgsso: NOTICE: "server\.jwt_auth.*alias for .*\n$/ });
  t.equal(alias.stdout, `${ISSUER}\n`);
  const { stdout } = await settings(['list', '--json']);
  t.match(
    JSON.parse(stdout).find(({ variable }: { variable: string }) => variable === NAME),
    { value: '8s', origin: 'override' },
  );
  t.match(await settings(['list']), { stdout: /^override {2}pgsso\.clock_tolerance = "8s"$/m });
  t.match(await settings(['reset', NAME]), { status: 0 });
  t.match(await settings(['get', NAME]), { stdout: '5s\n' });
});

t.test(
  'a value from standard input loses one line break, so sub from a shell is sub',
  async (t) => {
    const console = new pg.Client({ host: dataDir, port: frontEnd.port, database: 'pgsso' });
    await console.connect();
    t.teardown(() => console.end());
    const claim = 'server.jwt_authentication.claim';
    for (const [given, value] of [
      ['sub\n', 'sub'],
      ['sub\r\n', 'sub'],
      [' sub\n\n', ' sub\n'],
    ] as const) {
      t.match(await settings(['set', claim, '-'], given), { status: 0 });
      const { rows } = await console.query(`SHOW CLUSTER SETTING ${claim}`);
      t.strictSame(rows, [{ [claim]: value }], JSON.stringify(given));
    }
  },
);
