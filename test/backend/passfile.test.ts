import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import {
  findPassword,
  PasswordFile,
  type PasswordKey,
  parsePasswordFile,
} from '../../src/backend/passfile.ts';

const key: PasswordKey = { host: 'db', port: 5432, database: 'app', user: 'alice' };

t.test('the first matching line gives the password', (t) => {
  const cases: [string, string, Partial<PasswordKey>, string | undefined][] = [
    ['all fields', 'db:5432:app:alice:pw', {}, 'pw'],
    ['another host', 'other:5432:app:alice:pw', {}, undefined],
    ['another port', 'db:5433:app:alice:pw', {}, undefined],
    ['another database', 'db:5432:other:alice:pw', {}, undefined],
    ['another user', 'db:5432:app:bob:pw', {}, undefined],
    ['case counts', 'DB:5432:app:alice:pw', {}, undefined],
    ['anything', '*:*:*:*:pw', {}, 'pw'],
    ['an escaped asterisk is one', 'db:5432:app:\\*:pw', {}, undefined],
    ['a star inside a field is one', 'db:5432:app:a*:pw', { user: 'a*' }, 'pw'],
    ['the first of two', '*:*:*:alice:one\n*:*:*:*:two', {}, 'one'],
    ['a line that does not fit is passed over', '*:*:*:bob:one\n*:*:*:*:two', {}, 'two'],
    ['comments and empty lines', '# *:*:*:*:no\n\n#\n*:*:*:*:pw\n', {}, 'pw'],
    ['a comment is one at the beginning only', '*:*:*:*:#pw', {}, '#pw'],
    ['line ends of Windows', '*:*:*:*:pw\r\n', {}, 'pw'],
    ['escapes in fields', 'db:5432:a\\:b\\\\c:alice:pw', { database: 'a:b\\c' }, 'pw'],
    ['escapes in the password', '*:*:*:*:a\\:b\\\\c', {}, 'a:b\\c'],
    ['a backslash at the end', '*:*:*:*:pw\\', {}, 'pw\\'],
    ['a colon ends the password', '*:*:*:*:pw:more', {}, 'pw'],
    ['too few fields', '*:*:*:alice', {}, undefined],
    ['an empty password', '*:*:*:*:', {}, ''],
    ['a name beyond ASCII', '*:*:*:jürgen:pässword', { user: 'jürgen' }, 'pässword'],
    ['the default socket directory is localhost', 'localhost:*:*:*:pw', { host: '/tmp' }, 'pw'],
    ['so is that of Debian', 'localhost:*:*:*:pw', { host: '/var/run/postgresql' }, 'pw'],
    ['another socket directory is not', 'localhost:*:*:*:pw', { host: '/srv/socket' }, undefined],
    ['a socket directory by its name', '/srv/socket:*:*:*:pw', { host: '/srv/socket' }, 'pw'],
  ];
  for (const [name, text, difference, expected] of cases) {
    const entries = parsePasswordFile(Buffer.from(text).toString('latin1'));
    t.equal(findPassword(entries, { ...key, ...difference })?.toString(), expected, name);
  }
  t.end();
});

t.test('a file is used only if nobody else can read it', async (t) => {
  const path = join(t.testdir({ directory: {} }), 'passfile');
  await t.rejects(PasswordFile.open(path), {
    sqlstate: 'F0000',
    message: /password file .*passfile: .*ENOENT/,
  });
  await writeFile(path, '*:*:*:*:pw', { mode: 0o600 });
  t.equal((await PasswordFile.open(path)).find(key)?.toString(), 'pw');
  for (const mode of [0o640, 0o604, 0o620]) {
    await chmod(path, mode);
    await t.rejects(
      PasswordFile.open(path),
      { message: /group or world has access/ },
      mode.toString(8),
    );
  }
  await t.rejects(PasswordFile.open(join(path, '..', 'directory')), {
    message: /not a plain file|EISDIR/,
  });
  await writeFile(path, Buffer.alloc(1024 * 1024 + 1));
  await chmod(path, 0o600);
  await t.rejects(PasswordFile.open(path), { message: /larger than/ });
});

t.test('reload takes the new passwords, and the old ones stay if it fails', async (t) => {
  const path = join(t.testdir({}), 'passfile');
  await writeFile(path, '*:*:*:*:old', { mode: 0o600 });
  const file = await PasswordFile.open(path);
  await writeFile(path, '*:*:*:*:new');
  t.equal(file.find(key)?.toString(), 'old');
  await file.reload();
  t.equal(file.find(key)?.toString(), 'new');
  await rm(path);
  await mkdir(path);
  await t.rejects(file.reload());
  t.equal(file.find(key)?.toString(), 'new');
});
