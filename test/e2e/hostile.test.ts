/**
 * Attacks on a whole front-end, by clients without a login and by users who want more rights than
 * they have. Each test repeats an attack that once worked.
 */

import pg from 'pg';
import t from 'tap';
import { BACKEND } from '../../src/wire/constants.ts';
import { formatMessage } from '../../src/wire/messages.ts';
import { JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { password, RawClient, startup, tokenStartup } from '../support/raw-client.ts';

const database = await startPostgres({
  conf: { max_connections: '120' },
  hba: ['local all +natives scram-sha-256', 'local all all trust'],
  initSql: [
    'CREATE ROLE natives',
    "CREATE ROLE nat LOGIN PASSWORD 'secret' IN ROLE natives",
    'CREATE ROLE alice LOGIN',
    'CREATE ROLE owner LOGIN CREATEDB',
    'CREATE ROLE boss LOGIN SUPERUSER',
    'CREATE DATABASE od OWNER owner',
    'CREATE ROLE chief LOGIN SUPERUSER',
    'ALTER ROLE chief SET role = alice',
    'ALTER ROLE chief IN DATABASE od SET role = alice',
  ],
});
t.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;

function login(port: number, user: string, options: pg.ClientConfig = {}): pg.Client {
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    user,
    password: token(user),
    database: 'postgres',
    options: JWT_OPTION,
    ...options,
  });
  client.on('error', () => undefined);
  return client;
}

/** A client at the native password prompt. With an answer, its SCRAM exchange has begun. */
async function atPrompt(port: number, answer?: Buffer): Promise<RawClient> {
  const client = await RawClient.connect(port);
  client.send(startup({ user: 'nat', database: 'postgres' }));
  if (answer) {
    await client.until(BACKEND.authentication);
    client.send(answer);
  }
  return client;
}

const scramBegun = formatMessage(
  'p',
  Buffer.from('SCRAM-SHA-256\0'),
  Buffer.from([0, 0, 0, 32]),
  Buffer.from('n,,n=,r=abcdefghijklmnopqrstuvwx'),
);

t.test('a database whose owner sets a role for it does not let a superuser in', async (t) => {
  const frontEnd = await startFrontEnd(backend);
  t.teardown(() => frontEnd.close());
  const owner = login(frontEnd.port, 'owner', { database: 'od' });
  await owner.connect();
  await owner.query('ALTER DATABASE od SET role = owner');
  const { rows } = await owner.query('SELECT current_user AS who');
  t.strictSame(rows, [{ who: 'owner' }]);
  await owner.end();
  for (const name of ['od', 'postgres']) {
    await t.rejects(
      login(frontEnd.port, 'boss', { database: name }).connect(),
      { code: '28000', message: 'JWT authentication: invalid identity' },
      name,
    );
  }
  const lenient = await startFrontEnd(backend, { superusers: 'allow' });
  t.teardown(() => lenient.close());
  const boss = login(lenient.port, 'boss', { database: 'od' });
  await boss.connect();
  await boss.end();
});

t.test('a role that is set for a superuser does not let the superuser in', async (t) => {
  const frontEnd = await startFrontEnd(backend);
  t.teardown(() => frontEnd.close());
  for (const name of ['od', 'postgres']) {
    await t.rejects(
      login(frontEnd.port, 'chief', { database: name }).connect(),
      { code: '28000', message: 'JWT authentication: invalid identity' },
      name,
    );
  }
});

t.test(
  'clients at the native prompt take neither the places of sessions nor all backend connections',
  async (t) => {
    const frontEnd = await startFrontEnd(backend, { maxSessions: 5 });
    t.teardown(() => frontEnd.close());
    // 50 are at the prompt and 40 wait. The native login is the next one in line. It gets its
    // place in the first round in which clients that do not answer make room, after two seconds.
    const strangers = await Promise.all(Array.from({ length: 90 }, () => atPrompt(frontEnd.port)));
    const alice = login(frontEnd.port, 'alice');
    await alice.connect();
    const { rows } = await alice.query(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE backend_type = 'client backend'",
    );
    t.ok(rows[0].n < 60, `${rows[0].n} connections`);
    await alice.end();
    const nat = login(frontEnd.port, 'nat', { password: 'secret', options: '' });
    await nat.connect();
    t.pass('a native login that answers gets in: a client that does not answer makes room');
    await nat.end();
    for (const stranger of strangers) stranger.close();
  },
);

t.test('logins to a database without a route take no place from sessions', async (t) => {
  const frontEnd = await startFrontEnd(undefined, {
    routes: [`postgres=${backend}`],
    maxSessions: 1,
  });
  t.teardown(() => frontEnd.close());
  for (let i = 0; i < 3; i++)
    await t.rejects(login(frontEnd.port, 'alice', { database: 'nowhere' }).connect(), {
      code: '3D000',
    });
  const alice = login(frontEnd.port, 'alice');
  await alice.connect();
  await alice.end();
});

t.test('logins that have only begun SCRAM make room for others', async (t) => {
  const frontEnd = await startFrontEnd(backend, { maxLogins: 10 });
  t.teardown(() => frontEnd.close());
  const strangers = await Promise.all(
    Array.from({ length: 10 }, () => atPrompt(frontEnd.port, scramBegun)),
  );
  const alice = login(frontEnd.port, 'alice');
  await alice.connect();
  await alice.end();
  for (const stranger of strangers) stranger.close();
});

t.test(
  'clients that are refused and do not close do not keep others from logging in',
  async (t) => {
    const frontEnd = await startFrontEnd(backend, { maxLogins: 10 });
    t.teardown(() => frontEnd.close());
    const strangers = await Promise.all(
      Array.from({ length: 30 }, async () => {
        const client = await RawClient.connect(frontEnd.port);
        client.send(tokenStartup({ user: 'alice' }), password('junk'));
        return client;
      }),
    );
    const alice = login(frontEnd.port, 'alice');
    await alice.connect();
    await alice.end();
    for (const stranger of strangers) stranger.close();
  },
);

t.test('a client that sends nothing does not delay a shutdown', async (t) => {
  const frontEnd = await startFrontEnd(backend, { drainTimeout: 3_600_000 });
  const silent = await RawClient.connect(frontEnd.port);
  const prompted = await RawClient.connect(frontEnd.port);
  prompted.send(tokenStartup({ user: 'alice' }));
  await prompted.message();
  await frontEnd.close();
  await Promise.all([silent.closed(), prompted.closed()]);
  t.pass('drained');
});

t.test('the text in a startup packet is cut before it is logged', async (t) => {
  const frontEnd = await startFrontEnd(backend);
  t.teardown(() => frontEnd.close());
  const long = '\u0001'.repeat(3000);
  const client = await RawClient.connect(frontEnd.port);
  client.send(tokenStartup({ user: long, database: long, application_name: long }), password(''));
  await client.error();
  client.close();
  const event = await frontEnd.event({ event: 'login', outcome: 'refused' });
  t.ok(JSON.stringify(event).length < 5000, `${JSON.stringify(event).length} bytes`);
});
