/** The documentation as a site: every page is in the sidebar, and every link leads somewhere. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { sections, writeSite } from '../../scripts/site.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const out = mkdtempSync(join(tmpdir(), 'pgsso-site-'));
t.teardown(() => rmSync(out, { recursive: true }));
const pages = writeSite(root, out);
const read = (page: string): string => readFileSync(join(out, page), 'utf8');

t.test('every page of the documentation is in the sidebar', async (t) => {
  const named = sections.flatMap(([, names]) => names);
  const pages = readdirSync(join(root, 'docs')).map((name) => `docs/${name}`);
  t.strictSame(
    pages.filter((page) => page.endsWith('.md') && !named.includes(page)),
    [],
  );
});

t.test('every link leads to a file and, with an anchor, to an element', async (t) => {
  const broken: string[] = [];
  let seen = 0;
  for (const page of pages) {
    for (const [, href = ''] of read(page).matchAll(/(?:href|src)="([^"]*)"/g)) {
      if (/^https?:/.test(href)) continue;
      seen++;
      const [path = '', anchor] = href.split('#');
      const target = path === '' ? page : join(dirname(page), path);
      const isThere = existsSync(join(out, target));
      const hasAnchor =
        anchor === undefined || (isThere && read(target).includes(`id="${anchor}"`));
      if (!isThere || !hasAnchor) broken.push(`${page}: ${href}`);
    }
  }
  t.ok(seen > 500);
  t.strictSame(broken, []);
});

t.test('the search finds the page of a code, of a setting and of a message', async (t) => {
  const found: { href: string }[] = [];
  const input = {
    value: '',
    addEventListener: (_: string, show: () => void) => Object.assign(input, { show }),
    show() {},
  };
  const list = {
    hidden: true,
    replaceChildren: (...items: { link: { href: string } }[]) =>
      found.splice(0, found.length, ...items.map(({ link }) => link)),
  };
  const document = {
    body: { dataset: { up: '../' } },
    querySelector: (selector: string) => (selector === '#search' ? input : list),
    createElement: () => ({
      append(link: object) {
        Object.assign(this, { link });
      },
    }),
  };
  runInNewContext(`${read('search-index.js')}\n${read('search.js')}`, { document });
  for (const [words, page] of [
    ['jwt_not_enabled', '../docs/errors.html#'],
    ['clock_tolerance', '../docs/settings.html#'],
    ['directory_unavailable', '../docs/errors.html#'],
  ] as const) {
    input.value = words;
    input.show();
    t.ok(found[0]?.href.startsWith(page), `${words}: ${found[0]?.href}`);
  }
  input.value = 'no page has these wordsss';
  input.show();
  t.equal(found.length, 0);
  t.equal(list.hidden, true);
});
