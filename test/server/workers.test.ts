/**
 * A node of several worker processes, from outside: clients and operators meet one pgsso. The
 * system gives a connection to either worker, so the tests open connections until both have some.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import pg from 'pg';
import type { Test } from 'tap';
import t from 'tap';
import { BACKEND } from '../../src/wire/constants.ts';
import { formatMessage } from '../../src/wire/messages.ts';
import { formatCancel } from '../../src/wire/startup.ts';
import {
  authentication,
  parameterStatus,
  readyForQuery,
  startFake,
} from '../backend/fake-backend.ts';
import { backend as nowhere, run } from '../cli/command-line.ts';
import { makeAuthority } from '../support/certificates.ts';
import { logIn } from '../support/clients.ts';
import { AUDIENCE, token } from '../support/front-end.ts';
import { DISCOVERY, JWKS, startIssuer } from '../support/issuer.ts';
import { startPostgres } from '../support/postgres.ts';
import { password, RawClient, startup, tokenStartup } from '../support/raw-client.ts';
import {
  type ServeProcess,
  type ServeProcessOptions,
  startServe,
} from '../support/serve-process.ts';
import { testKey } from '../support/tokens.ts';

const database = await startPostgres({
  initSql: ['CREATE ROLE alice LOGIN', 'CREATE ROLE bob LOGIN', 'CREATE ROLE vera LOGIN'],
});
t.teardown(() => database.close());
// Each has a node of its own, and waits most of the time.
t.jobs = 4;
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;

const issuer = await startIssuer([testKey('RS256')]);
t.teardown(() => issuer.close());

/** A token of the issuer whose keys are fetched. */
const mine = (user: string): string => token(user, { iss: issuer.issuer });

/** Connections until both workers have one: that a worker gets none of so many is no accident. */
const ENOUGH = 60;

/** Waits for a condition. */
async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 30_000; !(await holds()); await sleep(20))
    if (performance.now() > deadline) throw new Error(`never: ${what}`);
}

async function start(
  t: Test,
  { options = [], ...more }: ServeProcessOptions = {},
): Promise<ServeProcess> {
  const node = await startServe({
    options: ['--backend', backend, '--workers', '2', ...options],
    ...more,
  });
  t.teardown(() => node.close());
  return node;
}

/** Runs a statement as the owner of the data directory. */
async function own({ dataDir, port }: ServeProcess, sql: string) {
  const client = new pg.Client({ host: dataDir, port, database: 'pgsso', user: 'root' });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

async function stats(node: ServeProcess): Promise<Record<string, string>> {
  const rows = await own(node, 'SHOW STATS');
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
}

async function metric({ metricsPort }: ServeProcess, name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.split(' ')[1],
  );
}

/** The sessions by their worker: the numbers of one worker are odd, those of the other even. */
async function byWorker(node: ServeProcess): Promise<readonly [number[], number[]]> {
  const rows = await own(node, 'SHOW SESSIONS');
  const ids = rows.map(({ id }) => Number(id));
  return [ids.filter((id) => id % 2 === 1), ids.filter((id) => id % 2 === 0)];
}

/** Opens sessions until both workers have some. */
async function inBoth(node: ServeProcess): Promise<pg.Client[]> {
  const clients: pg.Client[] = [];
  while (clients.length < ENOUGH) {
    clients.push(await logIn({ port: node.port, user: 'alice', password: mine('alice') }));
    if ((await byWorker(node)).every(({ length }) => length > 0)) return clients;
  }
  throw new Error('one worker got all connections');
}

const endAll = (clients: readonly pg.Client[]): Promise<unknown> =>
  Promise.allSettled(clients.map((client) => client.end()));

/** Whether a process runs: one that has ended may wait for somebody to ask how. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** The process IDs of the workers that run, the newest last. */
const running = (node: ServeProcess): number[] => pids(node).filter(isRunning);

/** The process IDs of the workers that have been ready, the newest last. */
function pids({ events }: ServeProcess): number[] {
  return events.filter(({ outcome }) => outcome === 'ready').map(({ pid }) => Number(pid));
}

/** The SQLSTATE of a refused login; `accepted` if it is not refused. */
async function outcomeOf({ port }: ServeProcess, password = mine('alice')): Promise<string> {
  return logIn({ port, user: 'alice', password }).then(
    async (client) => {
      await client.end();
      return 'accepted';
    },
    ({ code }) => code,
  );
}

t.test('clients and operators meet one node', { buffered: true }, async (t) => {
  issuer.headers = { 'cache-control': 'max-age=3600' };
  const authority = makeAuthority();
  const certificate = (cn: string) => authority.issue({ cn, san: ['127.0.0.1'], usage: 'server' });
  const first = certificate('first');
  const files = t.testdir({ crt: first.cert, key: first.key });
  const node = await start(t, {
    options: [
      ...['--tls-cert', join(files, 'crt'), '--tls-key', join(files, 'key')],
      ...['--admin', 'alice', '--viewer', 'vera'],
    ],
    settings: {
      'server.jwt_authentication.issuers.configuration': issuer.issuer,
      'server.jwt_authentication.jwks': '{"keys":[]}',
      'server.jwt_authentication.jwks_auto_fetch.enabled': 'true',
    },
  });
  const { port } = node;

  await t.test('keys are fetched once for the node', async (t) => {
    const workers = new Set<unknown>();
    await until('both have decided', async () => {
      const logins = await Promise.all(Array.from({ length: 8 }, () => outcomeOf(node)));
      t.strictSame(new Set(logins), new Set(['accepted']));
      for (const { event, worker } of node.events) if (event === 'login') workers.add(worker);
      return workers.size === 2;
    });
    t.strictSame([issuer.count(DISCOVERY), issuer.count(JWKS)], [1, 1]);
    // A flood of unknown key IDs causes one fetch, whichever workers it comes to.
    const unknown = (n: number): string => {
      const [, ...rest] = mine('alice').split('.');
      const header = JSON.stringify({ alg: 'RS256', kid: `unknown-${n}` });
      return [Buffer.from(header).toString('base64url'), ...rest].join('.');
    };
    const flood = await Promise.all(
      Array.from({ length: 20 }, (_, n) => outcomeOf(node, unknown(n))),
    );
    t.strictSame(new Set(flood), new Set(['28000']));
    t.equal(issuer.count(JWKS), 2);
    const fetches = `pgsso_key_fetches_total{issuer="${issuer.issuer}",outcome="ok"}`;
    t.equal(await metric(node, fetches), 2);
  });

  await t.test('SIGHUP reaches every worker', async (t) => {
    const second = certificate('second');
    await writeFile(join(files, 'new'), second.cert);
    await rename(join(files, 'new'), join(files, 'crt'));
    await writeFile(join(files, 'key'), second.key);
    node.child.kill('SIGHUP');
    const read = (): number => node.events.filter(({ event }) => event === 'reload').length;
    await until('all have read it again', () => read() === 3);
    const seen = new Set<string>();
    for (let n = 0; n < 12; n++) {
      const raw = await RawClient.connectDirectTls(port, {
        ...{ host: '127.0.0.1', ca: authority.cert },
        ALPNProtocols: ['postgresql'],
      });
      seen.add(String((raw.channel.socket as TLSSocket).getPeerCertificate().subject.CN));
      raw.close();
    }
    t.strictSame([...seen], ['second']);
  });

  await t.test('a change by SET is in force in every worker when it returns', async (t) => {
    const outcomes = new Set<string>();
    const workers = new Set<unknown>();
    for (const audience of ['elsewhere', AUDIENCE, 'elsewhere', AUDIENCE]) {
      await own(node, `SET CLUSTER SETTING server.jwt_authentication.audience = '${audience}'`);
      const logins = await Promise.all(Array.from({ length: 8 }, () => outcomeOf(node)));
      for (const outcome of logins) outcomes.add(`${audience}: ${outcome}`);
    }
    t.strictSame([...outcomes], ['elsewhere: 28000', `${AUDIENCE}: accepted`]);
    for (const { event, worker } of node.events) if (event === 'login') workers.add(worker);
    t.equal(workers.size, 2, 'both have decided on logins');
  });

  await t.test('SHOW SESSIONS, CANCEL SESSION, SHOW STATS and metrics are of both', async (t) => {
    const before = await stats(node);
    const clients = await inBoth(node);
    const [odd, even] = await byWorker(node);
    t.equal(odd.length + even.length, clients.length);
    t.equal((await stats(node))['sessions.running'], String(clients.length));
    t.equal(await metric(node, 'pgsso_sessions'), clients.length);
    t.equal(await metric(node, 'pgsso_workers'), 2);
    t.equal(await metric(node, 'pgsso_workers_ended_total'), 0);
    for (const id of [odd[0], even[0]]) await own(node, `CANCEL SESSION ${id}`);
    await t.rejects(own(node, 'CANCEL SESSION 999999'), { code: '42704' });
    await until(
      'both are gone',
      async () => (await byWorker(node)).flat().length === clients.length - 2,
    );
    await endAll(clients);
    const after = await stats(node);
    const accepted =
      Number(after['logins_accepted.token']) - Number(before['logins_accepted.token']);
    t.equal(accepted, clients.length);
    const counted = 'pgsso_logins_total{method="token",outcome="accepted",code="",fault=""}';
    t.equal(await metric(node, counted), Number(after['logins_accepted.token']));
  });

  await t.test('the console is the same through every worker, with its rights', async (t) => {
    const through = async (user: string, sql: string) => {
      const client = await logIn({ port, user, database: 'pgsso', password: mine(user) });
      try {
        return (await client.query(sql)).rows;
      } finally {
        await client.end();
      }
    };
    for (let n = 0; n < 6; n++) {
      const name = 'server.jwt_authentication.client.timeout';
      await through('alice', `SET CLUSTER SETTING ${name} = '${n + 1}s'`);
      t.match(await through('vera', `SHOW CLUSTER SETTING ${name}`), [
        { [name]: { seconds: n + 1 } },
      ]);
      await t.rejects(through('vera', `SET CLUSTER SETTING ${name} = '9s'`), { code: '42501' });
      await t.rejects(through('bob', 'SHOW STATS'), { code: '42501' });
    }
    const history = await own(node, 'SHOW CLUSTER SETTING HISTORY');
    t.match(history[0], { changed_by: 'alice' });
    // A worker of an earlier start would be the owner, if its secret were not looked at.
    const forged = new RawClient(connect(join(node.dataDir, `.s.PGSQL.${port}`)));
    forged.send(startup({ user: 'vera', database: 'pgsso', 'pgsso.secret': '0'.repeat(64) }));
    t.match(await forged.error(), { sqlstate: '42501' });
    forged.close();
  });

  await t.test('a cancel request reaches the session of another worker', async (t) => {
    const clients = await inBoth(node);
    for (const client of clients.slice(-6)) {
      const slept = client.query('SELECT pg_sleep(60)').then(
        () => 'slept',
        ({ code }) => code,
      );
      const { processID, secretKey } = client as pg.Client & Record<string, number>;
      const key = Buffer.alloc(8);
      key.writeInt32BE(Number(processID), 0);
      key.writeInt32BE(Number(secretKey), 4);
      // The query may not have begun when the request comes.
      let outcome: unknown;
      void slept.then((how) => {
        outcome = how;
      });
      await until('cancelled', async () => {
        const raw = await RawClient.connect(port);
        raw.send(formatCancel(key));
        await raw.ended();
        raw.close();
        return outcome !== undefined;
      });
      t.equal(outcome, '57014');
    }
    await endAll(clients);
  });

  await t.test('a worker that crashes is replaced, and the others go on', async (t) => {
    const clients = await inBoth(node);
    const workers = await byWorker(node);
    const before = await stats(node);
    const [victim = 0] = pids(node);
    process.kill(victim, 'SIGKILL');
    await until('replaced', () => pids(node).length === 3);
    const alive = await Promise.all(
      clients.map((client) =>
        client.query('SELECT 1').then(
          () => true,
          () => false,
        ),
      ),
    );
    const after = await byWorker(node);
    const [gone, kept] = after[0].length === 0 ? [0, 1] : [1, 0];
    t.strictSame([after[gone], after[kept]], [[], workers[kept]]);
    t.equal(alive.filter(Boolean).length, workers[kept]?.length);
    t.match(
      node.events.filter(({ event, outcome }) => event === 'worker' && outcome === 'ended'),
      [{ level: 'error', pid: victim, reason: 'SIGKILL' }],
    );
    t.equal(await metric(node, 'pgsso_workers_ended_total'), 1);
    const counts = await stats(node);
    t.ok(Number(counts['logins_accepted.token']) >= Number(before['logins_accepted.token']));
    await endAll(clients);
    const again = await inBoth(node);
    const [odd, even] = await byWorker(node);
    t.notOk(
      [...odd, ...even].some((id) => workers.flat().includes(id)),
      'no number comes twice',
    );
    await endAll(again);
  });

  await t.test('a worker that does not take over a change is ended', async (t) => {
    const [frozen = 0] = running(node);
    process.kill(frozen, 'SIGSTOP');
    const set = own(node, "SET CLUSTER SETTING server.jwt_authentication.audience = 'elsewhere'");
    await t.resolves(set);
    const behind = () => node.events.filter(({ outcome }) => outcome === 'behind');
    await until('logged', () => behind().length > 0);
    t.match(behind(), [{ event: 'worker', pid: frozen }]);
    await until('replaced', () => pids(node).length === 4);
    const logins = await Promise.all(Array.from({ length: 8 }, () => outcomeOf(node)));
    t.strictSame(new Set(logins), new Set(['28000']));
  });

  await t.test(
    'SIGTERM to all processes drains them in time, also one that is frozen',
    async (t) => {
      const workers = running(node);
      const [frozen = 0] = workers;
      process.kill(frozen, 'SIGSTOP');
      for (const pid of workers) process.kill(pid, 'SIGTERM');
      const { status, ms } = await node.terminate(20_000);
      t.equal(status, 0);
      t.ok(ms < 2000 + 5000, `${Math.round(ms)} ms`);
      await until('no worker is left', () => !workers.some(isRunning));
    },
  );
});

t.test('limits are those of the node', { buffered: true }, async (t) => {
  const node = await start(t, {
    options: ['--max-sessions', '5', '--max-logins', '6', '--max-logins-per-address', '4'],
    settings: {
      'pgsso.throttle.exempt': '127.0.0.1',
      'pgsso.throttle.address_refusals': '10',
      'pgsso.throttle.user_refusals': '0',
      'pgsso.throttle.first_delay': '1ms',
      'pgsso.throttle.longest_delay': '1ms',
    },
  });
  const { port } = node;

  await t.test('--max-sessions', async (t) => {
    for (let round = 0; round < 3; round++) {
      const clients: pg.Client[] = [];
      for (let n = 0; n < 5; n++) clients.push(await logIn({ port, user: 'alice' }));
      for (let n = 0; n < 4; n++)
        t.equal(await outcomeOf(node, token('alice')), '53300', 'however often it is tried');
      await clients.pop()?.end();
      await until('a place is free', async () => {
        return (await outcomeOf(node, token('alice'))) === 'accepted';
      });
      await endAll(clients);
      await until('all are free', async () => (await byWorker(node)).flat().length === 0);
    }
  });

  await t.test('--max-logins and --max-logins-per-address', async (t) => {
    const open: RawClient[] = [];
    let closed = 0;
    const arrive = async (address: string): Promise<void> => {
      const raw = await RawClient.connect(port, address);
      void raw.closed().then(() => closed++);
      open.push(raw);
    };
    for (let n = 0; n < 10; n++) await arrive('127.0.0.1');
    await until('four of an address stay', () => closed === 6);
    for (let n = 0; n < 4; n++) await arrive('127.0.0.2');
    await until('six in all stay', () => closed === 8);
    await sleep(100);
    t.equal(closed, 8, 'and no more are closed');
    for (const raw of open) raw.close();
  });

  await t.test('the throttle', async (t) => {
    const refuse = async (): Promise<void> => {
      const raw = await RawClient.connect(port, '127.0.0.3');
      raw.send(tokenStartup({ user: 'alice' }));
      await raw.until(BACKEND.authentication);
      raw.send(password('a.b.c'));
      await raw.error();
      raw.close();
    };
    let told = 0;
    // The question for figures goes behind what the workers tell each other.
    while ((await stats(node))['refusals.delayed'] === '0') {
      await refuse();
      told++;
    }
    // A process alone delays the eleventh. Two that did not talk would tell up to twenty at once.
    t.ok(told === 11 || told === 12, `the refusal ${told} was the first to be delayed`);
  });
});

t.test(
  "a backend cannot replay another route's cancel key through another worker",
  { buffered: true },
  async (t) => {
    const key = '0000000100000002';
    const cancels: string[][] = [[], []];
    const backends = await Promise.all(
      cancels.map((seen) =>
        startFake(async (peer) => {
          const packet = (await peer.packet()).toString('hex');
          if (packet.startsWith('04d2162e')) return void seen.push(packet);
          await peer.send(
            authentication(0),
            parameterStatus('is_superuser', 'off'),
            formatMessage('K', Buffer.from(key, 'hex')),
            readyForQuery,
          );
          await peer.closed();
        }),
      ),
    );
    t.teardown(() => backends.map((fake) => fake.close()));
    const [sales, billing] = backends.map(
      (fake) => `postgres://127.0.0.1:${fake.port}/?sslmode=disable`,
    );
    const node = await startServe({
      options: ['--route', `sales=${sales}`, '--route', `billing=${billing}`, '--workers', '2'],
    });
    t.teardown(() => node.close());
    const client = await logIn({ port: node.port, user: 'alice', database: 'sales' });
    for (let n = 0; n < 12; n++) {
      const raw = await RawClient.connect(node.port);
      raw.send(formatCancel(Buffer.from(key, 'hex')));
      await raw.ended();
      raw.close();
    }
    t.strictSame(
      cancels.map(({ length }) => length),
      [12, 0],
    );
    void client.end().catch(() => undefined);

    // Without the primary process there is nobody who could change the settings of a worker.
    const workers = pids(node);
    node.child.kill('SIGKILL');
    await until('the workers have ended', () => workers.every((pid) => !isRunning(pid)));
  },
);

t.test('what cannot be used ends the start with one line', { buffered: true }, async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.teardown(() => taken.close());
  const { port } = taken.address() as AddressInfo;
  const options = ['--backend', nowhere, '--backend-auth', 'trust', '--workers', '2'];
  const serve = (...more: string[]) => run(['serve', ...options, '--max-sessions', '9', ...more]);
  const [used, wrong] = await Promise.all([
    serve('--data-dir', 'used', '--listen', `127.0.0.1:${port}`),
    serve('--data-dir', 'wrong', '--listen', '0.0.0.0:0'),
  ]);
  t.match(used, {
    status: 1,
    stderr: /^pgsso: cannot listen on 127\.0\.0\.1:\d+: [^\n]*EADDRINUSE[^\n]*\n$/,
  });
  t.match(wrong, { status: 2, stderr: /^pgsso: --listen 0\.0\.0\.0:0 requires TLS: [^\n]*\n$/ });
});
