/** The pages for clients name commands, options and variables that there are, and all of them. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import t from 'tap';
import { addCompletionCommand } from '../../src/cli/completion.ts';
import { addConnectCommand } from '../../src/cli/connect.ts';
import { addLoginCommands } from '../../src/cli/login.ts';
import { addPsqlCommand } from '../../src/cli/psql.ts';
import { addTokenCommand } from '../../src/cli/token.ts';

const read = (name: string): string =>
  readFileSync(new URL(`../../../docs/${name}`, import.meta.url), 'utf8');
const pages = ['login.md', 'workloads.md'].map(read).join('\n');

const program = new Command('pgsso');
for (const add of [
  addLoginCommands,
  addTokenCommand,
  addPsqlCommand,
  addConnectCommand,
  addCompletionCommand,
])
  add(program);

t.test('the lines to type have commands and options that there are', async (t) => {
  const lines = [...pages.matchAll(/(?:^ {4,}|\(|`)pgsso (\w+)([^`)\n]*)/gm)];
  t.ok(lines.length > 15);
  const unknown = lines.flatMap(([line, name = '', rest = '']) => {
    const command = program.commands.find((each) => each.name() === name);
    const flags = (rest.split(' -- ')[0] ?? '').match(/(?<=\s)--[a-z-]+/g) ?? [];
    const known = command?.options.map(({ long }) => long) ?? [];
    return command && flags.every((flag) => known.includes(flag)) ? [] : [line];
  });
  t.strictSame(unknown, []);
});

t.test('each option and variable of these commands is explained', async (t) => {
  const options = program.commands.flatMap((command) => command.options);
  const names = options.flatMap(({ long, envVar }) => [long, envVar ?? long]);
  t.strictSame(
    names.filter((name) => !pages.includes(`\`${name}\``)),
    [],
  );
});
