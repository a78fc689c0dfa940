/**
 * Rolling restarts behind HAProxy, with the configuration of docs/load-balancing.md: clients that
 * keep connecting notice nothing. `npm run restarts` runs the long form.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t from 'tap';
import { errorText } from '../../src/lib/errors.ts';
import { type FrontEnd, JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';

/** `npm run restarts` asks for the figures of the long form. */
const isLong = process.env['PGSSO_TEST_RESTARTS'] === 'long';
const RESTARTS = isLong ? 6 : 2;
const CLIENTS = isLong ? 12 : 4;

/** The page says that 5 s are enough. */
const DRAIN_DELAY = 5000;

const page = readFileSync(new URL('../../../docs/load-balancing.md', import.meta.url), 'utf8');

/** Ports that stay the same over restarts. */
interface Ports {
  readonly port: number;
  readonly metrics: number;
}

/** A free port, below those that the system gives to clients. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    await new Promise((resolve) => server.close(resolve));
    if (isFree) return port;
  }
}

/** The configuration of the page, with the addresses of this test. */
function configuration(bind: number, nodes: readonly Ports[]): string {
  const [, text = ''] = /```haproxy\n(.*?)```/s.exec(page) ?? [];
  return nodes.reduce(
    (config, { port, metrics }, index) =>
      config.replace(`10.0.0.1${index + 1}:26257 port 9187`, `127.0.0.1:${port} port ${metrics}`),
    text.replace('0.0.0.0:5432', `127.0.0.1:${bind}`),
  );
}

/** Starts HAProxy and gives its checks the time to know the nodes. */
async function startBalancer(config: string): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'pgsso-haproxy-'));
  const file = join(directory, 'haproxy.cfg');
  writeFileSync(file, config);
  const balancer = spawn('haproxy', ['-db', '-f', file], { stdio: 'ignore' });
  t.teardown(async () => {
    balancer.kill('SIGKILL');
    await rm(directory, { recursive: true });
  });
  await sleep(1500);
}

/** Logs in, asks something and leaves, again and again. Returns the number and the failures. */
async function reconnect(port: number, isOver: () => boolean) {
  let logins = 0;
  const failures: string[] = [];
  while (!isOver()) {
    const client = new pg.Client({
      host: '127.0.0.1',
      port,
      user: 'alice',
      password: token('alice'),
      database: 'postgres',
      options: JWT_OPTION,
    });
    client.on('error', () => undefined);
    try {
      await client.connect();
      await client.query('SELECT 1');
      await client.end();
      logins++;
    } catch (error) {
      failures.push(`${new Date().toISOString()} ${errorText(error)}`);
    }
    await sleep(randomInt(isLong ? 20 : 200));
  }
  return { logins, failures };
}

const skip =
  spawnSync('haproxy', ['-v']).status !== 0 && 'haproxy is not installed (apt-get install haproxy)';

const database = await startPostgres({
  hba: ['local all alice trust', 'local all all scram-sha-256'],
  initSql: ['CREATE ROLE alice LOGIN'],
});
t.teardown(() => database.close());
const socket = encodeURIComponent(database.socketDir);
const backend = `postgres:///?host=${socket}&port=${database.port}`;

/** Two nodes, and the port for a balancer in front of them. */
async function startNodes() {
  const [bind = 0, a = 0, b = 0, c = 0, d = 0] = await Promise.all(
    Array.from({ length: 5 }, freePort),
  );
  const ports: readonly Ports[] = [
    { port: a, metrics: b },
    { port: c, metrics: d },
  ];
  const start = ({ port, metrics }: Ports): Promise<FrontEnd> =>
    startFrontEnd(backend, {
      listen: [{ host: '127.0.0.1', port }],
      metricsListen: { host: '127.0.0.1', port: metrics },
      drainDelay: DRAIN_DELAY,
      drainTimeout: 10_000,
    });
  const nodes = await Promise.all(ports.map(start));
  t.teardown(() => Promise.all(nodes.map((node) => node.close())));
  const restart = async (index: number): Promise<void> => {
    await nodes[index]?.close();
    const own = ports[index];
    if (own) nodes[index] = await start(own);
  };
  return { bind, ports, nodes, restart };
}

t.test(
  'rolling restarts lost logins: behind haproxy with /readyz checks they lose none',
  { skip, timeout: 300_000 },
  async (t) => {
    const { bind, ports, nodes, restart } = await startNodes();
    await startBalancer(configuration(bind, ports));
    let isOver = false;
    const clients = Array.from({ length: CLIENTS }, () => reconnect(bind, () => isOver));
    for (let restarts = 0; restarts < RESTARTS; restarts++) {
      await restart(restarts % 2);
      // Until the balancer sends clients here again.
      await sleep(2500);
    }
    isOver = true;
    const outcomes = await Promise.all(clients);
    const logins = outcomes.reduce((sum, outcome) => sum + outcome.logins, 0);
    t.strictSame(
      outcomes.flatMap(({ failures }) => failures),
      [],
      `${logins} logins of ${CLIENTS} clients during ${RESTARTS} restarts`,
    );
    t.ok(logins > 50, `${logins} logins`);
    for (const { events } of nodes) t.ok(events.some(({ outcome }) => outcome === 'accepted'));
  },
);

t.test('pgsql-check and a TCP check work as well', { skip }, async (t) => {
  const { bind, ports } = await startNodes();
  for (const check of ['option pgsql-check user health', '']) {
    const address = await freePort();
    const config = configuration(bind, ports)
      .replace('option httpchk GET /readyz', check)
      .replace(/http-check .*/, '')
      .replace(`127.0.0.1:${bind}`, `127.0.0.1:${address}`)
      .replaceAll(/ port \d+/g, '');
    await startBalancer(config);
    let isOver = false;
    const logins = reconnect(address, () => isOver);
    await sleep(1000);
    isOver = true;
    const outcome = await logins;
    t.strictSame(outcome.failures, [], check);
    t.ok(outcome.logins > 0, `${outcome.logins} logins`);
  }
});
