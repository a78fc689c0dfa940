/** Wrong use of the command line, which shows before anything is tried: one line and status 2. */
import t from 'tap';
import { backend, run, runMany, usable } from './command-line.ts';

t.test('wrong use is one line that names the option, and status 2', async (t) => {
  const rows: [string, string[], RegExp, NodeJS.ProcessEnv?][] = [
    ['unknown option', ['serve', '--no-such'], /--no-such/],
    ['unknown command', ['swerve'], /swerve/],
    ['no backend', ['serve'], /--backend <URL>.*PGSSO_BACKEND/],
    ['listen', ['serve', ...usable, '--listen', 'nonsense'], /--listen.*HOST:PORT/],
    ['listen port', ['serve', ...usable, '--listen', 'a:70000'], /--listen.*HOST:PORT/],
    [
      'listen by variable',
      ['serve', ...usable.slice(0, 4)],
      /PGSSO_LISTEN.*HOST:PORT/,
      { PGSSO_LISTEN: 'nonsense' },
    ],
    ['metrics', ['serve', ...usable, '--metrics-listen', '9187'], /--metrics-listen.*HOST:PORT/],
    ['timeout', ['serve', ...usable, '--login-timeout', 'soon'], /--login-timeout.*30s/],
    ['no timeout', ['serve', ...usable, '--drain-timeout', '0'], /--drain-timeout/],
    ['count', ['serve', ...usable, '--max-logins', '0'], /--max-logins.*whole number/],
    [
      'method',
      ['serve', '--backend', backend, '--backend-auth', 'magic'],
      /--backend-auth.*trust, password, cert, issue-cert/,
    ],
    ['mode', ['serve', ...usable, '--superusers', 'maybe'], /--superusers.*refuse, allow/],
    ['level', ['serve', ...usable, '--log-level', 'loud'], /--log-level.*info/],
    [
      'backend URL',
      ['serve', '--backend', 'mysql://x', '--backend-auth', 'trust'],
      /--backend.*postgres:\/\//,
    ],
    [
      'backend parameter',
      ['serve', '--backend', 'postgres://h?nope=1', '--backend-auth', 'trust'],
      /--backend.*"nope".*sslmode/,
    ],
    ['no password file', ['serve', '--backend', backend], /--backend-passfile/],
    [
      'needless password file',
      ['serve', ...usable, '--backend-passfile', 'x'],
      /--backend-passfile.*trust/,
    ],
    ['route', ['serve', ...usable, '--route', 'sales'], /--route.*DATABASE_PATTERN=URL/],
    ['workers', ['serve', ...usable, '--workers', '33'], /--workers.*auto.*from 1 to 32/],
    ['no worker', ['serve', ...usable, '--workers', '0'], /--workers.*auto/],
    ['ahead', ['serve', ...usable, '--backend-ahead', '-1'], /--backend-ahead.*whole number/],
    [
      'needless authority',
      ['check', ...usable, '--issue-ca-cert', 'x'],
      /--issue-ca-cert is of no use/,
    ],
    ['days', ['ca', 'init', '--days', 'many'], /--days.*whole number/],
    [
      'directory without a user',
      ['serve', ...usable, '--directory', 'postgres://h/db'],
      /--directory.*user/,
    ],
    [
      'directory that cannot be',
      ['serve', ...usable, '--directory', 'mysql://d@h/db'],
      /--directory.*postgres:\/\//,
    ],
    ['key without certificate', ['serve', ...usable, '--tls-key', 'x'], /--tls-key.*--tls-cert/],
    [
      'TLS required',
      ['serve', ...usable, '--listen', '0.0.0.0:0'],
      /--listen 0\.0\.0\.0:0.*--tls-cert.*--client-tls/,
    ],
    [
      'setting',
      ['serve', ...usable, '--set', 'server.jwt_authentication.enabeld=true'],
      /--set.*enabeld/,
    ],
    [
      'setting without value',
      ['serve', ...usable, '--set', 'server.jwt_authentication.enabled'],
      /--set/,
    ],
    [
      'setting value',
      ['serve', ...usable, '--set', 'server.jwt_authentication.enabled=maybe'],
      /--set.*enabled.*true/,
    ],
    [
      'variable',
      ['serve', ...usable],
      /PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABLED/,
      { PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABLED: 'maybe' },
    ],
    [
      'misspelt variable',
      ['serve', ...usable],
      /PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABELD/,
      { PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABELD: 'true' },
    ],
  ];
  const outcomes = await runMany(rows.map(([, args, , env]) => ({ args, env })));
  t.equal(outcomes.length, rows.length);
  for (const [index, [name, , text]] of rows.entries()) {
    const { status, stderr, stdout } = outcomes[index] ?? {};
    t.match({ status, stderr, stdout }, { status: 2, stderr: text, stdout: '' }, name);
    t.match(stderr, /^pgsso: [^\n]+\n$/, `${name}: one line`);
  }
});

t.test('a password in a flag is refused and not repeated', async (t) => {
  const { status, stderr } = await run([
    'serve',
    '--backend',
    'postgres://:hunter2@db.example.com/',
  ]);
  t.match({ status, stderr }, { status: 2, stderr: /--backend.*password/ });
  t.notMatch(stderr, /hunter2/);
});
