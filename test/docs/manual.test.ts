/** The manual and the program say the same. */

import { readFileSync } from 'node:fs';
import t from 'tap';
import { formatManual } from '../../scripts/settings-manual.ts';
import { rules } from '../../src/console/statements/grammar.ts';

const page = (name: string): string =>
  readFileSync(new URL(`../../../docs/${name}`, import.meta.url), 'utf8');

t.test('docs/settings.md is what the table of settings says; npm run docs writes it', async (t) => {
  t.equal(page('settings.md'), formatManual());
});

t.test('docs/console.md has every statement of HELP', async (t) => {
  for (const { help } of rules)
    if (help) t.match(page('console.md'), `\`${help.syntax.replaceAll('|', '\\|')}\``, help.syntax);
});
