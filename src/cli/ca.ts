/**
 * `pgsso ca init`: makes the authority of `--backend-auth issue-cert`. It prints the lines for the
 * backend's configuration, which let the certificates in for the intended users only.
 */

import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { parseCount } from './values.ts';

interface ParsedOptions {
  readonly issueCaCert: string;
  readonly issueCaKey: string;
  readonly name: string;
  readonly days: number;
}

/** Adds the command to the program. */
export function addCaCommand(program: Command): void {
  program
    .command('ca')
    .description('The authority that issues client certificates for --backend-auth issue-cert.')
    .command('init')
    .description("Make an authority: certificate and key, and the backend's lines for it.")
    .addOption(
      new Option('--issue-ca-cert <FILE>', 'the certificate, for pgsso and for the backend')
        .env('PGSSO_ISSUE_CA_CERT')
        .default('pgsso-ca.crt'),
    )
    .addOption(
      new Option('--issue-ca-key <FILE>', 'the key, for pgsso alone; made with mode 0600')
        .env('PGSSO_ISSUE_CA_KEY')
        .default('pgsso-ca.key'),
    )
    .addOption(
      new Option('--name <NAME>', "the authority's common name").default('pgsso client authority'),
    )
    .addOption(new Option('--days <N>', 'how long it is valid').argParser(parseCount).default(3650))
    .action(async ({ issueCaCert, issueCaKey, name, days }: ParsedOptions) => {
      const { createAuthority } = await import('../backend/certificates.ts');
      await createAuthority({
        certificate: issueCaCert,
        key: issueCaKey,
        name,
        days,
        now: Date.now(),
      });
      process.stdout.write(instructions(resolve(issueCaCert), resolve(issueCaKey)));
    });
}

function instructions(certificate: string, key: string): string {
  return `Made ${certificate}
 and ${key}, which only pgsso may ever read: whoever has it can log in as any user that the \
lines below let in.

At the backend, with a copy of the certificate and the address of pgsso:

  # postgresql.conf
  ssl = on
  ssl_ca_file = 'pgsso-ca.crt'

  # pg_hba.conf, above other lines that fit this address; with --directory, put the lines for its
  # user above this one (docs/directory.md)
  hostssl  all  +app_users  192.0.2.1/32  cert

  -- the users that pgsso may log in as; no superuser among them
  CREATE ROLE app_users;
  GRANT app_users TO alice;
  SELECT pg_reload_conf();

At pgsso:

  --backend-auth issue-cert --issue-ca-cert ${certificate} --issue-ca-key ${key}
`;
}
