/**
 * The command-line clients psql and pgbench, in plain text and over TLS, against a front-end before
 * a real PostgreSQL. A test is skipped, and says why, if its program is not installed.
 */

import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { makeAuthority } from '../support/certificates.ts';
import { JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';

const run = promisify(execFile);

/** The reason to skip a test. False if the program is installed. */
function missing(program: string): string | false {
  return spawnSync(program, ['--version']).error ? `${program} is not installed` : false;
}

const files = await mkdtemp(join(tmpdir(), 'pgsso-clients-'));
t.teardown(() => rm(files, { recursive: true }));
const authority = makeAuthority();
const { cert, key } = authority.issue({ cn: 'localhost', san: ['localhost'], usage: 'server' });
const [ca, tlsCert, tlsKey, passfile] = ['ca.crt', 'tls.crt', 'tls.key', 'passfile'].map((name) =>
  join(files, name),
);
if (!ca || !tlsCert || !tlsKey || !passfile) throw new Error('no file names');
await writeFile(ca, authority.cert);
await writeFile(tlsCert, cert);
await writeFile(tlsKey, key);

const database = await startPostgres({
  initSql: ['CREATE ROLE alice LOGIN', 'GRANT CREATE ON SCHEMA public TO alice'],
});
t.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
const frontEnd = await startFrontEnd(backend, { tlsCert, tlsKey });
t.teardown(() => frontEnd.close());
const { port } = frontEnd;

/** The environment of a client, without the caller's own settings for libpq. */
function environment(extra: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { PATH } = process.env;
  return { PATH, HOME: files, PGCONNECT_TIMEOUT: '60', ...extra };
}

async function psql(
  connection: string,
  env: NodeJS.ProcessEnv,
  sql = 'SELECT current_user',
): Promise<string> {
  const { stdout } = await run('psql', ['-XAtq', '-c', sql, connection], { env: environment(env) });
  return stdout.trim();
}

const conninfo = `host=localhost port=${port} user=alice dbname=postgres options=${JWT_OPTION}`;
const inUri = encodeURIComponent(JWT_OPTION);
const uri = `postgresql://alice@localhost:${port}/postgres?options=${inUri}`;

t.test(
  'psql takes the option from a conninfo string, a URI and PGOPTIONS',
  { skip: missing('psql') },
  async (t) => {
    const PGPASSWORD = token('alice');
    t.equal(await psql(conninfo, { PGPASSWORD }), 'alice');
    t.equal(await psql(uri, { PGPASSWORD }), 'alice');
    const plain = `host=localhost port=${port} user=alice dbname=postgres`;
    t.equal(await psql(plain, { PGPASSWORD, PGOPTIONS: JWT_OPTION }), 'alice');
  },
);

t.test(
  'psql sends a token of 15 kB from a password file over verified TLS',
  { skip: missing('psql') },
  async (t) => {
    const long = token('alice', { pad: 'x'.repeat(11_000) });
    t.ok(long.length > 14_000);
    await writeFile(passfile, `localhost:${port}:*:alice:${long}\n`, { mode: 0o600 });
    t.equal(
      await psql(`${conninfo} sslmode=verify-full sslrootcert=${ca}`, { PGPASSFILE: passfile }),
      'alice',
    );
    await writeFile(
      passfile,
      `localhost:${port}:*:alice:${token('alice', { pad: 'x'.repeat(5000) })}\n`,
      { mode: 0o600 },
    );
    const shown = await psql(`${conninfo} sslmode=require`, { PGPASSFILE: passfile }, '\\conninfo');
    t.match(shown, /alice.*(TLSv1|SSL)/s);
  },
);

t.test(
  'psql shows the message and detail of a refusal, and does not try again in plain text',
  { skip: missing('psql') },
  async (t) => {
    const secure = await startFrontEnd(backend, { clientTls: 'require', tlsCert, tlsKey });
    t.teardown(() => secure.close());
    const connection = conninfo.replace(`port=${port}`, `port=${secure.port}`);
    const PGPASSWORD = token('alice', { aud: 'elsewhere' });
    await t.rejects(psql(`${connection} sslmode=prefer`, { PGPASSWORD }), {
      message:
        /JWT authentication: invalid audience.*token issued with an audience of \[elsewhere\]/s,
    });
    await secure.close(); // Now everything has been logged.
    const plain = secure.events.filter(({ transport }) => transport === 'plain');
    t.strictSame(plain, [], 'no token came in plain text');
  },
);

t.test(
  'psql reads the rows of a COPY, and a bad token is one clear error',
  { skip: missing('psql') },
  async (t) => {
    const PGPASSWORD = token('alice');
    const sql = 'COPY (SELECT generate_series(1, 3)) TO STDOUT';
    t.equal(await psql(conninfo, { PGPASSWORD }, sql), '1\n2\n3');
    await t.rejects(psql(conninfo, { PGPASSWORD: 'hunter2' }), {
      message: /JWT authentication: invalid token/,
    });
  },
);

t.test(
  'pgbench runs prepared statements, and logs in for each transaction',
  { skip: missing('pgbench') },
  async (t) => {
    const env = environment({ PGPASSWORD: token('alice') });
    await run('pgbench', ['-i', '-q', conninfo], { env });
    const select = await run(
      'pgbench',
      ['-S', '-M', 'prepared', '-c', '4', '-t', '200', conninfo],
      { env },
    );
    t.match(select.stdout, /number of transactions actually processed: 800\/800/);
    const logins = await run('pgbench', ['-S', '-C', '-c', '4', '-t', '20', conninfo], { env });
    t.match(logins.stdout, /number of transactions actually processed: 80\/80/);
  },
);
