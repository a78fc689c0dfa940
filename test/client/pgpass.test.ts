/** The password file of `pgsso token --pgpass`, as libpq reads it. */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { placeLine, writePgpass } from '../../src/client/pgpass.ts';

const folder = mkdtempSync(join(tmpdir(), 'pgsso-pgpass-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const state = join(folder, 'state');
const { signal } = new AbortController();
const any = { host: '*', port: '*', dbname: '*', user: '*' };
const db = { ...any, host: 'db' };

t.test('the line is replaced where it is, or put where libpq finds it first', async (t) => {
  const rows = [
    { when: 'there is none', before: '', fields: db, after: 'db:*:*:*:T\n' },
    {
      when: 'there is one',
      before: 'db:*:*:*:old\nx:*:*:*:y',
      fields: db,
      after: 'db:*:*:*:T\nx:*:*:*:y\n',
    },
    {
      when: 'others come first',
      before: 'x:1:a:b:y\n',
      fields: any,
      after: 'x:1:a:b:y\n*:*:*:*:T\n',
    },
    {
      when: 'another would hide it',
      before: '# mine\n*:*:*:*:y\n',
      fields: db,
      after: '# mine\ndb:*:*:*:T\n*:*:*:*:y\n',
    },
    {
      when: 'it was hidden',
      before: '*:*:*:*:y\ndb:*:*:*:old\n',
      fields: db,
      after: 'db:*:*:*:T\n*:*:*:*:y\n',
    },
    {
      when: 'a field has a colon',
      before: '',
      fields: { ...any, host: '::1' },
      after: '\\:\\:1:*:*:*:T\n',
    },
    {
      when: 'that line is there',
      before: '\\:\\:1:*:*:*:old\n',
      fields: { ...any, host: '::1' },
      after: '\\:\\:1:*:*:*:T\n',
    },
    { when: 'a line is no entry', before: 'db\n\n', fields: db, after: 'db\n\ndb:*:*:*:T\n' },
  ];
  for (const { when, before, fields, after } of rows)
    t.equal(placeLine(before, fields, 'T'), after, when);
  t.throws(() => placeLine('', { ...any, user: 'a\nb' }, 'T'), /line break/);
});

t.test('the file has mode 0600 whatever it had, and a symbolic link is refused', async (t) => {
  const file = join(folder, 'pgpass');
  writeFileSync(file, 'x:*:*:*:y\n', { mode: 0o644 });
  await writePgpass(file, db, 'T', state, signal);
  t.equal(statSync(file).mode & 0o777, 0o600);
  const link = join(folder, 'link');
  symlinkSync(file, link);
  await t.rejects(writePgpass(link, db, 'U', state, signal), { message: /symbolic link/ });
  t.ok(lstatSync(link).isSymbolicLink());
  t.match(readFileSync(file, 'utf8'), /^db:\*:\*:\*:T$/m);
  const open = join(folder, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  await t.rejects(writePgpass(join(open, 'pgpass'), db, 'T', state, signal), {
    message: /other users can write/,
  });
});

t.test('several at a time lose no line', async (t) => {
  const file = join(folder, 'many');
  const hosts = ['a', 'b', 'c', 'd', 'e'];
  await Promise.all(hosts.map((host) => writePgpass(file, { ...any, host }, 'T', state, signal)));
  const lines = readFileSync(file, 'utf8').trim().split('\n').sort();
  t.strictSame(
    lines,
    hosts.map((host) => `${host}:*:*:*:T`),
  );
});
