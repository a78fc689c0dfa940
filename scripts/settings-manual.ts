/**
 * Generates docs/settings.md from the table of settings. A test compares the file with the text, so
 * that the manual and the table cannot differ.
 */
import { type Definition, definitions, settingNames } from '../src/settings/definitions.ts';
import { variableName } from '../src/settings/process-defaults.ts';

/** Characters of a line of the manual. */
const WIDTH = 100;

const INTRODUCTION = [
  'What can be changed while pgsso runs: with `SET CLUSTER SETTING` at the ' +
    '[console](console.md), or with `pgsso settings`. Names, defaults and error texts are those ' +
    "of CockroachDB's cluster settings; the settings that begin with `pgsso.` are our own. Each " +
    'has a default for the process from `pgsso serve --set NAME=VALUE` or from its environment ' +
    'variable; RESET returns to that one. A change is in force for the next login.',
  'This page is generated from ' +
    '[`src/settings/definitions.ts`](../src/settings/definitions.ts) by `npm run docs`.',
];

const TYPES = { b: 'boolean', s: 'string', d: 'duration' } as const;

/** The text of docs/settings.md. */
export function formatManual(): string {
  return [
    '# Settings',
    ...INTRODUCTION.map(wrap),
    ...settingNames.flatMap((name) => formatSetting(name, definitions[name])),
  ]
    .join('\n\n')
    .concat('\n');
}

function formatSetting(
  name: string,
  { type, aliases, default: text, description, sensitive }: Definition<unknown>,
): string[] {
  const rows = [
    '| | |',
    '|---|---|',
    `| type | ${TYPES[type]} |`,
    `| default | ${text === '' ? 'empty' : `\`${text}\``} |`,
    `| variable | \`${variableName(name)}\` |`,
    ...(aliases.length > 0
      ? [`| other names | ${aliases.map((alias) => `\`${alias}\``).join(', ')} |`]
      : []),
    ...(sensitive ? ['| sensitive | shown to admins alone, and not kept in the history |'] : []),
  ];
  const sentence = `${description.charAt(0).toUpperCase()}${description.slice(1)}.`;
  return [`## ${name}`, wrap(sentence), rows.join('\n')];
}

/** The text in lines of at most {@link WIDTH} characters; code is not broken. */
function wrap(text: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.match(/(?:`[^`]*`|[^\s`])+/g) ?? []) {
    if (line !== '' && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].join('\n');
}
