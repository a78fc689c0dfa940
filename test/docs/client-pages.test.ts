/** The pages for clients name commands, options and variables that there are, and all of them. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import t from 'tap';
import { addCompletionCommand } from '../../src/cli/completion.ts';
import { addConnectCommand } from '../../src/cli/connect.ts';
import { addLoginCommands } from '../../src/cli/login.ts';
import { addPsqlCommand } from '../../src/cli/psql.ts';
import { addTokenCommand } from '../../src/cli/token.ts';
import { readExamples } from '../clients/examples.ts';

const read = (name: string): string =>
  readFileSync(new URL(`../../../docs/${name}`, import.meta.url), 'utf8');
const pages = ['login.md', 'workloads.md', 'clients.md'].map(read).join('\n');

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

t.test('the matrix has an example and a package for each client', async (t) => {
  const examples = readExamples(read('clients.md'));
  t.ok(examples.every(({ packages, code }) => packages !== '' && code !== ''));
  const names = new Set(examples.map(({ name }) => name));
  const clients =
    'psql|psql 18|pgbench|pg_dump|psycopg2|psycopg|asyncpg|SQLAlchemy|pg8000|pgjdbc|lib/pq|pgx|' +
    'ruby-pg|DBD::Pg|PHP|psqlODBC|pg|pg-native|postgres|knex|kysely|drizzle-orm|typeorm|' +
    'sequelize|slonik|pgcli|postgres_fdw and dblink|pgbouncer before pgsso|' +
    'pgbouncer behind pgsso|haproxy';
  t.strictSame(
    clients.split('|').filter((name) => !names.has(name)),
    [],
  );
});
