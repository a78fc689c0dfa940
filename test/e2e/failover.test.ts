/**
 * A front-end for a primary and a standby: who is let in where, and what happens when a server goes
 * away under running sessions.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import postgres from 'postgres';
import t from 'tap';
import { type FrontEnd, JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';

const hba = ['host all all 127.0.0.1/32 trust'];
const initSql = ['CREATE ROLE alice LOGIN', 'GRANT pg_signal_backend TO alice'];
const [one, two] = await Promise.all([
  startPostgres({ hba, initSql }),
  startPostgres({ hba, initSql }),
]);
t.teardown(() => Promise.all([one.close(), two.close()]));
// A cluster of its own, that would follow a primary if it knew one: all that matters here is what
// it reports.
writeFileSync(join(two.dataDir, 'standby.signal'), '', { mode: 0o666 });
await two.restart();

const hosts = `postgres://127.0.0.1:${one.port},127.0.0.1:${two.port}/?sslmode=disable`;

function config(frontEnd: FrontEnd): pg.ClientConfig {
  return {
    host: '127.0.0.1',
    port: frontEnd.port,
    user: 'alice',
    password: token('alice'),
    database: 'postgres',
    options: JWT_OPTION,
  };
}

/** Logs in; a server that is just starting is asked again, as a person would. */
async function connect(frontEnd: FrontEnd): Promise<pg.Client> {
  for (let tries = 0; ; tries++) {
    const client = new pg.Client(config(frontEnd));
    client.on('error', () => undefined);
    try {
      await client.connect();
      return client;
    } catch (error) {
      if (!(error instanceof pg.DatabaseError && error.code === '57P03') || tries === 100)
        throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

function endOf(client: pg.Client): Promise<void> {
  return new Promise((resolve) => client.once('end', resolve));
}

async function portOf(client: pg.Client): Promise<number> {
  const { rows } = await client.query('SELECT inet_server_port() AS port');
  return rows[0].port;
}

t.test('target_session_attrs picks the server', async (t) => {
  for (const [attribute, port] of [
    ['any', one.port],
    ['primary', one.port],
    ['read-write', one.port],
    ['standby', two.port],
    ['read-only', two.port],
    ['prefer-standby', two.port],
  ] as const) {
    const frontEnd = await startFrontEnd(`${hosts}&target_session_attrs=${attribute}`);
    const client = await connect(frontEnd);
    t.equal(await portOf(client), port, attribute);
    await client.end();
    await frontEnd.close();
  }
});

t.test('a cancel request reaches the server of the session', async (t) => {
  const frontEnd = await startFrontEnd(`${hosts}&target_session_attrs=standby`);
  const sql = postgres({
    ...config(frontEnd),
    user: 'alice',
    password: token('alice'),
    max: 1,
    connection: { options: JWT_OPTION },
  } as never);
  const query = sql`SELECT pg_catalog.pg_sleep(60)`;
  const outcome = query.catch((error: unknown) => error);
  while (
    (
      await two.query(
        "SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND usename = 'alice'",
      )
    ).rowCount === 0
  );
  query.cancel();
  t.match(await outcome, { code: '57014' });
  await sql.end();
  await frontEnd.close();
});

t.test(
  'the primary is killed under 50 sessions: they end, and logins go to the promoted standby',
  async (t) => {
    const frontEnd = await startFrontEnd(`${hosts}&target_session_attrs=primary`, {
      backendAhead: 4,
    });
    const clients = await Promise.all(Array.from({ length: 50 }, () => connect(frontEnd)));
    const ends = clients.map(endOf);
    const busy = clients.map((client) =>
      client.query('SELECT pg_sleep(600)').catch((error: unknown) => error),
    );
    await one.kill();
    // The postmaster is gone; its processes notice at their next wait.
    await Promise.all(ends);
    for (const outcome of await Promise.all(busy)) t.ok(outcome instanceof Error);
    await t.rejects(connect(frontEnd), {
      code: '08001',
      message: 'could not connect to the backend',
    });
    const refused = await frontEnd.event({ event: 'login', outcome: 'refused' });
    // The order is not certain: a connection opened ahead that fails first puts the primary last.
    const reasons = String(refused['reason']).split('; 127.0.0.1:');
    t.equal(reasons.length, 2, 'each host is tried once');
    t.match(refused['reason'], new RegExp(`127\\.0\\.0\\.1:${one.port}: .*`));
    t.match(refused['reason'], new RegExp(`127\\.0\\.0\\.1:${two.port}: .*a standby`));

    await two.query('SELECT pg_promote()');
    const after = await Promise.all(Array.from({ length: 10 }, () => connect(frontEnd)));
    for (const client of after) {
      t.equal(await portOf(client), two.port);
      await client.end();
    }
    await frontEnd.close();
  },
);

t.test(
  'a backend that is restarted: running sessions end, the next login works, opened ahead or not',
  async (t) => {
    for (const backendAhead of [0, 3]) {
      const frontEnd = await startFrontEnd(`postgres://127.0.0.1:${two.port}/?sslmode=disable`, {
        backendAhead,
      });
      const client = await connect(frontEnd);
      const ended = endOf(client);
      await two.restart();
      await ended;
      const next = await connect(frontEnd);
      t.equal(await portOf(next), two.port, `${backendAhead}`);
      await next.end();
      await two.stop();
      await t.rejects(connect(frontEnd), {
        code: '08001',
        message: 'could not connect to the backend',
      });
      await two.restart();
      await (await connect(frontEnd)).end();
      t.pass('after an outage');
      await frontEnd.close();
    }
  },
);
