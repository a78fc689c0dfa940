/**
 * docs/settings.md out of the table of settings, so that the two cannot differ; a test holds them
 * together.
 */
import { type Definition, definitions, settingNames } from '../src/settings/definitions.ts';
import { variableName } from '../src/settings/process-defaults.ts';

const INTRODUCTION = `# Settings

What can be changed while pgsso runs: with \`SET CLUSTER SETTING\` at the [console](console.md), or with \`pgsso settings\`. Names, defaults and error
texts are those of CockroachDB's cluster settings; the settings that begin with \`pgsso.\` are our own. Each has a default for the process from
\`pgsso serve --set NAME=VALUE\` or from its environment variable; RESET returns to that one. A change is in force for the next login.

This page is generated from [\`src/settings/definitions.ts\`](../src/settings/definitions.ts) by \`npm run docs\`.
`;

const TYPES = { b: 'boolean', s: 'string', d: 'duration' } as const;

/** The page. */
export function formatManual(): string {
  return [INTRODUCTION, ...settingNames.map((name) => formatSetting(name, definitions[name]))].join(
    '\n',
  );
}

function formatSetting(
  name: string,
  { type, aliases, default: text, description, sensitive }: Definition<unknown>,
): string {
  const lines = [
    `| type | ${TYPES[type]} |`,
    `| default | ${text === '' ? 'empty' : `\`${text}\``} |`,
    `| variable | \`${variableName(name)}\` |`,
    ...(aliases.length > 0
      ? [`| other names | ${aliases.map((alias) => `\`${alias}\``).join(', ')} |`]
      : []),
    ...(sensitive ? ['| sensitive | shown to admins alone, and not kept in the history |'] : []),
  ];
  return `## ${name}\n\n${description.charAt(0).toUpperCase()}${description.slice(1)}.\n\n| | |\n|---|---|\n${lines.join('\n')}\n`;
}
