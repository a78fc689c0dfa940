/**
 * `pgsso settings`: reads and changes settings from scripts, through the console of a running
 * pgsso. The console checks rights and values and writes the history, as it does for psql.
 */

import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { type Command, Option } from 'commander';
import type pg from 'pg';
import { errorText } from '../lib/errors.ts';
import { isJsonObject, readJson } from '../lib/json.ts';
import { parsePort, sourceOf } from './values.ts';

/** The options of the command and of its subcommands. */
interface SettingsCommandOptions {
  readonly url?: string;
  readonly dataDir: string;
  readonly port?: number;
  readonly json?: true;
}

const EXAMPLE_URL =
  'postgres://alice@db.example.com:26257/pgsso?options=--crdb:jwt_auth_enabled%3Dtrue';

const EXAMPLE = `
Example: over the socket of a pgsso on this machine, then over a listener with a token
  pgsso settings --data-dir /var/lib/pgsso set server.jwt_authentication.enabled true
  PGPASSWORD=$TOKEN pgsso settings --url '${EXAMPLE_URL}' export
`;

/** Connects to the console, does the work there and ends the connection. */
type AtConsole = <T>(work: (client: pg.Client) => Promise<T>) => Promise<T>;

/** Adds the command and its subcommands to the program. */
export function addSettingsCommand(program: Command): void {
  const settings = program
    .command('settings')
    .description('Show and change the settings of a running pgsso.')
    .addOption(
      new Option('--data-dir <DIR>', 'its data directory, by whose socket it is reached')
        .env('PGSSO_DATA_DIR')
        .default('./pgsso-data'),
    )
    .addOption(
      new Option('--port <PORT>', 'which one, if several use the directory').argParser(parsePort),
    )
    .addOption(
      new Option(
        '--url <URL>',
        'its console over the network instead: postgres://user@host:port/pgsso; PGPASSWORD',
      ).env('PGSSO_URL'),
    )
    .addHelpText('after', EXAMPLE);

  const atConsole: AtConsole = async (work) => {
    const { withConsole } = await import('./console-client.ts');
    const { url, dataDir, port } = settings.opts<SettingsCommandOptions>();
    return withConsole({ url, source: sourceOf(settings, 'url'), dataDir, port }, work);
  };
  addCommandsForOne(settings, atConsole);
  addCommandsForAll(settings, atConsole);
}

/** The subcommands for one setting. */
function addCommandsForOne(settings: Command, atConsole: AtConsole): void {
  settings
    .command('get <NAME>')
    .description('Print the value of a setting.')
    .addOption(json())
    .action(async (name: string, options: SettingsCommandOptions) => {
      const value = await atConsole((client) => get(client, name));
      print(options.json ? JSON.stringify(value) : value);
    });
  settings
    .command('set <NAME> <VALUE>')
    .description(
      'Change a setting; the value - is read from standard input, without its last line break.',
    )
    .action(async (name: string, given: string) => {
      const value = given === '-' ? (await text(process.stdin)).replace(/\r?\n$/, '') : given;
      await atConsole((client) => set(client, name, value));
    });
  settings
    .command('reset <NAME>')
    .description('Give a setting its default again.')
    .action((name: string) => atConsole((client) => reset(client, name)));
}

/** The subcommands for all settings. */
function addCommandsForAll(settings: Command, atConsole: AtConsole): void {
  settings
    .command('list')
    .description('Print all settings with their values and origins.')
    .addOption(json())
    .action(async (options: SettingsCommandOptions) => {
      const rows = await atConsole(list);
      print(options.json ? toJson(rows) : rows.map(settingLine).join('\n'));
    });
  settings
    .command('export')
    .description('Print the settings that were changed, as a JSON object that import takes.')
    .action(async () => {
      const changed = (await atConsole(list)).filter(({ origin }) => origin === 'override');
      print(toJson(Object.fromEntries(changed.map(({ variable, value }) => [variable, value]))));
    });
  settings
    .command('import <FILE>')
    .description(
      'Make the changes of a JSON object, all or none: names to values, null for the default; ' +
        '- is standard input.',
    )
    .action(async (file: string) => {
      const changes = parseImport(await readImport(file));
      await atConsole((client) => importAll(client, changes));
    });
}

function json(): Option {
  return new Option('--json', 'as JSON');
}

/** A row of SHOW CLUSTER SETTINGS. */
interface SettingRow {
  readonly variable: string;
  readonly value: string;
  readonly setting_type: string;
  readonly description: string;
  readonly default_value: string;
  readonly origin: string;
}

/** The value in canonical form, which SHOW CLUSTER SETTINGS has as text. */
async function get(client: pg.Client, name: string): Promise<string> {
  // The column has the setting's own name, also if this one is an alias.
  const { fields } = await client.query(`SHOW CLUSTER SETTING ${client.escapeIdentifier(name)}`);
  const { rows } = await client.query(
    'SELECT value FROM [SHOW CLUSTER SETTINGS] WHERE variable = $1',
    [fields[0]?.name],
  );
  return rows[0]?.value;
}

async function set(client: pg.Client, name: string, value: string): Promise<void> {
  await client.query(`SET CLUSTER SETTING ${client.escapeIdentifier(name)} = $1`, [value]);
}

async function reset(client: pg.Client, name: string): Promise<void> {
  await client.query(`RESET CLUSTER SETTING ${client.escapeIdentifier(name)}`);
}

async function list(client: pg.Client): Promise<readonly SettingRow[]> {
  return (await client.query<SettingRow>('SHOW CLUSTER SETTINGS')).rows;
}

/** The console makes the changes of a transaction at COMMIT, all or none. */
async function importAll(
  client: pg.Client,
  changes: ReadonlyMap<string, string | undefined>,
): Promise<void> {
  await client.query('BEGIN');
  for (const [name, value] of changes) {
    if (value === undefined) await reset(client, name);
    else await set(client, name, value);
  }
  await client.query('COMMIT');
}

async function readImport(file: string): Promise<string> {
  try {
    return file === '-' ? await text(process.stdin) : await readFile(file, 'utf8');
  } catch (error) {
    throw new Error(`import: ${errorText(error)}`, { cause: error });
  }
}

function parseImport(content: string): ReadonlyMap<string, string | undefined> {
  const reading = readJson(content);
  if (!reading.valid) throw new Error('import: it is not JSON');
  if (!isJsonObject(reading.value)) {
    throw new Error('import: it is no JSON object of names and values');
  }
  return new Map(
    Object.entries(reading.value).map(([name, value]) => [name, importValue(name, value)]),
  );
}

function importValue(name: string, value: unknown): string | undefined {
  if (value === null) return undefined;
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean' || typeof value === 'number') return String(value);
  // The text of a setting that is a list or a map is JSON.
  if (typeof value === 'object') return JSON.stringify(value);
  throw new Error(`import: the value of ${name} is of a kind that no setting has`);
}

function settingLine({ variable, value, origin }: SettingRow): string {
  return `${origin.padEnd(8)}  ${variable} = ${JSON.stringify(value)}`;
}

function toJson(value: unknown): string {
  return JSON.stringify(value, undefined, 2);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
