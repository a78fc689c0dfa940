/** The man page pgsso(1), made of what --help prints (groff_man(7)). */
import type { Command, Option } from 'commander';
import { makeProgram } from '../src/cli/program.ts';
import { version } from '../src/server/options.ts';

/** The text of man/pgsso.1. */
export async function formatManPage(): Promise<string> {
  const program = await makeProgram();
  const lines = [
    '.\\" Written by `npm run docs` from the options of the program.',
    `.TH PGSSO 1 "" "pgsso ${version}" "User Commands"`,
    '.SH NAME',
    'pgsso \\- single sign-on for PostgreSQL and CockroachDB',
    '.SH SYNOPSIS',
    '.B pgsso',
    '.I command',
    '.RI [ options ]',
    '.SH DESCRIPTION',
    roff(program.description()),
    'It stands in front of the database, checks the token, and hands the session on as the SQL',
    'user that the token stands for.',
    ...program.commands.flatMap((command) => commandLines(command, '')),
    '.SH EXIT STATUS',
    '0 for success, 1 for an error at run time, 2 for wrong use.',
    '.SH FILES',
    '.TP',
    '.I /etc/pgsso/pgsso.env',
    'The options of the service pgsso.service, one variable a line.',
    '.TP',
    '.I /var/lib/pgsso',
    'Its data directory.',
    '.SH SEE ALSO',
    '.BR psql (1),',
    'and the pages in',
    '.I /usr/share/doc/pgsso/docs',
    'or the folder docs of the package.',
  ];
  return `${lines.join('\n')}\n`;
}

/** A command with its options, and its own commands. */
function commandLines(command: Command, before: string): string[] {
  const name = `${before} ${command.name()}`.trim();
  const options = command.options.filter(({ hidden }) => !hidden);
  return [
    ...(before === '' ? [`.SH ${name.toUpperCase()}`] : ['.SS', roff(name)]),
    '.B',
    roff(`pgsso ${name} ${command.usage()}`),
    '.PP',
    roff(command.description()),
    ...options.flatMap(optionLines),
    ...command.commands.flatMap((inner) => commandLines(inner, name)),
  ];
}

function optionLines({ flags, description, envVar, argChoices, defaultValue }: Option): string[] {
  const more = [
    ...(argChoices ? [`One of ${argChoices.join(', ')}.`] : []),
    ...(typeof defaultValue === 'string' ? [`Default: ${defaultValue}.`] : []),
    ...(envVar === undefined ? [] : [`Variable: ${envVar}.`]),
  ];
  return ['.TP', '.B', roff(flags), roff(`${description}.`), ...more.map(roff)];
}

/** Text for groff. It writes a backslash and a hyphen otherwise, and begins no line with a dot. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^(?=[.'])/, '\\&');
}
