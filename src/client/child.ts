/**
 * Runs psql, or another program of libpq, with a token as its password. The token is in the child's
 * environment alone, which only this user can read. Signals go to the child, and its exit status is
 * the status of the command.
 */
import { spawn } from 'node:child_process';
import { access } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { isErrno } from '../lib/files.ts';
import { isLoopback } from '../lib/network.ts';
import { JWT_OPTION } from '../wire/options.ts';
import type { Profile } from './profile.ts';

/** The signals that a terminal sends to the child, too. Whether to end is the child's decision. */
const OF_TERMINAL: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT'];

/** The signals that are sent to this process alone. */
const FORWARDED: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'];

/** The shell's status for a program that does not exist, and for one that a signal ended. */
const NOT_FOUND = 127;
const BY_SIGNAL = 128;

/** The variables with which libpq is told where to go. */
const LOCATIONS = ['PGHOST', 'PGHOSTADDR', 'PGSERVICE'] as const;

/** Where systems keep the certificates of public authorities, as one file. */
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/**
 * The environment of the child. What the caller has set stays, but for the password. TLS is
 * verified in full unless the host is this one: libpq's own default would give the token to anybody
 * on the way.
 *
 * @param args of the program, which may name the host
 */
export async function childEnvironment(
  environment: NodeJS.ProcessEnv,
  profile: Profile,
  token: string,
  args: readonly string[],
): Promise<NodeJS.ProcessEnv> {
  const { PGOPTIONS = '', PGSSLMODE, PGSSLROOTCERT } = environment;
  const isOfProfile = !LOCATIONS.some((name) => environment[name]);
  const host = isOfProfile ? profile.sql_host : undefined;
  const port = isOfProfile ? profile.sql_port : undefined;
  const isHere = namesThisHost(args, { ...environment, ...(host && { PGHOST: host }) });
  const sslMode = PGSSLMODE || (isHere ? undefined : 'verify-full');
  const isVerified = (modeIn(args) ?? sslMode) === 'verify-full';
  const rootCertificate = PGSSLROOTCERT || (isVerified ? await bundle(environment) : undefined);
  return {
    ...environment,
    ...(host !== undefined && { PGHOST: host }),
    ...(port !== undefined && !environment['PGPORT'] && { PGPORT: String(port) }),
    ...(sslMode !== undefined && { PGSSLMODE: sslMode }),
    ...(rootCertificate !== undefined && { PGSSLROOTCERT: rootCertificate }),
    PGOPTIONS: `${PGOPTIONS} --${JWT_OPTION}=true`.trim(),
    PGPASSWORD: token,
  };
}

/**
 * Runs the program to its end. The signals stay the child's: afterwards this process ends, too.
 *
 * @returns its exit status; 128 and the number of the signal that ended it
 * @throws Error that names the program if it cannot be run
 */
export async function runChild(
  program: string,
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  // Before the child runs: it may ask for a signal at once.
  for (const signal of OF_TERMINAL) process.on(signal, () => undefined);
  for (const signal of FORWARDED) process.on(signal, () => child.kill(signal));
  const child = spawn(program, args, { stdio: 'inherit', env: environment });
  return new Promise<number>((resolve, reject) => {
    child.once('error', (error) => {
      if (!isErrno(error, 'ENOENT')) return reject(error);
      process.stderr.write(`pgsso: ${program} is not installed, or not in PATH\n`);
      resolve(NOT_FOUND);
    });
    child.once('exit', (status, signal) =>
      resolve(status ?? BY_SIGNAL + constants.signals[signal ?? 'SIGTERM']),
    );
  });
}

/**
 * Whether the program connects to this host, as far as can be told without libpq's own rules: by
 * the hosts among the arguments, or else by the environment. Nobody knows where a service leads.
 * Without a host libpq uses a Unix socket.
 */
function namesThisHost(args: readonly string[], environment: NodeJS.ProcessEnv): boolean {
  const named = args.flatMap((arg, index) =>
    arg === '-h' || arg === '--host' ? [args[index + 1] ?? ''] : hostsIn(arg),
  );
  if (named.length > 0) return named.every(isThisHost);
  const { PGHOST, PGHOSTADDR, PGSERVICE } = environment;
  if (PGSERVICE || args.some((arg) => /\bservice\s*=/.test(arg))) return false;
  return [PGHOST ?? '', PGHOSTADDR ?? ''].every((list) => list.split(',').every(isThisHost));
}

/** The hosts in `-hNAME`, `--host=NAME`, a URI or a connection string (manual 32.1.1). */
function hostsIn(arg: string): string[] {
  const [, inOption] = /^(?:-h|--host=)(.+)$/s.exec(arg) ?? [];
  if (inOption !== undefined) return inOption.split(',');
  const [, authority, query = ''] =
    /^(?:-d|--dbname=)?postgres(?:ql)?:\/\/([^/?]*)[^?]*(?:\?(.*))?$/s.exec(arg) ?? [];
  const text = authority === undefined ? arg : query.replaceAll('&', ' ');
  const inText = [...text.matchAll(/(?:^|[\s=])(?:host|hostaddr)\s*=\s*'?([^\s']+)/g)].flatMap(
    ([, list = '']) => list.split(','),
  );
  const inAuthority = (authority ?? '')
    .replace(/^.*@/s, '')
    .split(',')
    .map((host) => host.replace(/:\d*$/, '').replace(/^\[(.*)\]$/, '$1'))
    .filter((host) => host !== '');
  return [...inAuthority, ...inText].map((host) => host.replaceAll(/%2f/gi, '/'));
}

/** The last `sslmode` in a URI or a connection string. It comes before the variable. */
function modeIn(args: readonly string[]): string | undefined {
  return args.flatMap((arg) => arg.match(/(?<=\bsslmode\s*=\s*'?)[\w-]+/g) ?? []).at(-1);
}

/** The name of a Unix socket's directory begins with a slash, or with @ for an abstract one. */
function isThisHost(name: string): boolean {
  return name === '' || /^[/@]/.test(name) || isLoopback(name);
}

/** Libpq reads ~/.postgresql/root.crt by default. Without it, public authorities are trusted. */
async function bundle({ HOME = '' }: NodeJS.ProcessEnv): Promise<string | undefined> {
  if (await exists(join(HOME, '.postgresql/root.crt'))) return undefined;
  for (const path of BUNDLES) if (await exists(path)) return path;
  return undefined;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
