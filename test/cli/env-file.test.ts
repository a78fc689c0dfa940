/** Environment files: what systemd and a shell make of them is what is read here. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { parseEnvFile } from '../../src/cli/env-file.ts';
import { files, run } from './command-line.ts';

const parse = (text: string): object => Object.fromEntries(parseEnvFile(text));

t.test('lines are read as systemd.exec(5) has them', async (t) => {
  const rows: [string, string, object][] = [
    ['nothing', '', {}],
    ['comments', '# one\n; two\n\n  # three', {}],
    ['plain', 'A=1\nB=x y \nC=', { A: '1', B: 'x y', C: '' }],
    ['no comment behind a value', 'A=1 # one', { A: '1 # one' }],
    ['single quotes', 'A=\'a \\1 "b" $c\'', { A: 'a \\1 "b" $c' }],
    ['two lines', "A='a\nb'\nC=d", { A: 'a\nb', C: 'd' }],
    ['double quotes', 'A="a \\" \\\\1 \\$x \\n"', { A: 'a " \\1 $x \\n' }],
    ['a line that goes on', 'A="a\\\nb"', { A: 'ab' }],
    ['quotes in the middle', `A=it's "so"`, { A: `it's "so"` }],
    ['the last one counts', 'A=1\nA=2', { A: '2' }],
    ['CRLF', 'A=1\r\nB=2\r\n', { A: '1', B: '2' }],
    ['blanks around', "  A= 'x'  \n", { A: 'x' }],
  ];
  for (const [name, text, expected] of rows) t.strictSame(parse(text), expected, name);
});

t.test('what would be taken otherwise than it looks is refused with its line', async (t) => {
  const rows: [string, string, RegExp][] = [
    ['a bare backslash', 'A=1\nB=(.*)@x \\1', /Line 2: systemd removes a backslash.*single quotes/],
    ['no name', 'A=1\nexport B=2', /Line 2: give NAME=VALUE/],
    ['a digit first', '1A=2', /Line 1: give NAME=VALUE/],
    ['an open quote', "A='x\ny", /Line 1: a quote is not closed/],
    ['an open double quote', 'A=1\n\nB="x\\"', /Line 3: a quote is not closed/],
    ['text behind a quote', `A='a\nb'\nC="x"y`, /Line 3: text follows the closing quote/],
    ['NUL', 'A=a\0b', /Line 1: .*NUL/],
  ];
  for (const [name, text, expected] of rows)
    t.throws(() => parse(text), { message: expected }, name);
});

t.test('a shell reads the same from single quotes', async (t) => {
  const value = fc
    .array(fc.constantFrom(...'ab\\ "$`#;=\n@^().*1'), { maxLength: 12 })
    .map((characters) => characters.join(''));
  const values = fc.sample(value, 200);
  const text = values.map((value, index) => `V${index}='${value}'`).join('\n');
  const script = `${text}\n${values.map((_, index) => `printf '%s\\0' "$V${index}"`).join('\n')}`;
  const { stdout } = spawnSync('sh', { input: script, encoding: 'utf8' });
  t.strictSame([...parseEnvFile(text).values()], stdout.split('\0').slice(0, -1));
});

t.test('any text comes to an end, in time that grows with its length', async () => {
  const characters = fc.constantFrom(...`A=\\'"\n #;x`);
  fc.assert(
    fc.property(fc.array(characters, { maxLength: 40 }), (list) => {
      try {
        parse(list.join(''));
      } catch (error) {
        return /^Line \d+: /.test((error as Error).message);
      }
      return true;
    }),
    { numRuns: 2000 },
  );
  parse('A=1\n'.repeat(20_000));
});

t.test('the file of the Debian package is read, with its examples as well', async (t) => {
  const url = new URL('../../../deploy/debian/pgsso.env', import.meta.url);
  const text = readFileSync(url, 'utf8').replaceAll(/^#(?=PGSSO)/gm, '');
  t.match(parse(text), {
    PGSSO_DATA_DIR: '/var/lib/pgsso',
    PGSSO_SET_SERVER_IDENTITY_MAP_CONFIGURATION: 'https://id.example.com /^(.*)@example\\.com$ \\1',
  });
});

t.test('check reads the options of a file, which wins over the environment', async (t) => {
  const file = join(files, 'pgsso.env');
  writeFileSync(file, "PGSSO_BACKEND='mysql://x'\nPGSSO_BACKEND_AUTH=trust\n");
  const environment = { PGSSO_BACKEND: 'postgres://db' };
  const wrong = await run(['check', '--env-file', file], environment);
  t.match(wrong, { status: 2, stderr: /^pgsso: --backend: not a URL/ });
  writeFileSync(file, 'PGSSO_BACKEND=/^(.*)$ \\1\n');
  const unquoted = await run(['explain', '--env-file', file]);
  t.match(unquoted, { status: 2, stderr: /--env-file.*Line 1: systemd removes a backslash/ });
  const missing = await run(['check', '--env-file', join(files, 'none.env')]);
  t.not(missing.status, 0);
  t.match(missing.stderr, /none\.env/);
});
