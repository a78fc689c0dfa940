/** The rules of the source tree hold: import order, circles, grain, width. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';

t.test('the house rules hold', async (t) => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const { status, stdout } = spawnSync(process.execPath, ['scripts/house.mjs'], {
    cwd: root,
    encoding: 'utf8',
  });
  t.equal(status, 0, stdout);
  t.match(stdout, /^circles of imports: 0$/m);
});
