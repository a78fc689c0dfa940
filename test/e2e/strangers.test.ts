/**
 * What strangers can do before a login: silent connections, silent native logins, wrong passwords
 * without end. None of it keeps others out.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t from 'tap';
import { BACKEND } from '../../src/wire/constants.ts';
import { JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { password, RawClient, startup, tokenStartup } from '../support/raw-client.ts';

/** Where the flood comes from, and where good clients do. */
const STRANGER = '127.0.0.66';
const GOOD = '127.0.0.1';

const database = await startPostgres({
  conf: { max_connections: '120', max_wal_senders: '2' },
  hba: ['local all nat scram-sha-256', 'local replication all trust', 'local all all trust'],
  initSql: [
    "CREATE ROLE nat LOGIN PASSWORD 'secret'",
    'CREATE ROLE alice LOGIN',
    'CREATE ROLE copier LOGIN REPLICATION',
  ],
});
t.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;

/** Keeps opening connections that send these bytes and nothing more. Returns what ends it. */
function flood(port: number, bytes: Buffer, perSecond: number): () => Promise<void> {
  const open: RawClient[] = [];
  let isOver = false;
  const running = (async () => {
    while (!isOver) {
      const client = await RawClient.connect(port, STRANGER).catch(() => undefined);
      if (client) {
        client.send(bytes);
        open.push(client);
      }
      await sleep(1000 / perSecond);
    }
  })();
  return async () => {
    isOver = true;
    await running;
    for (const client of open) client.close();
  };
}

async function query(port: number, options: pg.ClientConfig): Promise<string> {
  const client = new pg.Client({ host: '127.0.0.1', port, database: 'postgres', ...options });
  client.on('error', () => undefined);
  await client.connect();
  const { rows } = await client.query('SELECT session_user AS who');
  await client.end();
  return rows[0].who;
}

t.test('a flood of silent connections from one address evicts itself', async (t) => {
  const frontEnd = await startFrontEnd(backend, { maxLogins: 20 });
  t.teardown(() => frontEnd.close());
  const silent = [];
  for (let i = 0; i < 60; i++) silent.push(await RawClient.connect(frontEnd.port, STRANGER));
  // A client at some distance: each of its steps takes time, and the flood goes on meanwhile.
  const client = await RawClient.connect(frontEnd.port, GOOD);
  for (let i = 0; i < 40; i++) silent.push(await RawClient.connect(frontEnd.port, STRANGER));
  client.send(tokenStartup({ user: 'alice' }));
  await client.until(BACKEND.authentication);
  for (let i = 0; i < 40; i++) silent.push(await RawClient.connect(frontEnd.port, STRANGER));
  client.send(password(token('alice')));
  const { last } = await client.until(BACKEND.readyForQuery);
  t.ok(last, 'the good client is logged in');
  client.close();
  for (const one of silent) one.close();
  t.match(await frontEnd.event({ event: 'logins_dropped' }), { count: Number });
});

t.test('--max-logins-per-address bounds one address and no other', async (t) => {
  const frontEnd = await startFrontEnd(backend, { maxLogins: 20, maxLoginsPerAddress: 2 });
  t.teardown(() => frontEnd.close());
  const first = await RawClient.connect(frontEnd.port, STRANGER);
  await RawClient.connect(frontEnd.port, STRANGER);
  const third = await RawClient.connect(frontEnd.port, STRANGER);
  await first.closed();
  t.equal(
    await query(frontEnd.port, { user: 'alice', password: token('alice'), options: JWT_OPTION }),
    'alice',
  );
  third.close();
});

t.test('silent native startups of one address lock no native login out', async (t) => {
  const frontEnd = await startFrontEnd(backend);
  t.teardown(() => frontEnd.close());
  const stop = flood(frontEnd.port, startup({ user: 'nat', database: 'postgres' }), 100);
  // More than the places of native logins are taken before the first good login.
  await sleep(1500);
  const logins = await Promise.all(
    Array.from({ length: 16 }, () => query(frontEnd.port, { user: 'nat', password: 'secret' })),
  );
  t.strictSame(logins, Array(16).fill('nat'), 'none of them was closed without a word');
  await stop();
});

t.test('refusals of one address are held back more and more, its good logins never', async (t) => {
  const settings = {
    'pgsso.throttle.exempt': '',
    'pgsso.throttle.first_delay': '10ms',
    'pgsso.throttle.longest_delay': '50ms',
  };
  const frontEnd = await startFrontEnd(backend, { settings });
  t.teardown(() => frontEnd.close());
  // Two kinds of refusals: the log sums up more than ten of one kind in a second.
  const refuse = async (at: number): Promise<unknown> => {
    const password = at % 2 ? token('bob') : token('alice', { aud: 'others' });
    const wrong = { user: 'alice', password, options: JWT_OPTION };
    return query(frontEnd.port, wrong).catch((error) => error.code);
  };
  for (let i = 0; i < 14; i++) t.equal(await refuse(i), '28000');
  const good = { user: 'alice', password: token('alice'), options: JWT_OPTION };
  t.equal(await query(frontEnd.port, good), 'alice');
  const refused = frontEnd.events.filter(({ outcome }) => outcome === 'refused');
  t.strictSame(
    refused.map(({ delayedMs = 0 }) => delayedMs),
    [...Array(10).fill(0), 10, 20, 40, 50],
  );
  t.match(await frontEnd.event({ outcome: 'accepted' }), { delayedMs: undefined });
});

t.test('a token user with REPLICATION copies no cluster', async (t) => {
  const frontEnd = await startFrontEnd(backend);
  t.teardown(() => frontEnd.close());
  for (const replication of ['true', 'database', 'on', 'YES', '1']) {
    const client = await RawClient.connect(frontEnd.port);
    client.send(tokenStartup({ user: 'copier', replication }));
    t.match(
      await client.error(),
      { sqlstate: '28000', message: 'a login with a token may not ask for replication' },
      replication,
    );
  }
  for (const replication of ['off', 'false', 'no', '0']) {
    const client = await RawClient.connect(frontEnd.port);
    client.send(tokenStartup({ user: 'copier', replication }), password(token('copier')));
    t.ok((await client.until(BACKEND.readyForQuery)).last, replication);
    client.close();
  }
  const allowing = await startFrontEnd(backend, { replication: 'allow' });
  t.teardown(() => allowing.close());
  const client = await RawClient.connect(allowing.port);
  client.send(tokenStartup({ user: 'copier', replication: 'true' }), password(token('copier')));
  t.ok((await client.until(BACKEND.readyForQuery)).last);
  client.close();
});
