/**
 * Sessions on a real PostgreSQL once the login is done: bulk data, cursors, notifications,
 * replication, cancel requests, and the sudden end of either side.
 */

import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Sql } from 'postgres';
import postgres from 'postgres';
import t from 'tap';
import { BACKEND } from '../../src/wire/constants.ts';
import { JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { password, query, RawClient, tokenStartup } from '../support/raw-client.ts';

const database = await startPostgres({
  initSql: [
    'CREATE ROLE alice LOGIN',
    'CREATE ROLE mover LOGIN REPLICATION',
    'GRANT CREATE ON SCHEMA public TO alice',
    'GRANT pg_signal_backend TO alice',
  ],
});
t.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
const frontEnd = await startFrontEnd(backend, { replication: 'allow' });
t.teardown(() => frontEnd.close());

function open(user = 'alice'): Sql {
  return postgres({
    host: '127.0.0.1',
    port: frontEnd.port,
    user,
    password: token(user),
    database: 'postgres',
    max: 1,
    onnotice: () => undefined,
    connection: { options: JWT_OPTION },
  });
}

function config(): pg.ClientConfig {
  return {
    host: '127.0.0.1',
    port: frontEnd.port,
    user: 'alice',
    password: token('alice'),
    database: 'postgres',
    options: JWT_OPTION,
  };
}

t.test('COPY of 100 MB in and out is the same to the byte', async (t) => {
  const sql = open();
  await sql`CREATE UNLOGGED TABLE bulk (line text)`;
  // Few long rows take less time than many short ones. PostgreSQL compresses still longer ones.
  const line = 'x'.repeat(1900);
  const rows = 53_000;
  const sent = createHash('md5');
  const lines = Readable.from(
    (function* () {
      for (let i = 0; i < rows; i += 1000) {
        const chunk = Array.from({ length: 1000 }, (_, j) => `${i + j} ${line}\n`).join('');
        sent.update(chunk);
        yield chunk;
      }
    })(),
  );
  await pipeline(lines, await sql`COPY bulk FROM STDIN`.writable());
  const received = createHash('md5');
  let bytes = 0;
  for await (const chunk of await sql`COPY bulk TO STDOUT`.readable()) {
    received.update(chunk);
    bytes += chunk.length;
  }
  t.ok(bytes > 100_000_000, `${bytes} bytes`);
  t.equal(received.digest('hex'), sent.digest('hex'));
  await sql.end();
});

t.test('a cursor reads its rows in portions', async (t) => {
  const sql = open();
  let seen = 0;
  for await (const rows of sql`SELECT generate_series(1, 1000) AS n`.cursor(100))
    seen += rows.length;
  t.equal(seen, 1000);
  await sql.end();
});

t.test('NOTIFY reaches a session that listens', async (t) => {
  const listener = new pg.Client(config());
  await listener.connect();
  const notified = new Promise<string | undefined>((resolve) => {
    listener.on('notification', ({ payload }) => resolve(payload));
  });
  await listener.query('LISTEN channel');
  const sender = new pg.Client(config());
  await sender.connect();
  await sender.query("NOTIFY channel, 'hello'");
  t.equal(await notified, 'hello');
  await Promise.all([listener.end(), sender.end()]);
});

t.test('with the replication parameter a walsender answers', async (t) => {
  const client = await RawClient.connect(frontEnd.port);
  client.send(tokenStartup({ user: 'mover', replication: 'database' }), password(token('mover')));
  await client.until(BACKEND.readyForQuery);
  client.send(query('IDENTIFY_SYSTEM'));
  t.equal((await client.until(BACKEND.readyForQuery)).types, 'TDCZ');
  client.close();
});

t.test('a running query is cancelled through the front-end', async (t) => {
  const sql = open();
  const running = sql`SELECT pg_sleep(600)`.execute();
  await waitFor(sleeping);
  running.cancel();
  await t.rejects(running, { code: '57014', message: 'canceling statement due to user request' });
  t.strictSame([...(await sql`SELECT 1 AS one`)], [{ one: 1 }], 'the session goes on');
  await sql.end();
});

t.test('a cancel request with an unknown key cancels nothing', async (t) => {
  const holder = new pg.Client(config());
  await holder.connect();
  await holder.query('SELECT pg_advisory_lock(1)');
  const sql = open();
  const running = sql`SELECT pg_advisory_lock(1), 1 AS one`.execute();
  await waitFor(() => isSeen("wait_event = 'advisory'"));
  const client = await RawClient.connect(frontEnd.port);
  client.send(Buffer.from([0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 1]));
  await client.ended();
  t.ok(await isSeen("wait_event = 'advisory'"), 'the query still waits');
  await holder.end();
  t.match([...(await running)], [{ one: 1 }]);
  await sql.end();
});

t.test('a backend that is killed in the middle of a query ends the session at once', async (t) => {
  const client = new pg.Client(config());
  client.on('error', () => undefined);
  await client.connect();
  const { rows } = await client.query('SELECT pg_backend_pid() AS pid');
  const running = client.query('SELECT pg_sleep(600)').catch((error: unknown) => error);
  await waitFor(sleeping);
  await database.query('SELECT pg_terminate_backend($1)', [rows[0].pid]);
  t.match(await running, { code: '57P01' }, 'its last message arrives');
  t.ok(await frontEnd.event({ event: 'session_end', endedBy: 'backend' }));
});

t.test('a client that is reset in the middle of a COPY leaves no backend behind', async (t) => {
  const client = await RawClient.connect(frontEnd.port);
  client.send(
    tokenStartup({ user: 'alice', application_name: 'killed' }),
    password(token('alice')),
  );
  await client.until(BACKEND.readyForQuery);
  client.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT"));
  await client.message();
  client.channel.socket.resetAndDestroy();
  await waitFor(async () => !(await isSeen("application_name = 'killed'")));
  t.match(await frontEnd.event({ event: 'session_end', applicationName: 'killed' }), {
    endedBy: 'client',
  });
});

t.test(
  'a server that stops ends all its sessions, and the next login works after its restart',
  async (t) => {
    const clients = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const client = await RawClient.connect(frontEnd.port);
        client.send(tokenStartup({ user: 'alice' }), password(token('alice')));
        await client.until(BACKEND.readyForQuery);
        return client;
      }),
    );
    await database.stop('immediate');
    await Promise.all(clients.map((client) => client.closed()));
    await t.rejects(new pg.Client(config()).connect(), { code: '08001' });
    await database.restart();
    const sql = open();
    t.strictSame([...(await sql`SELECT 1 AS one`)], [{ one: 1 }]);
    await sql.end();
  },
);

/** Whether there is a backend of which this is true, a condition on pg_stat_activity. */
async function isSeen(condition: string): Promise<boolean> {
  const { rowCount } = await database.query(`SELECT FROM pg_stat_activity WHERE ${condition}`);
  return rowCount !== 0;
}

function sleeping(): Promise<boolean> {
  return isSeen("wait_event = 'PgSleep'");
}

/** Resolves when the condition is true. The time limit of the file ends a wait in vain. */
async function waitFor(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(10);
}
