/** The operations of the load, as a table. One that fails throws. */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { type ClientOptions, logIn, logInOnce, sendCancel } from '../support/clients.ts';
import { token } from '../support/front-end.ts';
import type { SoakWorld } from './soak-run.ts';

/** One row. */
export interface LoadOperation {
  readonly name: string;
  /** How many clients repeat it. */
  readonly clients: number;
  /** Between two repetitions of one client, on average. */
  readonly pauseMs: number;
  run(world: SoakWorld): Promise<void>;
}

const USERS = ['alice', 'bob', 'carol'];

/** A login of a user with a token of the issuer. */
function asUser({ frontEnd, issuer, random }: SoakWorld, name?: string): ClientOptions {
  const user = name ?? random.pick(USERS);
  const password = token(user, { iss: issuer.issuer });
  return { port: frontEnd.port, user, password, timeoutMs: 20_000 };
}

/** Passwords that no token login accepts. */
function badPassword({ issuer, random }: SoakWorld): string {
  const iss = issuer.issuer;
  const good = token('alice', { iss });
  return random.pick([
    'not a token',
    'a.b.c',
    token('alice'),
    token('alice', { iss, exp: 1_000_000_000 }),
    token('alice', { iss, aud: 'others' }),
    `${good.slice(0, -8)}AAAAAAAA`,
  ]);
}

async function withClient(
  options: ClientOptions,
  work: (client: pg.Client) => Promise<void>,
): Promise<void> {
  const client = await logIn(options);
  try {
    await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

export const operations: readonly LoadOperation[] = [
  {
    name: 'token login',
    clients: 4,
    pauseMs: 100,
    run: async (world) => void (await logInOnce(asUser(world))),
  },
  {
    name: 'native login',
    clients: 2,
    pauseMs: 300,
    run: async ({ frontEnd: { port } }) =>
      void (await logInOnce({ port, user: 'native', password: 'secret', isNative: true })),
  },
  {
    name: 'refused login',
    clients: 2,
    pauseMs: 500,
    async run(world) {
      try {
        await logInOnce({ ...asUser(world, 'alice'), password: badPassword(world) });
      } catch (error) {
        if ((error as { code?: string }).code === '28000') return;
        throw error;
      }
      throw new Error('a bad token was let in');
    },
  },
  {
    name: 'short session',
    clients: 2,
    pauseMs: 200,
    run: (world) =>
      withClient(asUser(world), async (client) => {
        await client.query('BEGIN');
        await client.query('SELECT count(*) FROM pg_class WHERE relname LIKE $1', ['pg_%']);
        await client.query('SELECT 1/0').catch(() => undefined);
        await client.query('ROLLBACK');
      }),
  },
  {
    name: 'long session',
    clients: 6,
    pauseMs: 500,
    run: (world) =>
      withClient(asUser(world), async (client) => {
        const { signal } = world.over;
        for (let rest = 5 + world.random.below(20); rest > 0 && !signal.aborted; rest--) {
          await client.query("SELECT repeat('x', 1000) FROM generate_series(1, 500)");
          await sleep(200 + world.random.below(300));
        }
      }),
  },
  {
    name: 'cancel request',
    clients: 1,
    pauseMs: 1000,
    run: (world) =>
      withClient(asUser(world), async (client) => {
        const running = client.query('SELECT pg_sleep(30)').then(
          () => undefined,
          (error: { code?: string }) => error,
        );
        await sleep(50);
        await sendCancel(world.frontEnd.port, client);
        const error = await running;
        if (error?.code !== '57014') throw error ?? new Error('the query was not cancelled');
      }),
  },
  {
    name: 'console',
    clients: 1,
    pauseMs: 1000,
    run: (world) =>
      withClient({ ...asUser(world, 'admin_one'), database: 'pgsso' }, async (client) => {
        await client.query('SHOW SESSIONS');
        await client.query('SHOW STATS');
        const seconds = 1 + world.random.below(30);
        await client.query(`SET CLUSTER SETTING pgsso.clock_tolerance = '${seconds}s'`);
        await client.query('SHOW CLUSTER SETTING HISTORY').catch(() => undefined);
      }),
  },
  {
    name: 'metrics',
    clients: 1,
    pauseMs: 1000,
    async run({ frontEnd: { metricsPort } }) {
      for (const path of ['metrics', 'healthz', 'readyz']) {
        const response = await fetch(`http://127.0.0.1:${metricsPort}/${path}`);
        await response.text();
        if (!response.ok) throw new Error(`/${path}: ${response.status}`);
      }
    },
  },
];
