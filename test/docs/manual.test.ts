/** The manual agrees with the program. */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { formatManPage } from '../../scripts/man-page.ts';
import { formatManual } from '../../scripts/settings-manual.ts';
import { rules } from '../../src/console/statements/grammar.ts';

/** The repository, seen from build/test/docs. */
const root = new URL('../../../', import.meta.url);

const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');
const page = (name: string): string => read(`docs/${name}`);

t.test('docs/settings.md is what the table of settings says; npm run docs writes it', async (t) => {
  t.equal(page('settings.md'), formatManual());
});

t.test('man/pgsso.1 has the commands and options; npm run docs writes it', async (t) => {
  t.equal(read('man/pgsso.1'), await formatManPage());
  const { error, status, stderr } = spawnSync(
    'groff',
    ['-k', '-Tutf8', '-man', '-ww', '-z', 'man/pgsso.1'],
    {
      cwd: root,
      encoding: 'utf8',
    },
  );
  if (error) t.comment('groff is not installed: the page is not formatted');
  else t.strictSame({ status, stderr }, { status: 0, stderr: '' });
});

t.test('docs/console.md has every statement of HELP', async (t) => {
  for (const { help } of rules)
    if (help) t.match(page('console.md'), `\`${help.syntax.replaceAll('|', '\\|')}\``, help.syntax);
});

t.test('the files that docs/architecture.md names exist', async (t) => {
  const named = page('architecture.md').matchAll(/`([\w-]+\/[\w./-]*\w\.(?:ts|mjs))`/g);
  for (const [, path = ''] of named) {
    const places = [`src/${path}`, path].filter((place) => existsSync(new URL(place, root)));
    t.not(places.length, 0, path);
  }
});

t.test('docs/architecture.md has the rooms in the order of scripts/house.mjs', async (t) => {
  const [, list = ''] = /ROOMS = \[(.*?)\]/s.exec(read('scripts/house.mjs')) ?? [];
  const rooms = [...list.matchAll(/'(\w+)'/g)].map(([, room = '']) => room);
  t.match(page('architecture.md'), `    ${rooms.join(' → ')}\n`);
  for (const room of [...rooms, 'observe'])
    t.match(page('architecture.md'), `\`src/${room}/\` |`, room);
});

t.test('the links of the manual lead somewhere', async (t) => {
  const pages = [
    'README.md',
    'CHANGELOG.md',
    ...readdirSync(new URL('docs/', root)).map((name) => `docs/${name}`),
  ];
  for (const from of pages) {
    for (const [, path = '', anchor = ''] of read(from).matchAll(
      /\]\((?!http)([^)#]*)#?([^)]*)\)/g,
    )) {
      const target = path === '' ? new URL(from, root) : new URL(path, new URL(from, root));
      t.ok(existsSync(target), `${from} links to ${path}`);
      if (anchor !== '')
        t.ok(
          anchorsOf(readFileSync(target, 'utf8')).has(anchor),
          `${from} links to ${path}#${anchor}`,
        );
    }
  }
});

/** The anchors that GitHub gives the headings of a page. */
function anchorsOf(text: string): Set<string> {
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    ),
  );
}

t.test('the checks that README.md counts are those before the first one of a rule', async (t) => {
  const [, scope = ''] = /^\| (\d+) \| `scope` \|/m.exec(page('errors.md')) ?? [];
  t.equal(Number(scope) - 1, 11);
  for (const count of ['decide   eleven checks', 'The eleven checks are those of the reference'])
    t.match(read('README.md'), count);
  t.match(page('errors.md'), `Checks 1 to ${Number(scope) - 1} are those of the reference`);
});
