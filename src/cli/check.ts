/**
 * `pgsso check`: checks a configuration, with the options of `serve` and a user to log in as. It
 * prints a line for each finding. The exit status is 1 if one of them is an error.
 */

import { type Command, Option } from 'commander';
import type { CheckOptions } from '../check/check.ts';
import { formatFinding } from '../check/finding.ts';
import { addServeOptions, type ParsedOptions, readServeOptions } from './serve-options.ts';

interface ParsedCheckOptions extends ParsedOptions {
  readonly user?: string;
  readonly database?: string;
  readonly json?: boolean;
}

const EXIT_ERROR = 1;

const EXAMPLE = `
It looks at all that serve would open: settings, issuers, --settings, --directory, --data-dir, the
addresses, certificates and keys, each host of the backends, limits of the system.

Example: with the environment of the service
  pgsso check --user alice
`;

/** Adds the command to the program. */
export function addCheckCommand(program: Command): void {
  const command = program
    .command('check')
    .description('Look at a configuration before it goes live; the options are those of serve.');
  command
    .optionsGroup('What to try:')
    .addOption(
      new Option('--user <NAME>', 'log this user in at the database, and see whom else it lets in'),
    )
    .addOption(
      new Option(
        '--database <NAME>',
        'at the backend that this database goes to (default: at all)',
      ),
    )
    .addOption(new Option('--json', 'a JSON object a line'));
  addServeOptions(command).addHelpText('after', EXAMPLE);
  command.action(async ({ user, database, json, ...rest }: ParsedCheckOptions) => {
    const options: CheckOptions = {
      ...readServeOptions(command, rest),
      ...(user !== undefined && { user }),
      ...(database !== undefined && { database }),
    };
    const { check } = await import('../check/check.ts');
    const findings = await check(options);
    for (const finding of findings)
      process.stdout.write(`${json ? JSON.stringify(finding) : formatFinding(finding)}\n`);
    if (findings.some(({ level }) => level === 'error')) process.exitCode = EXIT_ERROR;
  });
}
