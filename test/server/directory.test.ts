/** The URL of `--directory`: its user, its password, its TLS, and the URLs that are refused. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { OptionSource } from '../../src/backend/url.ts';
import { UsageError } from '../../src/lib/errors.ts';
import { openDirectory } from '../../src/server/directory.ts';
import { makeAuthority } from '../support/certificates.ts';
import { startPostgres } from '../support/postgres.ts';

const authority = makeAuthority();
const { cert, key } = authority.issue({ cn: 'db', san: ['localhost'], usage: 'server' });
const files = t.testdir({ 'ca.pem': authority.cert, 'other.pem': makeAuthority().cert });
const passfile = join(files, 'passfile');
writeFileSync(passfile, 'localhost:*:postgres:keeper:pa:ss\\:wörd\n'.replace('pa:', 'pa\\:'), {
  mode: 0o600,
});

const database = await startPostgres({
  ssl: { cert, key },
  hba: ['hostssl all keeper 127.0.0.1/32 scram-sha-256'],
  initSql: ["CREATE ROLE keeper LOGIN CREATEROLE PASSWORD 'pa:ss:wörd'"],
});
t.teardown(() => database.close());

/** Why users cannot be created by this URL. Undefined: they can. */
async function problemOf(
  directory: string,
  source: OptionSource = 'flag',
): Promise<string | undefined> {
  const opened = await openDirectory({ directory, sourceOf: () => source });
  if (!opened) throw new Error('no directory was opened');
  try {
    return await opened.directory.problem('create');
  } finally {
    await opened.directory.close();
  }
}

const sourceOf = (): OptionSource => 'flag';

const base = `postgres://keeper@localhost:${database.port}/postgres`;
const ca = `sslmode=verify-full&sslrootcert=${join(files, 'ca.pem')}`;

t.test('there is no directory without the option', async (t) => {
  t.equal(await openDirectory({ sourceOf }), undefined);
});

t.test('a password from a file, or from a URL in the environment, over verified TLS', async (t) => {
  t.equal(await problemOf(`${base}?${ca}&passfile=${passfile}`), undefined);
  const user = `postgres://localhost:${database.port}/postgres?user=keeper`;
  t.equal(
    await problemOf(`${user}&passfile=${encodeURIComponent(passfile)}&${ca}`),
    undefined,
    'the user as a parameter',
  );
  const inUrl = base.replace('keeper@', 'keeper:pa%3Ass%3Aw%C3%B6rd@');
  t.equal(await problemOf(`${inUrl}?${ca}`, 'environment'), undefined);
  t.equal(
    await problemOf(`${base}?passfile=${passfile}&sslmode=require`),
    undefined,
    'unverified, where that is asked for',
  );
});

t.test('the server has to prove its name, and speak TLS', async (t) => {
  const refusals: [string, string, RegExp][] = [
    [
      'another authority',
      `${base}?sslrootcert=${join(files, 'other.pem')}&passfile=${passfile}`,
      /certificate/,
    ],
    [
      'another name',
      `${base.replace('localhost', '127.0.0.1')}?${ca}&passfile=${passfile}`,
      /altnames/,
    ],
    ['plain text', `${base}?passfile=${passfile}`, /no pg_hba\.conf entry.*28000/],
    ['no password', `${base}?${ca}`, /password/],
  ];
  for (const [name, url, reason] of refusals) {
    await t.rejects(problemOf(url), { sqlstate: '57P03', message: /not available/, reason }, name);
  }
  const byAddress = base.replace('localhost', '127.0.0.1');
  const verifyCa = `sslmode=verify-ca&sslrootcert=${join(files, 'ca.pem')}`;
  await problemOf(`${byAddress}?${verifyCa}`).catch((error) =>
    t.match(error, { reason: /password/ }, 'verify-ca does not look at the name'),
  );
});

t.test('files are read again on request', async (t) => {
  const opened = await openDirectory({
    directory: `${base}?${ca}&passfile=${passfile}`,
    sourceOf,
  });
  t.teardown(() => opened?.directory.close());
  t.equal(await opened?.directory.problem(), undefined);
  await database.query("ALTER ROLE keeper PASSWORD 'new'");
  writeFileSync(passfile, 'localhost:*:postgres:keeper:new\n');
  await opened?.reload();
  t.equal(await opened?.directory.problem(), undefined);
  writeFileSync(passfile, '');
  await opened?.reload();
  await t.rejects(async () => void (await opened?.directory.problem()), {
    sqlstate: '57P03',
    message: /not available/,
  });
});

t.test('the error about a wrong URL names the option and repeats no password', async (t) => {
  const rows: [string, RegExp][] = [
    ['postgres://localhost/postgres', /name the user/],
    ['postgres://keeper:hunter2@localhost/postgres', /a password in a flag/],
    ['postgres://keeper@localhost/postgres?password=hunter2', /a password in a flag/],
    ['postgres://keeper@one,two/postgres', /one host/],
    ['postgres://keeper@db.example.com/postgres?sslmode=prefer', /sslmode=prefer/],
    ['mysql://keeper@localhost', /postgres:\/\//],
    ['nonsense', /./],
    ['postgres://keeper@localhost/?nope=1', /"nope"/],
    ['postgres://%zz@localhost/', /./],
  ];
  for (const [url, text] of rows) {
    const error = await openDirectory({ directory: url, sourceOf }).catch(
      (error: unknown) => error,
    );
    t.ok(error instanceof UsageError, url);
    t.match(String(error), /--directory: /);
    t.match(String(error), text);
    t.notMatch(String(error), /hunter2/);
  }
  const missing = openDirectory({
    directory: 'postgres://keeper@localhost/?passfile=/nowhere',
    sourceOf,
  });
  await t.rejects(missing, { message: /^--directory: .*nowhere/ });
});
