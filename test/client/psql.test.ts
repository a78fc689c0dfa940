/** `pgsso psql`: the environment of the child, its signals and its exit status; and completion. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { placeArguments } from '../../src/cli/psql.ts';
import { childEnvironment } from '../../src/client/child.ts';
import { startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { newUser } from './world.ts';

const missing = (program: string): string | false =>
  spawnSync(program, ['--version']).error ? `${program} is not installed` : false;

t.test('what is not an option of pgsso is an argument of psql, in its order', async (t) => {
  const rows: [given: string, placed: string][] = [
    ['-h db -c x', '-- psql -h db -c x'],
    ['--profile work -d app', '--profile work -- psql -d app'],
    [
      '-d app --profile=work -c x --scope openid',
      '--profile=work --scope openid -- psql -d app -c x',
    ],
    ['--help', '-- psql --help'],
    ['--profile work -- pg_dump --profile x', '--profile work -- pg_dump --profile x'],
    ['-V', '-- psql -V'],
  ];
  for (const [given, placed] of rows)
    t.equal(
      placeArguments(['node', 'pgsso', 'psql', ...given.split(' ')]).join(' '),
      `node pgsso psql ${placed}`,
      given,
    );
});

t.test('TLS is verified in full unless every host is this one', async (t) => {
  const { home } = newUser();
  const profile = { sql_host: 'db.example.com', sql_port: 26258 };
  const rows: [args: string[], env: NodeJS.ProcessEnv, mode: string | undefined][] = [
    [[], {}, 'verify-full'],
    [['-h', 'localhost'], {}, undefined],
    [['-hlocalhost'], {}, undefined],
    [['--host=127.0.0.1'], {}, undefined],
    [['-h', 'localhost,db'], {}, 'verify-full'],
    [['-h', '/tmp'], {}, undefined],
    [['-h', 'db'], { PGHOST: 'localhost' }, 'verify-full'],
    [['-d', 'host=localhost dbname=x'], {}, undefined],
    [['host=localhost host = evil'], {}, 'verify-full'],
    [['postgres://a@localhost:5/x'], {}, undefined],
    [['postgres://a@localhost:5,evil:6/x'], {}, 'verify-full'],
    [['postgres://localhost/x?host=evil'], {}, 'verify-full'],
    [['--dbname=postgresql://[::1]:5/x'], {}, undefined],
    [['service=x'], { PGHOST: 'localhost' }, 'verify-full'],
    [[], { PGSERVICE: 'x' }, 'verify-full'],
    [[], { PGHOST: 'localhost' }, undefined],
    [[], { PGHOSTADDR: '10.0.0.1' }, 'verify-full'],
    [[], { PGSSLMODE: 'verify-ca' }, 'verify-ca'],
  ];
  for (const [args, env, mode] of rows) {
    const { PGSSLMODE } = await childEnvironment({ HOME: home, ...env }, profile, 'T', args);
    t.equal(PGSSLMODE, mode, JSON.stringify([args, env]));
  }
  const chosen = await childEnvironment({ HOME: home }, profile, 'T', ['sslmode=require host=db']);
  t.equal(chosen['PGSSLROOTCERT'], undefined, 'another sslmode is not made stricter by a bundle');
  const set = await childEnvironment({ HOME: home, PGOPTIONS: '-c geqo=off' }, profile, 'T', []);
  t.match(set, {
    PGHOST: 'db.example.com',
    PGPORT: '26258',
    PGPASSWORD: 'T',
    PGOPTIONS: '-c geqo=off --crdb:jwt_auth_enabled=true',
  });
  const elsewhere = await childEnvironment({ PGHOST: 'other' }, profile, 'T', []);
  t.match(elsewhere, { PGHOST: 'other', PGPORT: undefined }, 'the port is for its own host');
  mkdirSync(join(home, '.postgresql'));
  writeFileSync(join(home, '.postgresql/root.crt'), '');
  const own = await childEnvironment({ HOME: home }, profile, 'T', []);
  t.equal(own['PGSSLROOTCERT'], undefined, "the user's own authorities come first");
});

t.test('psql logs in, and its exit status is the status', { skip: missing('psql') }, async (t) => {
  const database = await startPostgres({ initSql: ['CREATE ROLE alice LOGIN'] });
  t.teardown(() => database.close());
  const directory = encodeURIComponent(database.socketDir);
  const frontEnd = await startFrontEnd(`postgres:///?host=${directory}&port=${database.port}`);
  t.teardown(() => frontEnd.close());
  const user = newUser();
  const env = { PGSSO_TOKEN: token('alice') };
  const where = ['-XAtq', '-h', '127.0.0.1', '-p', String(frontEnd.port), '-U', 'alice'];
  const psql = (sql: string) => user.run(['psql', ...where, '-d', 'postgres', '-c', sql], env);
  t.match(await psql('SELECT current_user'), { status: 0, stdout: 'alice\n', stderr: '' });
  t.match(await psql('SELECT nothing'), { status: 1, stderr: /column "nothing"/ });
  const other = await user.run(
    ['psql', '--', 'vacuumdb', ...where.slice(1), '--analyze-only', '-t', 'pg_class', 'postgres'],
    env,
  );
  t.match(other, { status: 0, stdout: /vacuuming database "postgres"/ });
});

t.test('signals go to the child, and its end is the end', async (t) => {
  const user = newUser();
  const env = { PGSSO_TOKEN: token('alice') };
  const script = 'trap "echo asked >&2; exit 7" TERM; echo ready >&2; while :; do sleep 0.05; done';
  const asked = user.start(['psql', '--', 'sh', '-c', script], env);
  await asked.says(/ready/);
  asked.child.kill('SIGTERM');
  t.match(await asked.end(), { status: 7, stderr: /asked/ });
  const waits = 'echo ready >&2; until [ -e go ]; do sleep 0.05; done; exit 5';
  const ignored = user.start(['psql', '--', 'sh', '-c', waits], env);
  await ignored.says(/ready/);
  ignored.child.kill('SIGINT');
  writeFileSync(join(user.home, 'go'), '');
  t.match(await ignored.end(), { status: 5 }, 'Ctrl+C is for the child');
  t.match(await user.run(['psql', '--', 'sh', '-c', 'kill -KILL $$'], env), { status: 137 });
  t.match(await user.run(['psql', '--', 'no-such-program'], env), {
    status: 127,
    stderr: /^pgsso: no-such-program is not installed, or not in PATH\n$/,
  });
});

t.test('the token is in no argument, and psql has no word of it in its own', async (t) => {
  const user = newUser();
  const secret = token('alice');
  const bin = join(user.home, 'psql');
  writeFileSync(bin, '#!/bin/sh\nps -ww -eo args > ps; echo ready >&2; cat\n');
  chmodSync(bin, 0o755);
  const command = user.start(['psql', '-d', 'x'], {
    PGSSO_TOKEN: secret,
    PATH: `${user.home}:${process.env['PATH']}`,
  });
  await command.says(/ready/);
  t.match(await command.end(), { status: 0 });
  const listed = spawnSync('cat', [join(user.home, 'ps')]).stdout.toString();
  t.match(listed, /psql -d x/);
  t.notOk(listed.includes(secret));
});

t.test('a shell completes commands, options and values', async (t) => {
  const user = newUser();
  const script = (await user.run(['completion', 'bash'])).stdout;
  const complete = (...words: string[]): string[] => {
    const line = words.map((word) => `'${word}'`).join(' ');
    const asked = `${script}\nCOMP_WORDS=(${line}); COMP_CWORD=${words.length - 1}; _pgsso
      echo "\${COMPREPLY[@]}"`;
    return spawnSync('bash', ['-c', asked]).stdout.toString().trim().split(' ');
  };
  t.strictSame(complete('pgsso', 'lo'), ['login', 'logout']);
  t.strictSame(complete('pgsso', 'login', '--d'), ['--device']);
  t.strictSame(complete('pgsso', 'settings', 'ge'), ['get']);
  t.strictSame(complete('pgsso', 'token', '--use-token', ''), ['access_token', 'id_token']);
  t.strictSame(complete('pgsso', 'serve', '--superusers', 'r'), ['refuse']);
  t.strictSame(complete('pgsso', 'completion', ''), ['bash', 'zsh', 'fish']);
  const asked = {
    zsh: 'autoload -Uz compinit; compinit -D -u; . ./zsh; echo $_comps[pgsso]',
    fish: 'source fish; complete -C "pgsso lo"; complete -C "pgsso token --use-token "',
  };
  const found = { zsh: /_pgsso/, fish: /^login\t.*\nlogout\t.*\naccess_token.*\nid_token/ };
  for (const shell of ['zsh', 'fish'] as const) {
    const { stdout } = await user.run(['completion', shell]);
    writeFileSync(join(user.home, shell), stdout);
    if (missing(shell)) {
      t.match(stdout, /pgsso/);
      t.comment(`${shell} is not installed: its script is not run`);
      continue;
    }
    const env = { ...process.env, HOME: user.home };
    const outcome = spawnSync(shell, ['-c', asked[shell]], { cwd: user.home, env });
    t.match(outcome.stdout.toString(), found[shell], `${shell}: ${outcome.stderr}`);
  }
});
