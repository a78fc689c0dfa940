/**
 * The faults, as a table: what happens, what is promised then, and how it is measured. Each has
 * processes of its own. docs/reliability.md lists the promises.
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BACKEND } from '../../src/wire/constants.ts';
import { logIn, logInOnce } from '../support/clients.ts';
import { ISSUER, type LogEvent, token } from '../support/front-end.ts';
import { misbehave, startIssuer } from '../support/issuer.ts';
import { password, query, RawClient, startup, tokenStartup } from '../support/raw-client.ts';
import type { ServeProcess } from '../support/serve-process.ts';
import { testKey } from '../support/tokens.ts';
import { Flood, formatMs, Logins, type Outcome, type World, waitFor } from './world.ts';

/** One row. */
export interface Fault {
  readonly name: string;
  readonly fault: string;
  readonly promise: string;
  /** Whether it is part of the short form. */
  readonly isShort?: true;
  run(world: World): Promise<Outcome>;
}

const SYNC = { 'server.jwt_authentication.authorization.enabled': 'true' };
const FETCH = {
  'server.jwt_authentication.jwks_auto_fetch.enabled': 'true',
  'pgsso.allow_insecure_http': 'true',
};

/** How long a drain may take beyond `--drain-timeout`, which is 2 s here. */
const DRAIN_MS = 2000 + 8000;

/** A limit for good logins during a flood, on two shared cores. */
const GOOD_LOGIN_MS = 1000;

/** What a wrong token is, from its first byte to its last. */
const wrongToken = (): Buffer =>
  Buffer.concat([
    tokenStartup({ user: 'alice' }),
    password(token('alice', { iss: 'https://other.example' })),
  ]);

const silentStartup = (): Buffer => startup({ user: 'alice', database: 'postgres' });

async function withFlood(
  flood: Flood,
  work: () => Promise<Logins>,
  limit: number,
): Promise<Outcome> {
  const start = performance.now();
  try {
    await sleep(1000);
    const logins = await work();
    const perSecond = (flood.opened * 1000) / (performance.now() - start);
    const { isKept, measured } = logins.within(limit);
    return { isKept, measured: `${measured}, under ${perSecond.toFixed(0)} a second` };
  } finally {
    flood.stop();
  }
}

/** A pgsso whose directory is reached by a proxy, after some logins that used it. */
async function withDirectory(world: World) {
  const proxy = await world.proxy();
  const directory = world.url(proxy.port, 'keeper', 'postgres');
  const frontEnd = await world.serve({ options: ['--directory', directory], settings: SYNC });
  const jwt = token('alice', { groups: ['readers'] });
  await Promise.all(
    Array.from({ length: 5 }, () =>
      logInOnce({ port: frontEnd.port, user: 'alice', password: jwt }),
    ),
  );
  return { proxy, frontEnd, jwt };
}

/** A pgsso whose settings are in a database behind a proxy. */
async function withSettings(world: World) {
  const proxy = await world.proxy();
  const frontEnd = await world.serve({
    options: ['--settings', world.url(proxy.port, 'keeper', 'settings'), '--admin', 'boss'],
  });
  return { proxy, frontEnd };
}

function isAboutDescriptors(event: LogEvent): boolean {
  return /EMFILE|descriptor|open files/i.test(JSON.stringify(event));
}

async function isReady({ metricsPort }: ServeProcess): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${metricsPort}/readyz`, {
      signal: AbortSignal.timeout(2000),
    });
    await response.text();
    return response.ok;
  } catch {
    return false;
  }
}

export const faults: readonly Fault[] = [
  {
    name: 'settings-frozen-drain',
    fault: 'the database of --settings is frozen, and SIGTERM comes .1 to 12 s later',
    promise: `each of five processes ends with status 0 within ${DRAIN_MS / 1000} s`,
    async run(world) {
      // What the process is waiting for when it is told to end depends on the moment.
      const ends = await Promise.all(
        [100, 1000, 3000, 6000, 12_000].map(async (wait) => {
          const { proxy, frontEnd } = await withSettings(world);
          proxy.freeze();
          await sleep(wait);
          return frontEnd.terminate(30_000);
        }),
      );
      return {
        isKept: ends.every(({ status, ms }) => status === 0 && ms <= DRAIN_MS),
        measured: ends.map(({ status, ms }) => `${status}: ${formatMs(ms)}`).join(', '),
      };
    },
  },
  {
    name: 'settings-frozen-set',
    fault: 'the database of --settings is frozen; three SETs at once, and logins',
    promise: 'each SET ends within 8 s, and logins go on',
    async run(world) {
      const { proxy, frontEnd } = await withSettings(world);
      proxy.freeze();
      const start = performance.now();
      const sets = await Promise.all(
        [1, 2, 3].map(async (seconds) => {
          const client = await logIn({ port: frontEnd.port, user: 'boss', database: 'pgsso' });
          await client
            .query(`SET CLUSTER SETTING pgsso.clock_tolerance = '${seconds}s'`)
            .catch(() => undefined);
          const ms = performance.now() - start;
          await client.end();
          return ms;
        }),
      );
      const logins = await new Logins().run(5, frontEnd.port);
      const slowest = Math.max(...sets);
      return {
        isKept: slowest <= 8500 && logins.within(GOOD_LOGIN_MS).isKept,
        measured: `SET ${sets.map((ms) => formatMs(ms)).join(', ')}; ${logins}`,
      };
    },
  },
  {
    name: 'frozen-route',
    fault: 'one of two routes accepts connections and never answers; 60 logins a second to it',
    promise: `20 of 20 logins to the healthy route succeed, each within ${GOOD_LOGIN_MS} ms`,
    async run(world) {
      const frozen = await world.silentServer();
      const { port } = await world.serve({
        options: ['--route', `frozen=${world.url(frozen)}`, '--max-logins', '200'],
      });
      const login = Buffer.concat([
        tokenStartup({ user: 'bob', database: 'frozen' }),
        password(token('bob')),
      ]);
      const flood = new Flood(port, 60, () => login);
      return withFlood(
        flood,
        async () => {
          await sleep(4000);
          return new Logins().run(20, port);
        },
        GOOD_LOGIN_MS,
      );
    },
  },
  {
    name: 'directory-reset',
    fault: 'the idle connections to the directory are reset',
    promise: 'no login fails',
    isShort: true,
    async run(world) {
      const { proxy, frontEnd, jwt } = await withDirectory(world);
      proxy.reset();
      await sleep(200);
      return (await new Logins().run(7, frontEnd.port, 'alice', jwt)).succeeded();
    },
  },
  {
    name: 'directory-silent',
    fault: 'the idle connections to the directory carry no byte any more',
    promise: 'no login fails, and none takes longer than 8 s',
    async run(world) {
      const { proxy, frontEnd, jwt } = await withDirectory(world);
      proxy.lose();
      await sleep(200);
      return (await new Logins().run(7, frontEnd.port, 'alice', jwt)).within(8000);
    },
  },
  {
    name: 'issuer-away',
    fault: 'the identity provider is away',
    promise: 'the last good keys serve, also after a restart with the same data directory',
    isShort: true,
    async run(world) {
      const issuer = world.closing(await startIssuer([testKey('RS256')]));
      const name = 'server.jwt_authentication.issuers.configuration';
      const settings = { ...FETCH, [name]: issuer.issuer };
      const frontEnd = await world.serve({ settings });
      await waitFor(5000, () => isReady(frontEnd));
      const jwt = token('alice', { iss: issuer.issuer });
      await logInOnce({ port: frontEnd.port, user: 'alice', password: jwt });
      issuer.behaviour = misbehave.away;
      const logins = await new Logins().run(10, frontEnd.port, 'alice', jwt);
      await frontEnd.terminate(10_000);
      const { dataDir } = frontEnd;
      const again = await world.serve({ settings, dataDir });
      return (await logins.run(10, again.port, 'alice', jwt)).succeeded();
    },
  },
  {
    name: 'issuer-hangs',
    fault: 'the userinfo of one issuer never answers; 60 logins a second with its tokens',
    promise: `logins of another issuer succeed, each within ${GOOD_LOGIN_MS} ms`,
    async run(world) {
      const issuer = world.closing(await startIssuer([testKey('RS256')]));
      issuer.document = { userinfo_endpoint: `${issuer.issuer}/userinfo` };
      issuer.behaviour = (request, _response, ordinary) => {
        if (!request.url?.startsWith('/userinfo')) ordinary();
      };
      const issuers = JSON.stringify([ISSUER, issuer.issuer]);
      const { port } = await world.serve({
        options: [
          ...['--directory', world.url(undefined, 'keeper', 'postgres'), '--max-logins', '200'],
        ],
        settings: {
          ...SYNC,
          'pgsso.allow_insecure_http': 'true',
          'server.jwt_authentication.issuers.configuration': issuers,
        },
      });
      const hanging = Buffer.concat([
        tokenStartup({ user: 'bob' }),
        password(token('bob', { iss: issuer.issuer })),
      ]);
      const good = token('alice', { groups: ['readers'] });
      const flood = new Flood(port, 60, () => hanging);
      return withFlood(
        flood,
        async () => {
          await sleep(4000);
          return new Logins().run(20, port, 'alice', good);
        },
        GOOD_LOGIN_MS,
      );
    },
  },
  {
    name: 'no-descriptors',
    fault: 'the process has 128 descriptors, and 200 clients connect',
    promise:
      'a line of the log tells of the failed accepts, and logins succeed within 2 s after the ' +
      'clients left',
    async run(world) {
      const frontEnd = await world.serve({ descriptorLimit: 128 });
      const atStart = frontEnd.events.length;
      const flood = new Flood(frontEnd.port, 400);
      await sleep(600);
      // The settings are read again each second, and that fails too.
      const logged = await waitFor(2000, () =>
        frontEnd.events
          .slice(atStart)
          .some((event) => event['event'] !== 'settings' && isAboutDescriptors(event)),
      );
      flood.stop();
      const recovered = await waitFor(10_000, async () => {
        const { errors } = await new Logins().run(1, frontEnd.port);
        return errors.length === 0;
      });
      return {
        isKept: logged !== undefined && recovered !== undefined && recovered <= 2000,
        measured:
          `line of the log: ${logged === undefined ? 'none' : 'yes'}, ` +
          `logins again after ${formatMs(recovered)}`,
      };
    },
  },
  {
    name: 'log-stalled',
    fault: 'nobody reads the log; 3,000 refused logins with long names',
    promise: 'memory grows by less than 30 MB, and good logins succeed',
    async run(world) {
      const frontEnd = await world.serve({ options: ['--log-level', 'debug'] });
      const name = 'x'.repeat(4000);
      const refuse = async (): Promise<void> => {
        const client = await RawClient.connect(frontEnd.port);
        client.send(
          tokenStartup({ user: name, database: name, application_name: name }),
          password('a.b.c'),
        );
        client.close();
      };
      const wave = async (times: number): Promise<void> => {
        for (let i = 0; i < times / 50; i++) {
          await Promise.all(Array.from({ length: 50 }, refuse));
          await sleep(20);
        }
      };
      // The heap of a new process grows in any case.
      await wave(2000);
      await sleep(1000);
      const before = frontEnd.residentKb();
      frontEnd.child.stderr?.pause();
      await wave(3000);
      await sleep(1000);
      const grown = (frontEnd.residentKb() - before) / 1024;
      const logins = await new Logins().run(5, frontEnd.port);
      frontEnd.child.stderr?.resume();
      return {
        isKept: grown < 30 && logins.within(GOOD_LOGIN_MS).isKept,
        measured: `${grown.toFixed(1)} MB more; ${logins}`,
      };
    },
  },
  {
    name: 'data-directory-deleted',
    fault: 'the data directory is deleted under the running process, and made again',
    promise: "the console's socket comes back within 60 s, and logins go on",
    async run(world) {
      const { port, dataDir } = await world.serve();
      rmSync(dataDir, { recursive: true });
      const logins = await new Logins().run(5, port);
      mkdirSync(dataDir, { mode: 0o700 });
      const back = await waitFor(60_000, () => existsSync(join(dataDir, `.s.PGSQL.${port}`)));
      return {
        isKept: back !== undefined && logins.within(GOOD_LOGIN_MS).isKept,
        measured: `socket: ${formatMs(back)}; ${logins}`,
      };
    },
  },
  {
    name: 'client-takes-nothing',
    fault: 'a client takes no byte any more while a result waits for it (--tcp-user-timeout 2s)',
    promise: 'its session ends within 10 s, and the connection to the backend with it',
    isShort: true,
    async run(world) {
      const { port } = await world.serve({ options: ['--tcp-user-timeout', '2s'] });
      const client = await RawClient.connect(port);
      const name = 'takes_nothing';
      client.send(
        tokenStartup({ user: 'alice', application_name: name }),
        password(token('alice')),
      );
      await client.until(BACKEND.readyForQuery);
      client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"));
      client.channel.socket.pause();
      const ended = await waitFor(20_000, async () => {
        const sql = 'SELECT FROM pg_stat_activity WHERE application_name = $1';
        return (await world.database.query(sql, [name])).rowCount === 0;
      });
      client.close();
      return {
        isKept: ended !== undefined && ended <= 10_000,
        measured: `the backend was free after ${formatMs(ended)}`,
      };
    },
  },
  {
    name: 'silent-connections',
    fault: '1,000 connections a second that say nothing, from one address',
    promise: 'good logins of another address with 50 ms round trip succeed, each within 5 s',
    async run(world) {
      const { port } = await world.serve({ options: ['--max-logins', '500'] });
      const far = await world.proxy(port);
      far.slow(25);
      return withFlood(new Flood(port, 1000), () => new Logins().run(20, far.port), 5000);
    },
  },
  {
    name: 'silent-natives',
    fault: '300 native logins a second that stop at the password prompt, from one address',
    promise: 'native logins of another address succeed, each within 5 s',
    async run(world) {
      await world.database.reload({ hba: ['host all all 127.0.0.1/32 scram-sha-256'] });
      await world.database.query("ALTER ROLE bob PASSWORD 'secret'");
      try {
        const { port } = await world.serve();
        const flood = new Flood(port, 300, silentStartup);
        return await withFlood(flood, () => nativeLogins(port), 5000);
      } finally {
        await world.database.reload({ hba: ['host all all 127.0.0.1/32 trust'] });
      }
    },
  },
  {
    name: 'wrong-tokens',
    fault: '200 wrong tokens a second, from one address',
    promise: `good logins succeed, each within ${GOOD_LOGIN_MS} ms`,
    async run(world) {
      const { port } = await world.serve();
      const wrong = wrongToken();
      return withFlood(
        new Flood(port, 200, () => wrong),
        () => new Logins().run(40, port),
        GOOD_LOGIN_MS,
      );
    },
  },
  {
    name: 'long-options',
    fault: '20 startup packets a second with 9.8 kB of options',
    promise: `good logins succeed, each within ${GOOD_LOGIN_MS} ms`,
    async run(world) {
      const { port } = await world.serve();
      const packet = startup({ user: 'a', options: ' %'.repeat(4900) });
      return withFlood(
        new Flood(port, 20, () => packet),
        () => new Logins().run(40, port),
        GOOD_LOGIN_MS,
      );
    },
  },
  {
    name: 'metrics-held',
    fault: '40 silent connections to the port of the metrics',
    promise: '/readyz answers',
    async run(world) {
      const frontEnd = await world.serve();
      const clients = await Promise.all(
        Array.from({ length: 40 }, () => RawClient.connect(frontEnd.metricsPort)),
      );
      const answered = await waitFor(3000, () => isReady(frontEnd));
      for (const client of clients) client.close();
      return { isKept: answered !== undefined, measured: `after ${formatMs(answered)}` };
    },
  },
  {
    name: 'backend-restart',
    fault: 'the database is killed and started again',
    promise: 'its sessions end at once, and logins succeed within 3 s after it is back',
    isShort: true,
    async run(world) {
      const { port } = await world.serve();
      const clients = await Promise.all(
        Array.from({ length: 10 }, () => logIn({ port, user: 'alice' })),
      );
      const ends = clients.map((client) => new Promise((resolve) => client.once('end', resolve)));
      const killed = performance.now();
      await world.database.kill();
      await Promise.race([Promise.all(ends), sleep(10_000)]);
      const ended = performance.now() - killed;
      await world.database.restart();
      const back = await waitFor(10_000, async () => {
        const { errors } = await new Logins().run(1, port);
        return errors.length === 0;
      });
      return {
        isKept: ended < 5000 && back !== undefined && back <= 3000,
        measured: `sessions ended after ${formatMs(ended)}, logins after ${formatMs(back)}`,
      };
    },
  },
];

async function nativeLogins(port: number): Promise<Logins> {
  const logins = new Logins();
  for (let i = 0; i < 16; i++) {
    try {
      const options = { port, user: 'bob', password: 'secret', isNative: true, timeoutMs: 10_000 };
      logins.times.push(await logInOnce(options));
    } catch (error) {
      logins.errors.push((error as Error).message);
    }
  }
  return logins;
}
