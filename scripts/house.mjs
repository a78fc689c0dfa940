#!/usr/bin/env node
/**
 * The rules of the source tree: `npm run house` prints its figures and fails when a rule is broken.
 * docs/architecture.md, "The house", explains the rooms.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

/**
 * The rooms of src/ in the one direction in which imports go: a room may import from those behind
 * it. `observe` may be imported by all rooms and imports nothing but `lib`.
 */
const ROOMS = [
  'cli',
  'client',
  'check',
  'server',
  'console',
  'session',
  'auth',
  'backend',
  'directory',
  'oauth',
  'keys',
  'http',
  'settings',
  'wire',
  'lib',
];

/** Columns, for code and for documentation. */
const WIDTH = 100;

/** Lines. A smaller file is a drawer and not a room. */
const SMALLEST = 40;

/** Small files that have a reason. */
const SMALL_FILES = new Map([
  ['src/lib/listen.ts', 'servers of three rooms begin to listen in one way'],
]);

const list = (directory, ending) =>
  existsSync(directory)
    ? readdirSync(directory, { recursive: true })
        .map((file) => join(directory, String(file)))
        .filter((file) => file.endsWith(ending))
    : [];

const sources = list('src', '.ts');
const text = new Map(sources.map((file) => [file, readFileSync(file, 'utf8')]));
const imports = new Map(
  sources.map((file) => [
    file,
    [...text.get(file).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map(([, target]) =>
      normalize(join(dirname(file), target)),
    ),
  ]),
);

/** The first part of the path below src/; src/cli.ts belongs to `cli`. */
const roomOf = (file) => file.split('/')[1].replace(/\.ts$/, '');

/** Imports against the order of the rooms. */
function wrongImports() {
  const wrong = [];
  for (const [file, targets] of imports) {
    const from = roomOf(file);
    for (const target of targets) {
      const to = roomOf(target);
      if (from === to || (to === 'observe' && from !== 'observe')) continue;
      const allowed = from === 'observe' ? to === 'lib' : ROOMS.indexOf(to) > ROOMS.indexOf(from);
      if (!allowed || !ROOMS.includes(to)) wrong.push(`${file} imports ${target}`);
    }
  }
  return wrong;
}

/** Circles of imports, of types too: Tarjan's strongly connected components. */
function circles() {
  const order = new Map();
  const low = new Map();
  const stack = [];
  const found = [];
  const visit = (file) => {
    order.set(file, order.size);
    low.set(file, order.get(file));
    stack.push(file);
    for (const target of imports.get(file) ?? []) {
      if (!order.has(target)) visit(target);
      if (stack.includes(target)) low.set(file, Math.min(low.get(file), low.get(target)));
    }
    if (low.get(file) !== order.get(file)) return;
    const members = stack.splice(stack.indexOf(file));
    if (members.length > 1) found.push(members.join(', '));
  };
  for (const file of sources) if (!order.has(file)) visit(file);
  return found;
}

/** Lines that are too wide. A long address cannot be wrapped. */
function wideCode() {
  const code = ['src', 'test', 'bench', 'demo', 'scripts'].flatMap((folder) => [
    ...list(folder, '.ts'),
    ...list(folder, '.mjs'),
  ]);
  return code.flatMap((file) =>
    wideLines(readFileSync(file, 'utf8'), (line) => /https?:\/\/\S{60,}/.test(line)).map(
      (number) => `${file}:${number}`,
    ),
  );
}

/** The same for prose. Code blocks, tables and long addresses are exempt. */
function wideProse() {
  return ['README.md', 'CHANGELOG.md', ...list('docs', '.md')].flatMap((file) => {
    let isFenced = false;
    const isExempt = (line) => {
      if (/^\s*```/.test(line)) isFenced = !isFenced;
      if (isFenced || /^\s*\|/.test(line) || /^ {4}/.test(line)) return true;
      return /https?:\/\/\S{40,}|\]\(\S{40,}\)/.test(line);
    };
    return wideLines(readFileSync(file, 'utf8'), isExempt).map((number) => `${file}:${number}`);
  });
}

function wideLines(content, isExempt) {
  return content
    .split('\n')
    .flatMap((line, index) => (!isExempt(line) && line.length > WIDTH ? [index + 1] : []));
}

const linesOf = (file) => text.get(file).split('\n').length - 1;
const total = sources.reduce((sum, file) => sum + linesOf(file), 0);
console.log(`src: ${sources.length} files, ${total} lines`);

const rules = [
  ['imports against the order of the rooms', wrongImports()],
  ['circles of imports', circles()],
  [
    `files under ${SMALLEST} lines without a reason`,
    sources.filter((file) => linesOf(file) < SMALLEST && !SMALL_FILES.has(file)),
  ],
  [`lines of code over ${WIDTH} columns`, wideCode()],
  [`lines of documentation over ${WIDTH} columns`, wideProse()],
];
for (const [rule, broken] of rules) {
  console.log(`${rule}: ${broken.length}`);
  for (const place of broken) console.log(`  ${place}`);
}
process.exitCode = rules.some(([, broken]) => broken.length > 0) ? 1 : 0;
