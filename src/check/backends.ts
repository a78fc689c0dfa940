/**
 * Checks the hosts of the backends, one by one: whether the host can be reached as the URL says,
 * whether a user can be logged in, and whether the host refuses logins that it should refuse.
 */

import { X509Certificate } from 'node:crypto';
import { TLSSocket } from 'node:tls';
import { serialize } from 'pg-protocol';
import { admitsWithoutCredential, Backend } from '../backend/backend.ts';
import { CLOCK_TOLERANCE_MS } from '../backend/certificates.ts';
import type { BackendSession } from '../backend/connection.ts';
import { dialHost } from '../backend/dial.ts';
import { parseRoutes, type RouteOptions, type RouteRule } from '../backend/routes.ts';
import { type BackendHost, formatHost, isSocketDirectory } from '../backend/url.ts';
import { withDeadline } from '../lib/abort.ts';
import { PgError } from '../lib/errors.ts';
import { BACKEND } from '../wire/constants.ts';
import type { StartupParameter } from '../wire/startup.ts';
import { checkDates, checkFileDates } from './certificates.ts';
import { about, type Finding, type Level, reasonOf } from './finding.ts';

/** The options that say which logins are tried. */
export interface BackendCheckOptions extends RouteOptions {
  readonly superusers: 'refuse' | 'allow';
  /** The user to log in. Without it no login is tried. */
  readonly user?: string;
  /** The user of `--directory`, whom the front-end's credential must not log in. */
  readonly directoryUser?: string | undefined;
  /** Only its backend is checked. Without it all are, in the database of their URL. */
  readonly database?: string;
}

/** PostgreSQL's name for the first superuser, which no front-end should be able to log in. */
const SUPERUSER = 'postgres';

/** For all that is tried at one host. */
const HOST_TIMEOUT_MS = 30_000;

/** A greater difference of clocks gets a warning: `nbf` and `iat` have a tolerance of 5 s. */
const SKEW_MS = 5_000;

/** A host that is checked. */
interface Subject {
  readonly backend: Backend;
  readonly host: BackendHost;
  readonly options: BackendCheckOptions;
  readonly say: (level: Level, text: string) => Finding;
  readonly name: string;
  readonly now: () => number;
}

/**
 * Checks every host of every backend, or of the backend of one database.
 *
 * @throws UsageError for wrong or contradictory options
 */
export async function checkBackends(
  options: BackendCheckOptions,
  now: () => number,
): Promise<Finding[]> {
  const rules = parseRoutes(options);
  const { database } = options;
  const chosen =
    database === undefined ? rules : rules.filter(({ matches }) => matches(database)).slice(0, 1);
  if (chosen.length === 0)
    return [about('--database')('error', `no --route fits ${database}, and there is no --backend`)];
  const findings: Finding[] = [];
  for (const rule of chosen) findings.push(...(await checkRule(rule, options, now)));
  return findings;
}

async function checkRule(
  rule: RouteRule,
  options: BackendCheckOptions,
  now: () => number,
): Promise<Finding[]> {
  const { credentials, hosts } = rule.url;
  const findings: Finding[] = [];
  const files: [string, string | undefined][] = [
    [`${rule.name} sslcert`, credentials.clientCertificate],
    ['--issue-ca-cert', credentials.issueCaCertificate ?? options.issueCaCert],
  ];
  for (const [subject, path] of files) {
    if (path !== undefined) findings.push(...(await checkFileDates(subject, path, now())));
  }
  for (const host of hosts) {
    const name = `${rule.name} ${formatHost(host)}`;
    const say = about(name);
    const url = { ...rule.url, hosts: [host], targetSessionAttrs: 'any' } as const;
    try {
      const backend = await Backend.open(url, { ...options, backendAhead: 0 }, (_level, text) =>
        findings.push(say('warning', text)),
      );
      findings.push(...(await checkHost({ backend, host, options, say, name, now })));
      backend.close();
    } catch (error) {
      findings.push(say('error', reasonOf(error)));
    }
  }
  return findings;
}

function checkHost(subject: Subject): Promise<Finding[]> {
  return withDeadline(
    HOST_TIMEOUT_MS,
    `not done within ${HOST_TIMEOUT_MS} ms`,
    new AbortController().signal,
    async (signal) => {
      const findings = await checkConnection(subject, signal);
      const { user } = subject.options;
      if (user === undefined || findings.some(({ level }) => level === 'error')) return findings;
      findings.push(...(await checkLogin(subject, user, signal)));
      if (subject.backend.credentials.method !== 'trust')
        findings.push(await checkWithoutCredential(subject, user, signal));
      findings.push(await checkSuperuser(subject, signal));
      const { directoryUser } = subject.options;
      if (directoryUser !== undefined)
        findings.push(await checkDirectoryUser(subject, directoryUser, signal));
      return findings;
    },
  );
}

/** Whether the host can be reached, with TLS as the URL says. */
async function checkConnection(
  { backend, host, say, name, now }: Subject,
  signal: AbortSignal,
): Promise<Finding[]> {
  const connection = await dialHost(backend.target, host, signal);
  const { socket } = connection.channel;
  const protocol = socket instanceof TLSSocket ? socket.getProtocol() : undefined;
  connection.channel.destroy();
  if (connection.certificate) {
    return [
      say('ok', `reachable, ${protocol}, sslmode=${host.sslMode}`),
      checkDates(name, new X509Certificate(connection.certificate), now()),
    ];
  }
  if (isSocketDirectory(host.host)) return [say('ok', 'reachable')];
  return [
    say(
      'warning',
      `reachable, in plain text: whoever is on the way can read along (sslmode=${host.sslMode})`,
    ),
  ];
}

/** Whether the user can be logged in, and whether a token may log the user in. */
async function checkLogin(
  { backend, options, say, now }: Subject,
  user: string,
  signal: AbortSignal,
): Promise<Finding[]> {
  let session: BackendSession;
  try {
    session = await backend.logIn(parametersFor(user, backend, options), signal);
  } catch (error) {
    return [say('error', `${user} cannot be logged in: ${reasonOf(error)}`)];
  }
  try {
    const { reported, isSuperuser } = session;
    const role = reported.get('in_hot_standby') === 'on' ? 'a standby' : 'a primary';
    const findings = [
      say(
        'ok',
        `${user} is logged in with ${backend.credentials.method}; ` +
          `version ${reported.get('server_version')}, ${role}`,
      ),
    ];
    if (isSuperuser !== 'off' && options.superusers === 'refuse') {
      findings.push(
        say(
          'error',
          `${user} is a superuser, or the server does not say: ` +
            'a token login is refused, --superusers',
        ),
      );
    }
    findings.push(await checkClock(session, say, now, signal));
    return findings;
  } finally {
    session.channel.destroy();
  }
}

/**
 * Compares the clocks. The backend's clock decides whether an issued certificate is valid, and that
 * of the front-end whether a token is.
 */
async function checkClock(
  session: BackendSession,
  say: Subject['say'],
  now: () => number,
  signal: AbortSignal,
): Promise<Finding> {
  const before = now();
  const answer = await ask(
    session,
    `SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())`,
    signal,
  );
  const skew = Math.round(Number(answer) * 1000 - (before + now()) / 2);
  if (!Number.isFinite(skew)) return say('warning', 'the clock of the server could not be read');
  const level =
    Math.abs(skew) > CLOCK_TOLERANCE_MS ? 'error' : Math.abs(skew) > SKEW_MS ? 'warning' : 'ok';
  return say(level, `its clock and ours differ by ${Math.abs(skew)} ms`);
}

/** Whether the host refuses the user without a credential. */
async function checkWithoutCredential(
  { backend, host, options, say }: Subject,
  user: string,
  signal: AbortSignal,
): Promise<Finding> {
  const parameters = parametersFor(user, backend, options);
  try {
    return (await admitsWithoutCredential(backend.target, host, parameters, signal))
      ? say(
          'error',
          `it lets ${user} in from this address without any credential; see its pg_hba.conf`,
        )
      : say('ok', `it refuses ${user} without a credential`);
  } catch (error) {
    return say(
      'warning',
      `whether it refuses ${user} without a credential could not be told: ${reasonOf(error)}`,
    );
  }
}

/** Whether the host refuses a superuser with the credential of the front-end. */
function checkSuperuser(subject: Subject, signal: AbortSignal): Promise<Finding> {
  return checkRefused(
    subject,
    SUPERUSER,
    subject.backend.credentials.method === 'cert' ? 'error' : 'warning',
    'limit its lines in pg_hba.conf to +app_users',
    signal,
  );
}

/**
 * Whether the host refuses the user of the directory with the credential of the front-end. That
 * user may create users and grant roles, and ADMIN OPTION on app_users makes it a member of it.
 */
function checkDirectoryUser(subject: Subject, user: string, signal: AbortSignal): Promise<Finding> {
  const cure = `put lines for ${user} above that of +app_users in pg_hba.conf (docs/directory.md)`;
  return checkRefused(subject, user, 'error', cure, signal);
}

async function checkRefused(
  { backend, options, say }: Subject,
  user: string,
  level: Level,
  cure: string,
  signal: AbortSignal,
): Promise<Finding> {
  try {
    const session = await backend.logIn(parametersFor(user, backend, options), signal);
    session.channel.destroy();
    return say(level, `the credential of the front-end also logs in ${user}: ${cure}`);
  } catch (error) {
    return error instanceof PgError && error.sqlstate === '28000'
      ? say('ok', `it refuses ${user} with the credential of the front-end`)
      : say('warning', `whether it refuses ${user} could not be told: ${reasonOf(error)}`);
  }
}

function parametersFor(
  user: string,
  backend: Backend,
  { database }: BackendCheckOptions,
): StartupParameter[] {
  const name = database ?? backend.target.url.database ?? 'postgres';
  return [
    { name: 'user', value: Buffer.from(user) },
    { name: 'database', value: Buffer.from(name) },
    { name: 'application_name', value: Buffer.from('pgsso check') },
  ];
}

/** The first column of the last row, as text. */
async function ask(
  { channel }: BackendSession,
  sql: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  await channel.write(serialize.query(sql), signal);
  let answer: string | undefined;
  for (;;) {
    const message = await channel.message(10_000, signal);
    if (!message || message.type === BACKEND.readyForQuery) return answer;
    // DataRow: the number of columns, then the length of each and its bytes (manual 54.7).
    if (message.type === BACKEND.dataRow) answer = message.body.toString('utf8', 6);
  }
}
