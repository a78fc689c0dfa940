/**
 * `pgsso explain`: runs the checks of a login on a token, or has a running pgsso do it, and prints
 * the result of each. The token is read from standard input, so that neither the list of processes
 * nor the shell's history shows it.
 */

import { type Command, Option } from 'commander';
import { loadEnvFile } from './env-file.ts';
import type { ExplainOptions } from './explained-login.ts';
import { collect, parseAddress, parsePort, parseUserName, repeatable } from './values.ts';

const EXAMPLE = `
The exit status is 0 when the checks would let the login in, 1 when they would not, 2 for wrong \
use. What the database
says to the user (superuser rule, missing role) shows only at a login. A running pgsso may have
other settings, by its --set and variables: --running or --url asks it instead.

Example:
  pgsso explain --user alice --data-dir /var/lib/pgsso < token.jwt
  pgsso explain --user alice --from 10.1.2.3 --data-dir /var/lib/pgsso < token.jwt
  pgsso explain --user alice --running --data-dir /var/lib/pgsso < token.jwt
`;

/** Adds the command to the program. */
export function addExplainCommand(program: Command): void {
  program
    .command('explain')
    .description(
      'Explain a login: the token on standard input, a line for each check. Needs no server, ' +
        'and can ask one.',
    )
    .addOption(
      new Option(
        '--user <NAME>',
        'the user of the startup message; without it, the one that the token yields',
      ),
    )
    .addOption(
      new Option('--env-file <FILE>', 'as for serve: the environment of the service').argParser(
        loadEnvFile,
      ),
    )
    .addOption(
      new Option(
        '--data-dir <DIR>',
        'the settings of this data directory; without it, defaults',
      ).env('PGSSO_DATA_DIR'),
    )
    .addOption(
      new Option('--running', 'ask the pgsso that runs with this data directory, over its socket'),
    )
    .addOption(
      new Option('--port <PORT>', 'which one, if several use the directory').argParser(parsePort),
    )
    .addOption(
      new Option(
        '--url <URL>',
        'ask a pgsso over the network: postgres://user@host:port/pgsso; PGPASSWORD',
      ).conflicts('running'),
    )
    .addOption(
      new Option('--set <NAME=VALUE>', 'as for serve; also PGSSO_SET_<NAME>')
        .argParser(collect)
        .conflicts(['running', 'url']),
    )
    .addOption(
      new Option('--reserved-user <NAME>', 'as for serve')
        .env('PGSSO_RESERVED_USER')
        .argParser(repeatable(parseUserName)),
    )
    .addOption(
      new Option('--superusers <MODE>', 'as for serve')
        .env('PGSSO_SUPERUSERS')
        .choices(['refuse', 'allow'])
        .default('refuse'),
    )
    .addOption(
      new Option(
        '--from <ADDRESS>',
        'where the client is; --from or --via also finds the rule of the login',
      ).argParser(parseAddress),
    )
    .addOption(
      new Option('--via <WAY>', 'how the client connects; default: tls').choices(['tls', 'plain']),
    )
    .addOption(new Option('--database <NAME>', 'the database of the login, for the rules'))
    .addOption(new Option('--json', 'the result as one JSON object'))
    .addHelpText('after', EXAMPLE)
    .action(async (options: ExplainOptions) => {
      const { explain } = await import('./explained-login.ts');
      await explain(options);
    });
}
