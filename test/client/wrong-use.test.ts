/** Wrong use of the client's commands, which shows before anything is tried: one line, status 2. */
import t from 'tap';
import { files, runMany } from '../cli/command-line.ts';

t.test('wrong use is one line that names the option, and status 2', async (t) => {
  const rows: [string[], RegExp][] = [
    [['login', '--issuer', 'http://id.example.com', '--client-id', 'x'], /--issuer: .*https:/],
    [['login', '--issuer', 'id.example.com', '--client-id', 'x'], /--issuer: .*not a URL/],
    [['login', '--issuer', 'https://u:secret@id.example.com', '--client-id', 'x'], /--issuer: /],
    [['login', '--url', 'http://sso.example.com'], /--url: .*https:/],
    [['login', '--device', '--browser'], /--browser.*--device|--device.*--browser/],
    [['login'], /nobody to log in at: run "pgsso login --url/],
    [['token', '--profile', '../x'], /--profile/],
    [['token', '--watch'], /--pgpass/],
    [['token', '--json', '--pgpass', 'x'], /--json.*--pgpass/],
    [['token', '--use-token', 'other'], /access_token, id_token/],
    [['psql', '--'], /--: name the program/],
    [['psql', '-X', '--', 'pg_dump'], /-X: give the arguments of pg_dump/],
    [['psql', '--use-token=x'], /access_token, id_token/],
    [['connect', '--listen', '0.0.0.0:5432'], /--listen.*loopback/],
    [['connect', '--listen', 'db.example.com:5432'], /--listen.*loopback/],
    [['connect'], /--url/],
    [['connect', '--url', 'postgres://db.example.com?sslmode=require'], /--url: sslmode=require/],
    [['connect', '--url', 'postgres://db.example.com?sslmode=disable'], /--url: sslmode=disable/],
    [['connect', '--url', 'postgres://:secret@db.example.com'], /--url: a password/],
    [['connect', '--url', 'postgres://db.example.com?passfile=x'], /--url: the token is the only/],
    [['completion', 'tcsh'], /bash, zsh, fish/],
  ];
  const env = { HOME: files, XDG_CONFIG_HOME: files, XDG_STATE_HOME: files };
  const outcomes = await runMany(rows.map(([args]) => ({ args, env })));
  for (const [index, [args, text]] of rows.entries()) {
    const { status, stdout, stderr } = outcomes[index] ?? {};
    const name = args.join(' ');
    t.match({ status, stdout, stderr }, { status: 2, stdout: '', stderr: text }, name);
    t.match(stderr, /^pgsso: (?!.*secret)[^\n]+\n$/, name);
  }
});
