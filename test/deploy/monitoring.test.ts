/** Alert rules and dashboard ask for metrics that exist, and the alerts do what they say. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { parse } from 'yaml';
import { Metrics } from '../../src/observe/metrics.ts';

const FOLDER = new URL('../../../deploy/', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, FOLDER), 'utf8');

const RULES = 'prometheus/alerts.yaml';
const RULES_TEST = 'prometheus/alerts.test.yaml';

/** The names of all series: those of a histogram have endings. */
async function scrape(): Promise<{ text: string; names: Set<string> }> {
  const metrics = new Metrics(0);
  metrics.watchIssuers(() => ({ now: 0, issuers: [] }));
  metrics.watchRefusals(() => 0);
  metrics.watchProcess('1.2.3');
  const { text } = await metrics.scrape();
  const names = new Set(['up']);
  for (const [, name, type] of text.matchAll(/^# TYPE (\w+) (\w+)$/gm)) {
    if (type === 'histogram')
      for (const end of ['bucket', 'count', 'sum']) names.add(`${name}_${end}`);
    else names.add(`${name}`);
  }
  return { text, names };
}

/** What a PromQL expression asks for. Words in braces and in parentheses after `by` are labels. */
function namesIn(expression: string): string[] {
  const bare = expression.replaceAll(/\{[^}]*\}|\b(?:by|without) \([^)]*\)|\[[^\]]*\]/g, ' ');
  return bare.match(/\b(?:up|(?:pgsso|process|nodejs)_\w+)\b/g) ?? [];
}

interface Panel {
  readonly title: string;
  readonly targets: readonly { expr: string }[];
  readonly gridPos: { x: number; y: number; w: number; h: number };
}

t.test('the alerts and the dashboard ask for metrics that exist', async (t) => {
  const { names } = await scrape();
  const { groups } = parse(read(RULES)) as {
    groups: { rules: { alert: string; expr: string }[] }[];
  };
  const { panels } = JSON.parse(read('grafana/pgsso.json')) as { panels: Panel[] };
  const expressions = [
    ...groups.flatMap(({ rules }) => rules.map(({ alert, expr }) => [alert, expr] as const)),
    ...panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
  ];
  t.ok(expressions.length > 20);
  for (const [title, expression] of expressions) {
    const asked = namesIn(expression);
    t.not(asked.length, 0, title);
    t.strictSame(
      asked.filter((name) => !names.has(name)),
      [],
      title,
    );
  }
  const shown = new Set(expressions.flatMap(([, expression]) => namesIn(expression)));
  const ours = [...names].filter((name) => /^pgsso_.*(?<!_count|_sum)$/.test(name));
  t.strictSame(
    ours.filter((name) => !shown.has(name)),
    ['pgsso_refusals_waiting', 'pgsso_build_info'],
    'each metric but these is shown somewhere',
  );
});

t.test('each alert is tested, and says what to do', async (t) => {
  const { groups } = parse(read(RULES)) as {
    groups: { rules: { alert: string; annotations: { summary?: string; action?: string } }[] }[];
  };
  const tested = [...read(RULES_TEST).matchAll(/alertname: (\w+)/g)].map(([, name]) => name);
  for (const { alert, annotations } of groups.flatMap(({ rules }) => rules)) {
    t.ok(tested.includes(alert), alert);
    t.ok(annotations.summary && annotations.action, alert);
  }
});

t.test('panels do not lie on each other', async (t) => {
  const { panels } = JSON.parse(read('grafana/pgsso.json')) as { panels: Panel[] };
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
  );
  t.equal(new Set(cells).size, cells.length);
});

const promtool = (args: string[], input?: string) =>
  spawnSync('promtool', args, {
    cwd: fileURLToPath(FOLDER),
    encoding: 'utf8',
    ...(input === undefined ? {} : { input }),
  });
const skip = promtool(['--version']).error ? 'promtool is not installed' : false;

t.test('promtool tests the alerts', { skip }, async (t) => {
  for (const args of [
    ['check', 'rules', RULES],
    ['test', 'rules', RULES_TEST],
  ]) {
    const { status, stdout, stderr } = promtool(args);
    t.equal(status, 0, stdout + stderr);
  }
});

t.test('promtool has no complaint about the metrics', { skip }, async (t) => {
  const { text } = await scrape();
  const { status, stdout, stderr } = promtool(['check', 'metrics'], text);
  t.strictSame({ status, said: stdout + stderr }, { status: 0, said: '' });
});
