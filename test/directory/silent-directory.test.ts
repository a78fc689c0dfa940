/**
 * A directory that does not answer: what logins, other users and the end of the process wait for.
 */

import t from 'tap';
import { Directory } from '../../src/directory/directory.ts';
import { unavailable } from '../../src/directory/pool.ts';
import { WaitingRoom } from '../../src/directory/waiting-room.ts';
import { PgError } from '../../src/lib/errors.ts';
import { startProxy } from '../support/faulty-proxy.ts';
import { startPostgres } from '../support/postgres.ts';

// Most of these tests wait for a deadline.
t.jobs = 4;

const database = await startPostgres({
  initSql: [
    'CREATE ROLE directory LOGIN CREATEROLE',
    'CREATE ROLE readers',
    'GRANT readers TO directory WITH ADMIN OPTION',
    'CREATE ROLE alice LOGIN',
    'CREATE ROLE bob LOGIN',
  ],
});
t.teardown(() => database.close());

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function openDirectory() {
  const proxy = await startProxy(database.port);
  const directory = new Directory({
    label: 'proxy',
    host: '127.0.0.1',
    port: proxy.port,
    database: 'postgres',
    user: 'directory',
    password: () => undefined,
    tls: () => undefined,
  });
  const roles = [{ name: 'readers', isListed: true }];
  return {
    directory,
    proxy,
    logIn: (user: string) =>
      directory.prepare({ user, createFor: undefined, roles }, new AbortController().signal).then(
        () => ({ error: undefined }),
        (error: unknown) => ({ error }),
      ),
    async close(): Promise<void> {
      await directory.close();
      proxy.close();
    },
  };
}

/** How a login ends, and how long that takes in ms. */
async function timed(login: Promise<{ error: unknown }>): Promise<{ error: unknown; ms: number }> {
  const begin = performance.now();
  const { error } = await login;
  return { error, ms: performance.now() - begin };
}

t.test('a frozen directory refuses each login after 5 s', { buffered: true }, async (t) => {
  const { proxy, logIn, close } = await openDirectory();
  t.equal((await logIn('alice')).error, undefined);
  proxy.freeze();
  for (const state of ['with an idle connection', 'without one']) {
    // More than there are connections, so that some wait for one.
    const logins = Array.from({ length: 9 }, (_, i) => timed(logIn(`user${i}`)));
    for (const { error, ms } of await Promise.all(logins)) {
      t.match(error, { code: 'directory_unavailable', sqlstate: '57P03' });
      t.ok(ms < 6500, `${state}: ${Math.round(ms)} ms`);
    }
  }
  proxy.thaw();
  t.equal((await logIn('alice')).error, undefined, 'it goes on when the database does');
  await close();
});

t.test(
  'a user whose logins hang at the directory fills at most the share of one user',
  { buffered: true },
  async (t) => {
    const { proxy, logIn, close } = await openDirectory();
    t.equal((await logIn('alice')).error, undefined);
    proxy.freeze();
    const first = Array.from({ length: 10 }, () => timed(logIn('alice')));
    await sleep(2200);
    const flood = await Promise.all(Array.from({ length: 300 }, () => timed(logIn('alice'))));
    t.match(
      flood.map(({ error }) => error),
      flood.map(() => ({
        code: 'directory_unavailable',
        reason: /10 logins of this user wait/,
      })),
    );
    const slowest = Math.max(...flood.map(({ ms }) => ms));
    t.ok(slowest < 1000, `${Math.round(slowest)} ms`);
    const other = timed(logIn('bob'));
    t.match(await Promise.race([other, sleep(300)]), undefined, 'another user is let in');
    await Promise.all([...first, other]);
    await close();
  },
);

t.test('a frozen directory is closed within 5 s', { buffered: true }, async (t) => {
  for (const state of ['idle', 'in use']) {
    const { directory, proxy, logIn, close } = await openDirectory();
    t.equal((await logIn('alice')).error, undefined);
    proxy.freeze();
    const logins = state === 'in use' ? [logIn('alice')] : [];
    await sleep(50);
    const begin = performance.now();
    await directory.close();
    const ms = performance.now() - begin;
    t.ok(ms < 5000, `${state}: ${Math.round(ms)} ms`);
    for (const { error } of await Promise.all(logins))
      t.match(error, { code: 'directory_unavailable' });
    proxy.thaw();
    while (proxy.size > 0) await sleep(10);
    await close();
  }
});

t.test('the waiting room', { buffered: true }, async (t) => {
  const clock = { now: 0 };
  const room = new WaitingRoom(() => clock.now);
  const ends: ((error?: PgError) => void)[] = [];
  const enter = (user: string): Promise<string> =>
    room
      .run(
        user,
        () =>
          new Promise<void>((resolve, reject) => {
            ends.push((error) => (error ? reject(error) : resolve()));
          }),
      )
      .then(
        () => 'served',
        (error: PgError) => error.reason ?? error.code,
      );
  const answers: Promise<string>[] = [];
  for (let i = 0; i < 15; i++) answers.push(enter('alice'));
  t.equal(room.size, 15, 'a burst is let in');
  clock.now = 2001;
  t.match(await enter('alice'), /no answer, and 10 logins of this user/);
  for (let i = 0; i < 85; i++) answers.push(enter(`user${i % 9}`));
  clock.now = 4002;
  t.match(await enter('new'), /100 logins in all/);
  ends[20]?.();
  await answers[20];
  answers.push(enter('new'));
  t.equal(room.size, 100, 'an answer lets others in');
  t.match(await enter('alice'), /of this user/, 'but not those of a user without one');
  ends[0]?.(new PgError({ code: 'directory_refusal', message: 'no' }));
  await answers[0];
  answers.push(enter('alice'));
  t.equal(room.size, 100, 'a refusal by the database is an answer');
  clock.now = 6003;
  ends[1]?.(unavailable('gone'));
  await answers[1];
  t.match(await enter('alice'), /of this user/, 'a failure is none');
  for (const end of ends) end();
  await Promise.all(answers);
  t.equal(room.size, 0);
  answers.push(enter('alice'));
  t.equal(room.size, 1);
  ends.at(-1)?.();
  await Promise.all(answers);
});

t.test('a burst of logins of one user is served in full', async (t) => {
  const { logIn, close } = await openDirectory();
  // More than the share of one user; a loaded core serves these within the 5 s of a login.
  const logins = await Promise.all(Array.from({ length: 40 }, () => logIn('bob')));
  t.strictSame(
    logins.filter(({ error }) => error !== undefined),
    [],
  );
  await close();
});
