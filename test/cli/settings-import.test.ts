/** `pgsso settings import` and `export`, over the socket of the console. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { startFrontEnd } from '../support/front-end.ts';
import type { Outcome } from '../support/node-command.ts';
import { NAME, NO_BACKEND, runSettings } from './settings-command.ts';

const frontEnd = await startFrontEnd(NO_BACKEND);
t.teardown(() => frontEnd.close());
const { dataDir } = frontEnd;

const settings = (args: readonly string[], input = ''): Promise<Outcome> =>
  runSettings(args, input, { PGSSO_DATA_DIR: dataDir });

t.test('import is all or nothing, and takes what export writes', async (t) => {
  const good = {
    [NAME]: '9s',
    'server.jwt_authentication.audience': ['a', 'b'],
    'server.jwt_authentication.claim': 'email',
  };
  t.match(await settings(['import', '-'], JSON.stringify(good)), { status: 0, stderr: '' });
  const exported = await settings(['export']);
  t.strictSame(JSON.parse(exported.stdout), {
    ...good,
    'server.jwt_authentication.audience': '["a","b"]',
  });

  const bad = await settings(
    ['import', '-'],
    JSON.stringify({ 'server.jwt_authentication.claim': 'sub', [NAME]: '99h' }),
  );
  t.match(bad, {
    status: 1,
    stderr: /^pgsso: invalid value for .*: cannot be set to more than 1m0s.*clock_tolerance'\n$/,
  });
  t.match(await settings(['get', 'server.jwt_authentication.claim']), { stdout: 'email\n' });
  for (const text of ['nonsense', '[]', '{"a": null'])
    t.match(await settings(['import', '-'], text), { status: 1, stderr: /^pgsso: import: / });

  const file = join(dataDir, 'import.json');
  await writeFile(file, exported.stdout);
  t.match(
    await settings(
      ['import', '-'],
      JSON.stringify({
        [NAME]: null,
        'server.jwt_authentication.audience': null,
        'server.jwt_authentication.claim': null,
      }),
    ),
    { status: 0 },
  );
  t.equal((await settings(['export'])).stdout, '{}\n');
  t.match(await settings(['import', file]), { status: 0 });
  t.strictSame(JSON.parse((await settings(['export'])).stdout), JSON.parse(exported.stdout));
});
