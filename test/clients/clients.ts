/**
 * `npm run test:clients`: runs each section of docs/clients.md whose client is installed, against a
 * pgsso and a PostgreSQL, and prints a table. The status is 1 if one of them fails. What is missing
 * is named with its package.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { makeAuthority } from '../support/certificates.ts';
import { startFrontEnd, testSettings, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { serverUser } from '../support/postgres-install.ts';
import { type Example, readExamples } from './examples.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const packages = resolve(process.env['PGSSO_TEST_CLIENTS'] ?? join(root, 'build-clients/npm'));

/** See test/support/psql18.ts. */
const psql18 = resolve(process.env['PGSSO_TEST_PSQL18'] ?? join(root, 'build-clients/psql'));

/** For one example, in ms. A Go program is compiled first. */
const LIMIT_MS = 120_000;

/** How a language's examples are run: the name of the file, and the command. */
const languages: Readonly<Record<string, { file: string; command: readonly string[] }>> = {
  sh: { file: 'example.sh', command: ['bash', '-eu', 'example.sh'] },
  python: { file: 'example.py', command: ['/usr/bin/python3', 'example.py'] },
  js: { file: 'example.mjs', command: [process.execPath, 'example.mjs'] },
  java: {
    file: 'Login.java',
    command: ['java', '-cp', '/usr/share/java/postgresql.jar', 'Login.java'],
  },
  go: { file: 'example.go', command: ['go', 'run', 'example.go'] },
  ruby: { file: 'example.rb', command: ['ruby', 'example.rb'] },
  perl: { file: 'example.pl', command: ['perl', 'example.pl'] },
  php: { file: 'example.php', command: ['php', 'example.php'] },
};

/** A module that is not installed, in the words of each language. */
const MISSING = new RegExp(
  [
    'ModuleNotFoundError',
    'ERR_MODULE_NOT_FOUND',
    'LoadError',
    "Can't locate",
    'cannot find package',
    'could not find driver',
    'No suitable driver',
    'package org\\.postgresql',
    "Can't open lib",
    ': command not found',
    'is not installed',
  ].join('|'),
);

/** PostgreSQL and pgbouncer refuse to run as root, and the examples run as their user. */
const { uid, gid } = serverUser();
const giveAway = (path: string): void => {
  if (uid !== undefined && gid !== undefined) chownSync(path, uid, gid);
};
const asUser = uid === undefined || gid === undefined ? {} : { uid, gid };
const folder = mkdtempSync(join(tmpdir(), 'pgsso-clients-'));
giveAway(folder);
const authority = makeAuthority();
const issued = authority.issue({ cn: 'localhost', san: ['localhost'], usage: 'server' });
const [ca, tlsCert, tlsKey] = ['ca.crt', 'tls.crt', 'tls.key'].map((name) => join(folder, name));
if (!ca || !tlsCert || !tlsKey) throw new Error('no file names');
writeFileSync(ca, authority.cert);
writeFileSync(tlsCert, issued.cert);
writeFileSync(tlsKey, issued.key, { mode: 0o600 });

const database = await startPostgres({
  version: 15,
  initSql: ['CREATE ROLE alice LOGIN', 'CREATE DATABASE app'],
});
const superuser = new pg.Client({
  host: database.socketDir,
  port: database.port,
  user: database.superuser,
  database: 'app',
});
await superuser.connect();
await superuser.query('CREATE VIEW who AS SELECT current_user::text AS name');
await superuser.query('GRANT SELECT ON who TO public');
await superuser.end();
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
const tls = { tlsCert, tlsKey, clientTls: 'require' } as const;
const [frontEnd, withRule] = [
  await startFrontEnd(backend, tls),
  await startFrontEnd(backend, {
    ...tls,
    settings: { 'server.host_based_authentication.configuration': 'hostssl all all all jwt' },
  }),
];

/** What examples find in their environment, beside PATH. */
const environment: NodeJS.ProcessEnv = {
  HOME: folder,
  PATH: `${join(folder, 'bin')}:${process.env['PATH']}`,
  PGSSO_TOKEN: token('alice'),
  LOCAL: `host=${database.socketDir} port=${database.port}`,
  GO111MODULE: 'off',
  GOPATH: '/usr/share/gocode',
  GOCACHE: join(folder, 'go'),
  ...Object.fromEntries(
    Object.entries(testSettings).map(([name, value]) => [
      `PGSSO_SET_${name.replaceAll('.', '_').toUpperCase()}`,
      value,
    ]),
  ),
};
mkdirSync(join(folder, 'bin'));
const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));
writeFileSync(
  join(folder, 'bin/pgsso'),
  `#!/bin/sh\nexec '${process.execPath}' --no-warnings '${cli}' "$@"\n`,
);
chmodSync(join(folder, 'bin/pgsso'), 0o755);

/** As the page says it, with what is here in place of what is there. */
function localise(code: string): string {
  return code
    .replaceAll('db.example.com:26257', `localhost:${frontEnd.port}`)
    .replaceAll('db.example.com', 'localhost')
    .replace(/\b26257\b/g, String(frontEnd.port))
    .replace(/\b26258\b/g, String(withRule.port))
    .replace(/\b262(59|60)\b/g, (_, end) => String(frontEnd.port + Number(end) - 50))
    .replaceAll('ca.crt', ca ?? '');
}

async function run(example: Example, index: number): Promise<{ status: string; text: string }> {
  const language = languages[example.language];
  if (!language) return { status: 'FAILED', text: `no way to run ${example.language}` };
  const place = join(folder, String(index));
  mkdirSync(place);
  giveAway(place);
  const modules = join(packages, example.name === 'pg-native' ? 'native' : '.', 'node_modules');
  if (existsSync(modules)) symlinkSync(modules, join(place, 'node_modules'));
  writeFileSync(join(place, language.file), localise(example.code));
  if (example.name === 'psql 18' && !existsSync(psql18))
    return { status: 'missing', text: example.packages };
  const [program = '', ...args] = language.command;
  // The tools of pgbouncer and haproxy are where only root looks.
  const first = example.name === 'psql 18' ? `${dirname(psql18)}:` : '';
  const PATH = `${first}${environment['PATH']}:/usr/sbin`;
  const child = spawn(program, args, {
    cwd: place,
    env: { ...environment, PATH },
    ...asUser,
    detached: true,
    timeout: LIMIT_MS,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text) => {
      output += text;
    });
  const status = await new Promise<number | string>((done) => {
    child.once('error', ({ message }) => {
      output += `${program}: command not found (${message})`;
      done(-1);
    });
    child.once('exit', (code, signal) => done(code ?? signal ?? -1));
  });
  // What an example has left running.
  spawnSync('kill', ['--', `-${child.pid}`]);
  const words = output.replaceAll(/\s+/g, ' ');
  if (status === 0 && words.includes(example.prints)) return { status: 'works', text: '' };
  if (MISSING.test(output)) return { status: 'missing', text: example.packages };
  return {
    status: 'FAILED',
    text: `status ${status}: ${output.trim().split('\n').slice(-6).join('\n')}`,
  };
}

const examples = readExamples(readFileSync(join(root, 'docs/clients.md'), 'utf8'));
const wanted = process.argv.slice(2);
let failed = 0;
for (const [index, example] of examples.entries()) {
  if (wanted.length > 0 && !wanted.includes(example.name)) continue;
  const { status, text } = await run(example, index);
  if (status === 'FAILED') failed += 1;
  console.log(`${example.name.padEnd(44)} ${status.padEnd(8)} ${text}`.trimEnd());
}
await Promise.all([frontEnd.close(), withRule.close()]);
await database.close();
rmSync(folder, { recursive: true, force: true });
process.exitCode = failed > 0 ? 1 : 0;
