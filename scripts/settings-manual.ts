/**
 * docs/settings.md out of the table of settings, so that the two cannot differ; a test holds them
 * together.
 */
import { type Definition, definitions, settingNames } from '../src/settings/definitions.ts';
import { variableName } from '../src/settings/process-defaults.ts';

const INTRODUCTION = `# Settings

Settings can be changed while pgsso runs: with \`SET CLUSTER SETTING\` at the
[console](console.md), or with \`pgsso settings\`. A change is in force for the next login.

- Names, defaults and error texts are those of CockroachDB's cluster settings. The settings that
  begin with \`pgsso.\` are our own.
- Each setting has a default for the process from \`pgsso serve --set NAME=VALUE\` or from its
  environment variable. RESET returns to that default.

This page is generated from [\`src/settings/definitions.ts\`](../src/settings/definitions.ts)
by \`npm run docs\`.
`;

/** Columns of a line of prose. */
const WIDTH = 98;

const TYPES = { b: 'boolean', s: 'string', d: 'duration', i: 'integer' } as const;

/** The page. */
export function formatManual(): string {
  return [INTRODUCTION, ...settingNames.map((name) => formatSetting(name, definitions[name]))].join(
    '\n',
  );
}

function formatSetting(
  name: string,
  { type, aliases, default: value, description, sensitive }: Definition<unknown>,
): string {
  const lines = [
    `| type | ${TYPES[type]} |`,
    `| default | ${value === '' ? 'empty' : `\`${value}\``} |`,
    `| variable | \`${variableName(name)}\` |`,
    ...(aliases.length > 0
      ? [`| other names | ${aliases.map((alias) => `\`${alias}\``).join(', ')} |`]
      : []),
    ...(sensitive ? ['| sensitive | shown to admins alone, and not stored in the history |'] : []),
  ];
  const text = wrap(`${description.charAt(0).toUpperCase()}${description.slice(1)}.`);
  return `## ${name}\n\n${text}\n\n| | |\n|---|---|\n${lines.join('\n')}\n`;
}

/** The words in lines of at most {@link WIDTH} columns, unless one word is longer. */
function wrap(prose: string): string {
  const lines = [''];
  for (const word of prose.split(' ')) {
    const line = lines.at(-1) ?? '';
    if (line === '') lines[lines.length - 1] = word;
    else if (line.length + 1 + word.length > WIDTH) lines.push(word);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines.join('\n');
}
