/** The URL of `--settings`: its user, its password and its TLS. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import t from 'tap';
import { clientConfig, openDatabaseLogin } from '../../src/server/database-login.ts';
import { makeAuthority } from '../support/certificates.ts';
import { startPostgres } from '../support/postgres.ts';

const authority = makeAuthority();
const { cert, key } = authority.issue({ cn: 'localhost', san: ['localhost', '127.0.0.1'] });
const database = await startPostgres({
  ssl: { cert, key },
  hba: ['hostssl all all all scram-sha-256'],
  initSql: ["CREATE ROLE keeper LOGIN PASSWORD 'pa:ss'"],
});
t.teardown(() => database.close());
const files = await mkdtemp(join(tmpdir(), 'pgsso-url-'));
t.teardown(() => rm(files, { recursive: true, force: true }));
const [ca, other, passfile] = ['ca.crt', 'other.crt', 'passfile'].map((name) =>
  join(files, name),
) as [string, string, string];
await writeFile(ca, authority.cert);
await writeFile(other, makeAuthority().cert);
await writeFile(passfile, `127.0.0.1:${database.port}:postgres:keeper:pa\\:ss\n`, { mode: 0o600 });
const { port } = database;

async function logIn(url: string, source: 'flag' | 'environment' = 'flag'): Promise<unknown> {
  const client = new pg.Client(clientConfig(await openDatabaseLogin('--settings', url, source)));
  try {
    await client.connect();
    return (
      await client.query('SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
    ).rows[0];
  } finally {
    await client.end();
  }
}

t.test('a password comes from a file or from the environment, over verified TLS', async (t) => {
  const wanted = { current_user: 'keeper', ssl: true };
  const place = `127.0.0.1:${port}/postgres?sslrootcert=${ca}`;
  t.strictSame(await logIn(`postgres://keeper@${place}&passfile=${passfile}`), wanted);
  t.strictSame(await logIn(`postgres://${place}&passfile=${passfile}&user=keeper`), wanted);
  t.strictSame(await logIn(`postgres://keeper:pa%3Ass@${place}`, 'environment'), wanted);
});

t.test(
  'an unverified server or a wrong URL is refused, and no error repeats the password',
  async (t) => {
    const place = `127.0.0.1:${port}/postgres`;
    await t.rejects(
      logIn(`postgres://keeper@${place}?sslrootcert=${other}&passfile=${passfile}`),
      /certificate/,
    );
    const table: [string, RegExp][] = [
      [`postgres://${place}`, /--settings: name the user/],
      [`postgres://keeper:hunter2@${place}`, /--settings: a password in a flag/],
      [`postgres://keeper@${place}?nope=1`, /--settings: .*"nope"/],
      [`postgres://keeper@a,b/postgres`, /--settings: give one host/],
      [`postgres://keeper@${place}?backend_auth=trust`, /--settings: the login is by password/],
      [`postgres://keeper@db.example.com/postgres?sslmode=prefer`, /--settings: sslmode=prefer/],
      ['nonsense', /--settings: /],
      [`postgres://keeper@${place}?passfile=${join(files, 'missing')}`, /--settings: .*missing/],
    ];
    for (const [url, message] of table) {
      await t.rejects(logIn(url), message, url);
      await t.rejects(logIn(url), { message: /^(?!.*hunter2)/ });
    }
  },
);
