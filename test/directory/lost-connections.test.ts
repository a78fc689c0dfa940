/** Connections to the directory that were lost while nobody used them. */
import { setMaxListeners } from 'node:events';
import t from 'tap';
import { DirectoryPool } from '../../src/directory/pool.ts';
import { startProxy } from '../support/faulty-proxy.ts';
import { startPostgres } from '../support/postgres.ts';

const database = await startPostgres();
t.teardown(() => database.stop());
await database.query('CREATE ROLE directory LOGIN CREATEROLE');

const proxy = await startProxy(database.port);
t.teardown(() => proxy.close());
const { port } = proxy;

const clock = { now: 0 };
const pool = new DirectoryPool(
  {
    label: 'proxy',
    host: '127.0.0.1',
    port,
    database: 'postgres',
    user: 'directory',
    password: () => undefined,
    tls: () => undefined,
  },
  () => clock.now,
);
t.teardown(() => pool.close());

const { signal } = new AbortController();
setMaxListeners(0, signal);
const read = (): Promise<number> =>
  pool.read('', async ({ client }) => (await client.query('SELECT 1 AS one')).rows[0].one, signal);

/** Leaves five idle connections in the pool. */
async function fill(): Promise<void> {
  const held = Array.from({ length: 5 }, () =>
    pool.read('', async ({ client }) => client.query('SELECT pg_sleep(0.1)'), signal),
  );
  await Promise.all(held);
}

t.test('idle connections were reset: no login notices', async (t) => {
  await fill();
  proxy.reset();
  const results = await Promise.all(Array.from({ length: 7 }, read));
  t.strictSame(results, Array(7).fill(1));
});

t.test('the server ended the idle connections: no login notices', async (t) => {
  await fill();
  await database.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'directory'",
  );
  const results = await Promise.all(Array.from({ length: 7 }, read));
  t.strictSame(results, Array(7).fill(1));
});

t.test('connections went silent just after they were used: no read failed', async (t) => {
  await fill();
  proxy.lose();
  t.strictSame(await Promise.all(Array.from({ length: 7 }, () => read())), Array(7).fill(1));
});

t.test('idle connections went silent: they are found within a second', async (t) => {
  await fill();
  // Connections that are opened from now on work.
  proxy.lose();
  clock.now += 5001;
  const reading = Promise.all(
    Array.from({ length: 7 }, async () => {
      const result = read();
      return result;
    }),
  );
  t.strictSame(await reading, Array(7).fill(1));
});
