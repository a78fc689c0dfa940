/**
 * `npm run bench`: pgsso beside pgbouncer, haproxy and PostgreSQL itself, on one machine and in one
 * run. Each round does every row with each of them in random order. A ratio is to the reference of
 * the row in the same round, so that other load on the machine meets both alike.
 *
 *     npm run bench -- --quick            three short rounds
 *     npm run bench -- --against DIR      and another build of pgsso, in DIR
 *     npm run bench -- --rows bulk        only the rows whose name has this
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { makeAuthority } from '../test/support/certificates.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { startBenchFrontEnd } from './front-end.ts';
import {
  findProgram,
  type Program,
  type ServerCertificate,
  startHaproxy,
  startPgbouncer,
  versionOf,
} from './programs.ts';
import { memorySlope } from './slope.ts';
import { median, shuffle, spread } from './statistics.ts';
import { startStubBackend } from './stub-backend.ts';
import {
  bulk,
  CAROLS_PASSWORD,
  logIn,
  loginTimes,
  type Measured,
  pgbench,
  psqlCopy,
  startBulkBackend,
  type Target,
} from './workloads.ts';

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    against: { type: 'string' },
    rows: { type: 'string', default: '' },
    json: { type: 'string', default: 'bench.json' },
  },
});
const rounds = Number(flags.rounds ?? (flags.quick ? 3 : 10));
const transactions = flags.quick ? 16_000 : 40_000;
const bulkBytes = (flags.quick ? 256 : 1024) * 1024 * 1024;
const copyRows = flags.quick ? 300_000 : 1_000_000;
const logins = flags.quick ? 40 : 100;
const [slopeFrom, slopeTo] = [2000, 4000];

/** What is measured in a row. */
interface Subject {
  readonly name: string;
  readonly target: Target;
  /** The program whose CPU time counts; undefined: the database itself. */
  readonly program?: Program;
}

interface Row {
  readonly name: string;
  /** The subject that the others are compared with. */
  readonly reference: string;
  readonly subjects: readonly Subject[];
  measure(target: Target): Promise<Measured>;
  /** Unit of the rate, and how many of it are one of that unit. */
  readonly rate: readonly [unit: string, size: number];
  /** The same for CPU time. */
  readonly cpu: readonly [unit: string, size: number];
}

/** The figures of a subject, one of each for every round. */
interface Figures {
  readonly rate: number[];
  readonly cpu: number[];
}

const files = mkdtempSync(join(tmpdir(), 'pgsso-bench-'));
// pgbouncer runs as another user.
chmodSync(files, 0o755);
const stops: (() => Promise<void> | void)[] = [() => rmSync(files, { recursive: true })];

const prepared = ['-M', 'prepared'];
const per100k = ['s/100,000', 1e5] as const;
const perGb = ['s/GB', 1e9] as const;

try {
  await main();
} finally {
  for (const stop of stops.reverse()) await stop();
}

async function main(): Promise<void> {
  const rows = (await makeRows()).filter(({ name }) => name.includes(flags.rows));
  const figures = new Map(rows.map((row) => [row, newFigures(row)]));
  // The first round warms up and does not count.
  for (const row of rows) for (const { target } of row.subjects) await row.measure(target);
  for (let round = 1; round <= rounds; round++) {
    for (const [row, of] of figures) {
      progress(`round ${round} of ${rounds}: ${row.name}`);
      for (const subject of shuffle(row.subjects)) await measure(row, subject, of);
    }
  }
  progress('');
  const memory = 'memory'.includes(flags.rows) ? await measureMemory() : [];
  const machine = `${cpus().length} × ${cpus()[0]?.model}, Node.js ${process.version}`;
  console.log(`${new Date().toISOString()}, ${machine}`);
  console.log(`${rounds} rounds in random order; median (range); CPU time of the front-end\n`);
  for (const [row, of] of figures) report(row, of);
  for (const { name, kb } of memory) console.log(`${name.padEnd(44)}${kb.toFixed(1)} kB`);
  const json = {
    at: new Date().toISOString(),
    machine,
    programs: programVersions(),
    rounds,
    rows: Array.from(figures, ([{ name, reference, rate, cpu }, of]) => ({
      name,
      reference,
      rate,
      cpu,
      figures: Object.fromEntries(of),
    })),
    memory,
  };
  writeFileSync(flags.json, `${JSON.stringify(json, undefined, 1)}\n`);
  console.log(`\nfigures of each round: ${flags.json}`);
}

/** Shows on a terminal what is under way. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function programVersions(): Record<string, string> {
  const paths = { pgbouncer: '-V', haproxy: '-v', psql: '--version' };
  return Object.fromEntries(
    Object.entries(paths).flatMap(([name, flag]) => {
      const path = findProgram(name);
      return path === undefined ? [] : [[name, versionOf(path, flag)]];
    }),
  );
}

function newFigures({ subjects }: Row): Map<string, Figures> {
  return new Map(subjects.map(({ name }) => [name, { rate: [], cpu: [] }]));
}

async function measure(
  row: Row,
  { name, target, program }: Subject,
  figures: Map<string, Figures>,
): Promise<void> {
  const before = program?.cpuSeconds() ?? 0;
  const { rate, work } = await row.measure(target);
  const of = figures.get(name);
  of?.rate.push(rate);
  if (program) of?.cpu.push((program.cpuSeconds() - before) / work);
}

function report({ name, reference, rate, cpu }: Row, figures: Map<string, Figures>): void {
  const to = figures.get(reference);
  const ratios = (own: readonly number[], others: readonly number[] = []): string =>
    own.length === 0 || others.length === 0
      ? ''
      : spread(
          own.map((value, round) => value / (others[round] ?? Number.NaN)),
          2,
        );
  const scaled = (values: readonly number[], size: number, digits: number): string =>
    values.length === 0
      ? ''
      : spread(
          values.map((value) => value * size),
          digits,
        );
  console.log(name);
  const columns = ['', rate[0], `ratio to ${reference}`, cpu[0], 'ratio'];
  console.log(line(columns));
  for (const [subject, { rate: rates, cpu: times }] of figures) {
    console.log(
      line([
        subject,
        scaled(rates, 1 / rate[1], median(rates) / rate[1] < 20 ? 2 : 0),
        ratios(rates, to?.rate),
        scaled(times, cpu[1], 2),
        ratios(times, to?.cpu),
      ]),
    );
  }
  console.log('');
}

function line([first = '', ...cells]: readonly string[]): string {
  return `  ${first.padEnd(22)}${cells.map((cell) => cell.padEnd(24)).join('')}`.trimEnd();
}

/** Starts everything, and says which rows do without what is not installed. */
async function makeRows(): Promise<readonly Row[]> {
  for (const name of ['pgbouncer', 'haproxy', 'psql', 'pgbench'])
    if (findProgram(name) === undefined) console.log(`skipped, not installed: ${name}`);
  const certificate = makeCertificate();
  const postgres = await startPostgres({
    conf: { max_connections: '300' },
    hba: [
      'local all all trust',
      'host all carol 127.0.0.1/32 scram-sha-256',
      'host all all 127.0.0.1/32 trust',
    ],
    initSql: [
      'CREATE ROLE alice LOGIN',
      `CREATE ROLE carol LOGIN PASSWORD '${CAROLS_PASSWORD}'`,
      'CREATE TABLE pgbench_branches AS SELECT 1 AS bid',
      'CREATE TABLE pgbench_accounts AS SELECT aid, 1 AS bid, 0 AS abalance ' +
        'FROM generate_series(1, 100000) aid',
      'ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)',
      "CREATE UNLOGGED TABLE bulk AS SELECT i, repeat('x', 90) AS text " +
        `FROM generate_series(1, ${copyRows}) i`,
      'GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO alice, carol',
      'VACUUM ANALYZE',
    ],
  });
  stops.push(() => postgres.close());
  const sender = await startBulkBackend();
  stops.push(() => sender.stop());
  const database = await startFrontEnds(postgres.port, certificate);
  const stub = await startFrontEnds(sender.port, certificate);
  const direct = (port: number): Subject => ({ name: 'direct', target: plain(port, 'trust') });
  const withPostgres = [...database.plain, direct(postgres.port)];
  const tools = findProgram('psql') && findProgram('pgbench');
  return [
    ...(tools ? pgbenchRows(withPostgres, database.tls) : []),
    ...(tools ? copyRowsOf(withPostgres, database.tls) : []),
    ...bulkRows([...stub.plain, direct(sender.port)], stub.tls),
    ...loginRows(
      [...database.plain.filter(({ target }) => target.login === 'token'), direct(postgres.port)],
      tools ? [{ name: 'direct, SCRAM', target: plain(postgres.port, 'password') }] : [],
    ),
  ];
}

function makeCertificate(): ServerCertificate {
  const { cert, key } = makeAuthority().issue({ cn: 'front', san: ['127.0.0.1'] });
  const write = (name: string, text: string, mode: number): string => {
    writeFileSync(join(files, name), text, { mode });
    return join(files, name);
  };
  return { cert: write('cert.pem', cert, 0o644), key: write('key.pem', key, 0o644) };
}

function plain(port: number, login: Target['login']): Target {
  return { port, tls: false, login };
}

/** The front-ends of a backend, as subjects without and with TLS. */
async function startFrontEnds(
  backend: number,
  certificate: ServerCertificate,
): Promise<{ plain: Subject[]; tls: Subject[] }> {
  const url = `postgres://127.0.0.1:${backend}/?sslmode=disable`;
  const options = ['--tls-cert', certificate.cert, '--tls-key', certificate.key];
  const other = flags.against;
  const programs = [
    await startBenchFrontEnd(url, options),
    other !== undefined && {
      ...(await startBenchFrontEnd(url, options, join(resolve(other), 'build/src/cli.js'))),
      name: 'other pgsso',
    },
    await startPgbouncer(backend, certificate),
    await startHaproxy(backend),
  ].filter((program) => program !== undefined && program !== false);
  stops.push(...programs.map(({ stop }) => stop));
  const subject = (program: Program, tls: boolean): Subject => ({
    name: program.name,
    program,
    target: {
      port: program.port,
      tls,
      login: program.name.endsWith('pgsso') ? 'token' : 'trust',
    },
  });
  return {
    plain: programs.map((program) => subject(program, false)),
    tls: programs.flatMap((program) => (program.name === 'haproxy' ? [] : subject(program, true))),
  };
}

function pgbenchRows(subjects: readonly Subject[], overTls: readonly Subject[]): Row[] {
  const row = (name: string, of: readonly Subject[], clients: number): Row => ({
    name,
    reference: 'pgbouncer',
    subjects: of,
    measure: (target) => pgbench(target, clients, transactions, prepared),
    rate: ['transactions/s', 1],
    cpu: per100k,
  });
  return [
    row('small queries, 8 clients', subjects, 8),
    row('small queries, 1 client', subjects, 1),
    row('small queries, 8 TLS clients', overTls, 8),
  ];
}

function copyRowsOf(subjects: readonly Subject[], overTls: readonly Subject[]): Row[] {
  // A row is its number, a tab, the text and a line feed.
  const bytes = copyRows * 98;
  const input = join(files, 'input');
  const lines = Array.from({ length: copyRows }, (_, i) => `${i}\t${'x'.repeat(90)}\n`);
  writeFileSync(input, lines.join(''));
  const row = (name: string, of: readonly Subject[], sql: string, file?: string): Row => ({
    name,
    reference: 'pgbouncer',
    subjects: of,
    measure: (target) => psqlCopy(target, sql, bytes, file),
    rate: ['MB/s', 1e6],
    cpu: perGb,
  });
  const out = 'COPY bulk TO STDOUT';
  return [
    row('COPY out by psql', subjects, out),
    row('COPY out by psql, TLS', overTls, out),
    row('COPY in by psql', subjects, 'COPY bulk FROM STDIN WHERE false', input),
    row('COPY in by psql, TLS', overTls, 'COPY bulk FROM STDIN WHERE false', input),
  ];
}

function bulkRows(subjects: readonly Subject[], overTls: readonly Subject[]): Row[] {
  const row = (name: string, of: readonly Subject[]): Row => ({
    name,
    reference: 'pgbouncer',
    subjects: of,
    measure: (target) => bulk(target, bulkBytes),
    rate: ['MB/s', 1e6],
    cpu: perGb,
  });
  return [row('bulk from a stub', subjects), row('bulk from a stub, TLS', overTls)];
}

function loginRows(subjects: readonly Subject[], scram: readonly Subject[]): Row[] {
  const cpu = ['ms a login', 1e3] as const;
  const times = async (target: Target, clients: number): Promise<number[]> => {
    const each = Math.ceil(logins / clients) * (clients > 1 ? 4 : 1);
    const all = Array.from({ length: clients }, () => loginTimes(target, each));
    return (await Promise.all(all)).flat();
  };
  const rate = ['logins/s', 1] as const;
  return [
    ...scram.map((reference) => ({
      name: 'logins by pgbench -C, 8 clients',
      reference: reference.name,
      subjects: [...subjects, reference],
      measure: (target: Target) => pgbench(target, 8, logins * 4, ['-C']),
      rate,
      cpu,
    })),
    {
      name: 'login, p50 of 1 client',
      reference: 'direct',
      subjects,
      async measure(target) {
        const found = await times(target, 1);
        return { rate: median(found), work: found.length };
      },
      rate: ['ms', 1],
      cpu,
    },
    {
      name: 'login, p99/p50 of 40 clients that reconnect',
      reference: 'direct',
      subjects,
      async measure(target) {
        const found = (await times(target, 40)).sort((left, right) => left - right);
        const p99 = found[Math.floor(found.length * 0.99)] ?? Number.NaN;
        return { rate: p99 / median(found), work: found.length };
      },
      rate: ['p99/p50', 1],
      cpu,
    },
  ];
}

/** The memory of an idle session, with a stub as the backend. */
async function measureMemory(): Promise<{ name: string; kb: number }[]> {
  const stub = await startStubBackend();
  stops.push(() => void stub.server.close());
  const certificate = makeCertificate();
  const found: { name: string; kb: number }[] = [];
  for (const way of ['plain', 'tls'] as const) {
    const started = await startFrontEnds(stub.port, certificate);
    for (const { name, program, target } of started[way]) {
      if (!program) continue;
      progress(`memory: ${name}, ${way}`);
      const kb = await memorySlope(program, () => logIn(target), slopeFrom, slopeTo);
      found.push({ name: `idle session, ${way}: ${name}`, kb });
    }
    for (const subject of started.plain) await subject.program?.stop();
  }
  progress('');
  return found;
}
