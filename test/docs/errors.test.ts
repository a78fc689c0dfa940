/** docs/errors.md explains each error of the catalogue, and no other. */

import { readFileSync } from 'node:fs';
import t from 'tap';
import { type Check, checks } from '../../src/auth/refusals.ts';
import { errorCodes } from '../../src/lib/error-codes.ts';

const page = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8');

/** Headings such as "### `code` (28000)", and rows such as "| `code` | 28000 | …". */
const described = [
  ...page.matchAll(/^(?:### `(\w+)` \((\w{5})\)$|\| `(\w+)` \| (\w{5}) \|)/gm),
].map(([, heading, headingState, row, rowState]) => [heading ?? row, headingState ?? rowState]);

t.test(
  'the page has each code of the catalogue once, with its SQLSTATE, and no other',
  async (t) => {
    t.strictSame(described.sort(), Object.entries(errorCodes).sort());
  },
);

t.test('the page has each check with its number, code, message and what decides it', async (t) => {
  const rows: readonly [string, Check][] = Object.entries(checks);
  for (const [name, { number, code, message, decidedBy }] of rows) {
    const link = `[\`${code}\`](#${code}-${errorCodes[code]})`;
    const decides = decidedBy === undefined ? '' : `\`${decidedBy}\` `;
    const row = `| ${number} | \`${name}\` | ${link} | \`${message}\` | ${decides}|`;
    t.ok(page.includes(`\n${row}\n`), row);
    t.match(sectionOf(code), `- Message: \`${message}\``, `${code} repeats the message`);
  }
});

t.test('each section of the page has a message, a cause and a cure', async (t) => {
  for (const [code = ''] of described) {
    const section = sectionOf(code);
    if (section === '') continue;
    for (const label of ['Message', 'Cause', 'ure']) t.match(section, label, `${code}: ${label}`);
  }
});

/** The section of a code; empty for one that has a row in a table. */
function sectionOf(code: string): string {
  const [, section = ''] = page.split(`### \`${code}\` (`);
  return section.split(/^##/m)[0] ?? '';
}
