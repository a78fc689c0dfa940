/**
 * Logins with each method of `--backend-auth`, with and without connections opened ahead, compared
 * with direct logins at the same PostgreSQL: p50 of one client that pauses between logins, logins a
 * second of eight clients, and CPU time of the front-end for a login. Every case has its own
 * front-end. Each round runs all of them in random order, and a ratio is to direct SCRAM in the
 * same round.
 */

import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Backend } from '../src/backend/backend.ts';
import { CertificateIssuer } from '../src/backend/certificates.ts';
import { BackendTarget } from '../src/backend/target.ts';
import { parseBackendUrl } from '../src/backend/url-parser.ts';
import { makeAuthority } from '../test/support/certificates.ts';
import { token } from '../test/support/front-end.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { password, RawClient, tokenStartup } from '../test/support/raw-client.ts';
import { startBenchFrontEnd } from './front-end.ts';
import type { Program } from './programs.ts';
import { median, shuffle, spread } from './statistics.ts';

const { values: flags } = parseArgs({
  options: { rounds: { type: 'string', default: '10' }, logins: { type: 'string', default: '60' } },
});
const rounds = Number(flags.rounds);
const logins = Number(flags.logins);
const CLIENTS = 8;
/** The pause of the one client, in which connections opened ahead are replaced, as in real use. */
const PAUSE_MS = 15;
const WARM_UP = 200;
const AHEAD = ', 8 ahead';
const READY_FOR_QUERY = 0x5a;

/** A kind of login that is measured. */
interface Way {
  readonly name: string;
  login(): Promise<void>;
  readonly frontEnd?: Program;
}

/** The figures of one round. */
interface Figures {
  readonly p50: number;
  readonly rate: number;
  readonly cpu: number | undefined;
}

const directory = await mkdtemp(join(tmpdir(), 'pgsso-bench-'));
const file = (name: string, text: string): string => {
  writeFileSync(join(directory, name), text, { mode: 0o600 });
  return join(directory, name);
};
const servers = makeAuthority('servers');
const clients = makeAuthority('clients');
const postgres = await startPostgres({
  ssl: { ...servers.issue({ cn: 'db', san: ['127.0.0.1'], usage: 'server' }), ca: clients.cert },
  hba: [
    'local all all trust',
    // One certificate for all users, a certificate for each user, and passwords.
    'hostssl front all 127.0.0.1/32 cert map=front',
    'hostssl issued all 127.0.0.1/32 cert',
    'hostssl all all 127.0.0.1/32 scram-sha-256',
  ],
  ident: ['front front alice'],
  initSql: [
    "CREATE ROLE alice LOGIN PASSWORD 'secret'",
    'CREATE DATABASE front',
    'CREATE DATABASE issued',
  ],
});
const front = clients.issue({ cn: 'front', usage: 'client' });
const passfile = file('passfile', '*:*:*:alice:secret\n');
const root = file('servers.crt', servers.cert);
const byTls = `postgres://127.0.0.1:${postgres.port}/?sslrootcert=${root}`;
const [frontCert, frontKey] = [file('front.crt', front.cert), file('front.key', front.key)];
const byCertificate = `${byTls}&sslcert=${frontCert}&sslkey=${frontKey}`;
const bySocket = `postgres:///?host=${postgres.socketDir}&port=${postgres.port}`;
const authority = [
  '--issue-ca-cert',
  file('ca.crt', clients.cert),
  '--issue-ca-key',
  file('ca.key', clients.key),
];

const ways: readonly Way[] = [
  await direct('direct, SCRAM', byTls, 'postgres', 'password'),
  await direct('direct, certificate', byCertificate, 'front', 'cert'),
  await through('trust, Unix socket', bySocket, 'postgres', []),
  await through(`trust, Unix socket${AHEAD}`, bySocket, 'postgres', ['--backend-ahead', '8']),
  await through('password', byTls, 'postgres', [
    '--backend-auth',
    'password',
    '--backend-passfile',
    passfile,
  ]),
  await through(`password${AHEAD}`, byTls, 'postgres', [
    '--backend-auth',
    'password',
    '--backend-passfile',
    passfile,
    '--backend-ahead',
    '8',
  ]),
  await through('cert', byCertificate, 'front', ['--backend-auth', 'cert']),
  await through(`cert${AHEAD}`, byCertificate, 'front', [
    '--backend-auth',
    'cert',
    '--backend-ahead',
    '8',
  ]),
  await through('issue-cert', byTls, 'issued', ['--backend-auth', 'issue-cert', ...authority]),
];

await reportIssuing();
const measured = new Map<Way, Figures[]>(ways.map((way) => [way, []]));
try {
  for (const way of ways) await measure(way, WARM_UP);
  for (let round = 1; round <= rounds; round++) {
    for (const way of shuffle(ways)) measured.get(way)?.push(await measure(way, logins));
    process.stderr.write(`round ${round} of ${rounds}\r`);
  }
  report();
} finally {
  for (const { frontEnd } of ways) await frontEnd?.stop();
  await postgres.close();
  await rm(directory, { recursive: true });
}

/** Logins at PostgreSQL itself, by the code that the front-end uses. */
async function direct(
  name: string,
  url: string,
  database: string,
  method: 'password' | 'cert',
): Promise<Way> {
  const options = {
    backendAuth: method,
    backendAhead: 0,
    ...(method === 'password' && { backendPassfile: passfile }),
  } as const;
  const backend = await Backend.open(parseBackendUrl(url, 'flag'), options, () => undefined);
  const parameters = Object.entries({ user: 'alice', database }).map(([name, value]) => ({
    name,
    value: Buffer.from(value),
  }));
  const { signal } = new AbortController();
  return {
    name,
    async login() {
      (await backend.logIn(parameters, signal)).channel.destroy();
    },
  };
}

/** Logins with a token through a front-end. */
async function through(
  name: string,
  url: string,
  database: string,
  options: readonly string[],
): Promise<Way> {
  const frontEnd = await startBenchFrontEnd(url, options);
  const jwt = password(token('alice'));
  const startup = tokenStartup({ user: 'alice', database });
  return {
    name,
    frontEnd,
    async login() {
      const client = await RawClient.connect(frontEnd.port);
      client.send(startup);
      await client.message();
      client.send(jwt);
      const { last } = await client.until(READY_FOR_QUERY);
      client.close();
      if (!last) throw new Error(`${name}: the login was refused`);
    },
  };
}

/** The cost of a login without a certificate in use: a key, a certificate and a TLS context. */
async function reportIssuing(): Promise<void> {
  const names = { certificateName: 'ca.crt', keyName: 'ca.key' };
  const issuer = await CertificateIssuer.open({
    certificate: join(directory, 'ca.crt'),
    key: join(directory, 'ca.key'),
    ...names,
  });
  const target = await BackendTarget.open(parseBackendUrl(byTls, 'flag'));
  const times = Array.from({ length: 500 }, () => {
    const started = performance.now();
    const identity = issuer.issue('alice');
    const issued = performance.now();
    target.createContext(identity);
    return { issue: issued - started, context: performance.now() - issued };
  });
  const [issue, context] = [
    median(times.map(({ issue }) => issue)),
    median(times.map(({ context }) => context)),
  ];
  process.stdout.write(
    `a certificate: ${issue.toFixed(2)} ms to issue, ` +
      `${context.toFixed(2)} ms to make its TLS context\n`,
  );
}

async function measure({ login, frontEnd }: Way, count: number): Promise<Figures> {
  // Connections that the last case took are opened again.
  await sleep(200);
  const before = frontEnd?.cpuSeconds() ?? 0;
  const times: number[] = [];
  for (let i = 0; i < count / 2; i++) {
    const started = performance.now();
    await login();
    times.push(performance.now() - started);
    await sleep(PAUSE_MS);
  }
  let left = count;
  const started = performance.now();
  const client = async (): Promise<void> => {
    while (left-- > 0) await login();
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  const rate = (count * 1000) / (performance.now() - started);
  const cpu = frontEnd && ((frontEnd.cpuSeconds() - before) * 1000) / (count * 1.5);
  return { p50: median(times), rate, cpu };
}

function report(): void {
  process.stdout.write(
    `${rounds} rounds; median (range over rounds); a ratio is to direct SCRAM in the same round\n`,
  );
  process.stdout.write(row('', 'p50 ms', 'ratio', 'logins/s', 'ratio', 'CPU ms'));
  for (const [{ name }, figures] of measured) {
    const ratios = (of: 'p50' | 'rate'): number[] => ratiosTo('direct, SCRAM', figures, of);
    const cpu = figures.flatMap(({ cpu }) => cpu ?? []);
    process.stdout.write(
      row(
        name,
        spread(figures.map(({ p50 }) => p50)),
        spread(ratios('p50'), 2),
        spread(
          figures.map(({ rate }) => rate),
          0,
        ),
        spread(ratios('rate'), 2),
        cpu.length > 0 ? spread(cpu, 2) : '',
      ),
    );
  }
  process.stdout.write('opened ahead, as a ratio to the same way without, in the same round\n');
  for (const [{ name }, figures] of measured) {
    const [way, ahead] = name.split(AHEAD);
    if (way === undefined || ahead === undefined) continue;
    const [p50, rate] = [ratiosTo(way, figures, 'p50'), ratiosTo(way, figures, 'rate')];
    process.stdout.write(row(way, '', spread(p50, 2), '', spread(rate, 2)));
  }
}

/** The ratio to another case in the same round, for each round. */
function ratiosTo(other: string, figures: readonly Figures[], of: 'p50' | 'rate'): number[] {
  const [base = []] = Array.from(measured).flatMap(([{ name }, of]) =>
    name === other ? [of] : [],
  );
  return figures.map((figure, round) => figure[of] / (base[round]?.[of] ?? Number.NaN));
}

function row(name: string, ...cells: readonly string[]): string {
  return `${name.padEnd(30)}${cells.map((cell) => cell.padEnd(20)).join('')}\n`;
}
