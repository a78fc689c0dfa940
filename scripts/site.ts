/**
 * The documentation as a site: README.md and docs/ as pages with one sidebar and a search, in plain
 * HTML that needs no server. Files of the repository that pages link to are copied as they are.
 */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { Marked, type Tokens } from 'marked';

/** The sidebar: every page, in the order in which somebody reads it. */
export const sections: readonly (readonly [string, readonly string[]])[] = [
  ['Start', ['README.md', 'docs/comparison.md', 'docs/migration.md']],
  [
    'Connect',
    [
      'docs/clients.md',
      'docs/login.md',
      'docs/workloads.md',
      'docs/rules.md',
      'docs/oauth.md',
      'docs/device-login.md',
      'docs/providers.md',
      'docs/keys.md',
    ],
  ],
  [
    'Operate',
    [
      'docs/operations.md',
      'docs/console.md',
      'docs/backend-auth.md',
      'docs/directory.md',
      'docs/load-balancing.md',
      'docs/kubernetes.md',
      'docs/metrics.md',
      'docs/performance.md',
      'docs/upgrade.md',
    ],
  ],
  ['Secure', ['docs/security.md', 'docs/reliability.md', 'SECURITY.md']],
  [
    'Reference',
    [
      'docs/errors.md',
      'docs/settings.md',
      'docs/architecture.md',
      'CONTRIBUTING.md',
      'CHANGELOG.md',
    ],
  ],
];

/** A part of a page under one heading, which the search finds. */
interface Part {
  readonly page: string;
  readonly heading: string;
  readonly url: string;
  readonly text: string;
}

interface Page {
  readonly title: string;
  readonly html: string;
  readonly parts: readonly Part[];
  /** Files and folders of the repository that the page links to. */
  readonly files: readonly string[];
}

/** Writes the site into a folder, which is emptied first. Returns the names of its pages. */
export function writeSite(root: string, out: string): readonly string[] {
  rmSync(out, { recursive: true, force: true });
  const sources = sections.flatMap(([, names]) => names);
  const pages = new Map(sources.map((source) => [source, readPage(root, source, sources)]));
  for (const [source, page] of pages) {
    const target = join(out, urlOf(source));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, layOut(source, page, pages));
    for (const file of page.files) cpSync(join(root, file), join(out, file), { recursive: true });
  }
  const parts = [...pages.values()].flatMap((page) => page.parts);
  // A script, not JSON: a browser fetches nothing for a page that was opened as a file.
  writeFileSync(join(out, 'search-index.js'), `const PARTS = ${JSON.stringify(parts)};\n`);
  for (const asset of ['site.css', 'search.js'])
    copyFileSync(join(root, 'scripts/site', asset), join(out, asset));
  return sources.map(urlOf);
}

function urlOf(source: string): string {
  return source === 'README.md' ? 'index.html' : source.replace(/\.md$/, '.html');
}

function readPage(root: string, source: string, sources: readonly string[]): Page {
  const text = readFileSync(join(root, source), 'utf8');
  const parts: Part[] = [];
  const files: string[] = [];
  let title = '';
  const add = (heading: string, id: string): void => {
    parts.push({ page: title, heading, url: `${urlOf(source)}#${id}`, text: '' });
  };
  const addText = (more: string): void => {
    const last = parts.pop();
    if (last) parts.push({ ...last, text: `${last.text} ${more}`.trimStart() });
  };
  const link = (href: string): string => {
    if (/^(?:https?:|mailto:|#)/.test(href)) return href;
    const [path = '', anchor] = href.split('#');
    const file = normalize(join(dirname(source), path));
    const up = '../'.repeat(source.split('/').length - 1);
    const end = anchor === undefined ? '' : `#${anchor}`;
    if (sources.includes(file)) return up + urlOf(file) + end;
    if (!existsSync(join(root, file))) throw new Error(`${source} links to ${href}`);
    files.push(file);
    return up + file + end;
  };
  const marked = new Marked({
    walkTokens(token) {
      if (token.type === 'link') token['href'] = link(token['href']);
      if (token.type === 'heading') {
        if (token['depth'] === 1) title = plain(token['text']);
        add(plain(token['text']), anchorOf(token['text']));
      }
      if (token.type === 'text' || token.type === 'code' || token.type === 'codespan')
        addText(token['text']);
    },
    renderer: {
      heading({ tokens, depth, text }: Tokens.Heading): string {
        const inner = this.parser.parseInline(tokens);
        const id = anchorOf(text);
        return `<h${depth} id="${id}">${inner} <a class="here" href="#${id}">#</a></h${depth}>\n`;
      },
    },
  });
  const html = marked.parse(text, { async: false });
  return { title, html, parts, files };
}

function plain(markdown: string): string {
  return markdown.replaceAll(/[`*]|\[|\]\([^)]*\)/g, '');
}

/** As GitHub makes the anchors of headings. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\w -]/g, '')
    .replaceAll(' ', '-');
}

function layOut(source: string, { title, html }: Page, pages: ReadonlyMap<string, Page>): string {
  const up = '../'.repeat(source.split('/').length - 1);
  const list = ([heading, names]: readonly [string, readonly string[]]): string => {
    const items = names.map((name) => {
      const current = name === source ? ' aria-current="page"' : '';
      return `<li><a href="${up}${urlOf(name)}"${current}>${pages.get(name)?.title}</a></li>`;
    });
    return `<h2>${heading}</h2>\n<ul>\n${items.join('\n')}\n</ul>`;
  };
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} – pgsso</title>
<link rel="stylesheet" href="${up}site.css">
</head>
<body data-up="${up}">
<nav>
<label>Search <input id="search" type="search" autocomplete="off"></label>
<ol id="found" hidden></ol>
${sections.map(list).join('\n')}
</nav>
<main>
${html}</main>
<script src="${up}search-index.js"></script>
<script src="${up}search.js"></script>
</body>
</html>
`;
}
