/** The last good keys, stored in the data directory. */

import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { KeyFiles } from '../../src/keys/key-files.ts';

const stored = {
  issuer: 'https://id.example/../x',
  origin: 'origin',
  fetchedAt: 1_700_000_000_000,
  jwks: { keys: [{ kid: 'a' }] },
};

async function directory(t: { teardown(call: () => unknown): void }): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'pgsso-keys-'));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

t.test(
  'keys are read back for their issuer and origin only, from a file that only we can read',
  async (t) => {
    const path = await directory(t);
    const files = new KeyFiles(path);
    t.equal(await files.read(stored.issuer, stored.origin), undefined);
    await files.write({ ...stored, fetchedAt: 1 });
    await files.write(stored);
    t.strictSame(await files.read(stored.issuer, stored.origin), stored);
    t.equal(await files.read(stored.issuer, 'another'), undefined);
    t.equal(await files.read('https://other.example', stored.origin), undefined);
    const names = await readdir(path);
    t.equal(names.length, 1, 'one file, whatever the issuer is called');
    const [name = ''] = names;
    t.match(name, /^keys\.[0-9a-f]{32}\.json$/);
    t.equal((await stat(join(path, name))).mode & 0o777, 0o600);
    t.match(
      JSON.parse(await readFile(join(path, name), 'utf8')),
      { fetchedAt: '2023-11-14T22:13:20.000Z' },
      'with its time',
    );
  },
);

t.test('a damaged file is an error, and the next write repairs it', async (t) => {
  const path = await directory(t);
  const files = new KeyFiles(path);
  await files.write(stored);
  const [name = ''] = await readdir(path);
  for (const text of ['{"format":1', '[]', '{"format":2}', '{"format":1,"fetchedAt":"soon"}', '']) {
    await writeFile(join(path, name), text);
    await t.rejects(files.read(stored.issuer, stored.origin), text);
  }
  await files.write(stored);
  t.ok(await files.read(stored.issuer, stored.origin));
});

t.test('a failed write leaves no file behind', async (t) => {
  const path = await directory(t);
  const files = new KeyFiles(join(path, 'missing'));
  await t.rejects(files.write(stored), { code: 'ENOENT' });
  t.strictSame(await readdir(path), []);
});
