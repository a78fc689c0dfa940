/**
 * The end of a process: what is promised to clients, and that nothing which is frozen holds it up.
 */
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t from 'tap';
import { BACKEND } from '../../src/wire/constants.ts';
import { files, ready } from '../cli/command-line.ts';
import { makeAuthority } from '../support/certificates.ts';
import { startProxy } from '../support/faulty-proxy.ts';
import { type FrontEnd, ISSUER, JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { password, query, RawClient, startup, tokenStartup } from '../support/raw-client.ts';

const database = await startPostgres({
  initSql: [
    'CREATE ROLE alice LOGIN',
    'CREATE ROLE keeper LOGIN CREATEROLE',
    'CREATE ROLE settings LOGIN',
    'CREATE DATABASE settings OWNER settings',
  ],
});
t.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;

const shuttingDown = {
  severity: 'FATAL',
  sqlstate: '57P03',
  message: 'the database system is shutting down',
};

/** How long it takes, in ms. */
async function timeOf(work: Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work;
  return performance.now() - started;
}

/** The status of /readyz. */
async function readiness({ metricsPort }: FrontEnd): Promise<number> {
  return (await fetch(`http://127.0.0.1:${metricsPort}/readyz`)).status;
}

function client(port: number): pg.Client {
  const made = new pg.Client({
    host: '127.0.0.1',
    port,
    user: 'alice',
    password: token('alice'),
    database: 'postgres',
    options: JWT_OPTION,
  });
  made.on('error', () => undefined);
  return made;
}

/** A process with a drain timeout of a second, whose settings are in a database behind a proxy. */
async function startProcess(settingsPort: number, name: string, env: NodeJS.ProcessEnv = {}) {
  const { child, log } = await ready(['serve'], {
    PGSSO_LISTEN: '127.0.0.1:0',
    PGSSO_BACKEND: backend,
    PGSSO_BACKEND_AUTH: 'trust',
    PGSSO_DATA_DIR: join(files, name),
    PGSSO_DRAIN_TIMEOUT: '1s',
    PGSSO_SETTINGS: databaseUrl('settings', settingsPort, 'settings'),
    ...env,
  });
  t.teardown(() => child.kill('SIGKILL'));
  const port = Number(/127\.0\.0\.1:(\d+)"\]/.exec(log())?.[1]);
  return { child, log, port };
}

function databaseUrl(user: string, port: number, name: string): string {
  return `postgres://${user}@127.0.0.1:${port}/${name}?sslmode=disable`;
}

t.test('SIGTERM hung for ever when the database of --settings was frozen', async (t) => {
  const settings = await startProxy(database.port);
  t.teardown(() => settings.close());
  const { child, log } = await startProcess(settings.port, 'frozen-settings');
  // No statement is under way, so no time-out of one ends the wait.
  settings.freeze();
  child.kill('SIGTERM');
  const exit = once(child, 'exit');
  const time = await timeOf(exit);
  t.strictSame(await exit, [0, null]);
  t.ok(time < 5000, `${Math.round(time)} ms`);
  t.match(log(), /"msg":"stopped"/);
});

t.test('a drain ends in time, whatever is frozen', async (t) => {
  const settings = await startProxy(database.port);
  const directory = await startProxy(database.port);
  const issuer = await startProxy(database.port);
  issuer.freeze();
  t.teardown(() => [settings, directory, issuer].map((proxy) => proxy.close()));
  const iss = `http://127.0.0.1:${issuer.port}`;
  const { child, log, port } = await startProcess(settings.port, 'frozen', {
    PGSSO_DIRECTORY: databaseUrl('keeper', directory.port, 'postgres'),
    PGSSO_SET_SERVER_JWT_AUTHENTICATION_ENABLED: 'true',
    PGSSO_SET_SERVER_JWT_AUTHENTICATION_ISSUERS_CONFIGURATION: iss,
    PGSSO_SET_SERVER_JWT_AUTHENTICATION_AUDIENCE: 'databases',
    PGSSO_SET_SERVER_JWT_AUTHENTICATION_JWKS_AUTO_FETCH_ENABLED: 'true',
  });
  // A login waits for the keys of its issuer.
  const login = await RawClient.connect(port);
  login.send(tokenStartup({ user: 'alice' }));
  await login.until(BACKEND.authentication);
  login.send(password(token('alice', { iss })));
  settings.freeze();
  directory.freeze();
  child.kill('SIGTERM');
  const exit = once(child, 'exit');
  const time = await timeOf(exit);
  t.strictSame(await exit, [0, null]);
  t.ok(time < 6000, `${Math.round(time)} ms`);
  t.match(log(), /"msg":"stopped"/);
  login.close();
});

t.test('a client that does not read does not hold up a drain', async (t) => {
  const frontEnd = await startFrontEnd(backend, { drainTimeout: 300 });
  t.teardown(() => frontEnd.close());
  const reader = await RawClient.connect(frontEnd.port);
  reader.send(tokenStartup({ user: 'alice' }));
  await reader.until(BACKEND.authentication);
  reader.send(password(token('alice')));
  await reader.until(BACKEND.readyForQuery);
  reader.send(query("SELECT repeat('x', 100000000)"));
  reader.channel.socket.pause();
  await sleep(200);
  const time = await timeOf(frontEnd.drain());
  t.ok(time < 5300, `${Math.round(time)} ms`);
  await frontEnd.event({ event: 'session_end', endedBy: 'drain' });
  reader.close();
});

t.test('an operator at the socket of the console held up the end: it is told 57P01', async (t) => {
  const frontEnd = await startFrontEnd(backend);
  t.teardown(() => frontEnd.close());
  const operator = new pg.Client({
    host: frontEnd.dataDir,
    port: frontEnd.port,
    database: 'pgsso',
    user: 'root',
  });
  const told = new Promise((resolve) => operator.on('error', resolve));
  await operator.connect();
  const time = await timeOf(frontEnd.drain());
  t.ok(time < 1000, `${Math.round(time)} ms`);
  t.match(await told, { code: '57P01' });
  t.notOk(frontEnd.events.find(({ resource }) => resource !== undefined));
});

t.test(
  'unfinished logins were closed in silence: they are told 57P03, in plain text or in TLS',
  async (t) => {
    const authority = makeAuthority();
    const { cert, key } = authority.issue({ cn: 'door', san: ['127.0.0.1'], usage: 'server' });
    const pem = t.testdir({ 'door.crt': cert, 'door.key': key });
    const frontEnd = await startFrontEnd(backend, {
      tlsCert: join(pem, 'door.crt'),
      tlsKey: join(pem, 'door.key'),
    });
    t.teardown(() => frontEnd.close());
    const trust = { host: '127.0.0.1', ca: authority.cert, ALPNProtocols: ['postgresql'] };

    const atPrompt = await RawClient.connect(frontEnd.port);
    atPrompt.send(tokenStartup({ user: 'alice' }));
    await atPrompt.until(BACKEND.authentication);
    const silent = await RawClient.connect(frontEnd.port);
    const encrypted = await RawClient.connectTls(frontEnd.port, trust);
    const silentInTls = await RawClient.connectTls(frontEnd.port, trust);
    const slow = await RawClient.connect(frontEnd.port);

    const drained = frontEnd.drain();
    t.match(await atPrompt.error(), shuttingDown);
    encrypted.send(startup({ user: 'alice', database: 'postgres' }));
    t.match(await encrypted.error(), shuttingDown, 'behind its startup packet');
    // A client in the middle of its requests is not told before it can understand.
    slow.send(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]));
    t.equal(await slow.byte(), 0x53, 'S');
    t.match(await silent.error(), shuttingDown, 'after a moment without a startup packet');
    t.match(await silentInTls.error(), shuttingDown);
    for (const client of [atPrompt, encrypted, silent, silentInTls, slow]) client.close();
    const time = await timeOf(drained);
    t.ok(time < 2000, `${Math.round(time)} ms`);
    await frontEnd.event({ event: 'login', outcome: 'refused', code: 'cannot_connect_now' });
  },
);

t.test('--drain-delay: unready at once, and logins are taken until it is over', async (t) => {
  const frontEnd = await startFrontEnd(backend, {
    drainDelay: 1000,
    metricsListen: { host: '127.0.0.1', port: 0 },
  });
  t.teardown(() => frontEnd.close());
  t.equal(await readiness(frontEnd), 200);
  const started = performance.now();
  const drained = frontEnd.drain();
  t.equal(await readiness(frontEnd), 503);
  const late = client(frontEnd.port);
  await late.connect();
  t.match((await late.query('SELECT current_user AS user')).rows, [{ user: 'alice' }]);
  await late.end();
  await drained;
  t.ok(performance.now() - started >= 1000);
  await t.rejects(client(frontEnd.port).connect(), { code: 'ECONNREFUSED' });
});

t.test('connections in the queue of the system were reset when it was closed', async (t) => {
  const frontEnd = await startFrontEnd(backend);
  t.teardown(() => frontEnd.close());
  // The event loop is held while they connect: all are in the queue when the drain begins.
  const clients = Array.from({ length: 8 }, () => RawClient.connect(frontEnd.port));
  await new Promise(process.nextTick);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  const drained = frontEnd.drain();
  const outcomes = await Promise.all(
    clients.map(async (connecting) => {
      const raw = await connecting;
      raw.send(tokenStartup({ user: 'alice' }));
      const { sqlstate } = await raw.error();
      raw.close();
      return sqlstate;
    }),
  );
  t.strictSame(outcomes, Array(8).fill('57P03'));
  await drained;
});

t.test('SIGHUP during a drain, and two at once, break nothing', async (t) => {
  const { child, log } = await ready(['serve'], {
    PGSSO_LISTEN: '127.0.0.1:0',
    PGSSO_BACKEND: backend,
    PGSSO_BACKEND_AUTH: 'trust',
    PGSSO_DATA_DIR: join(files, 'hangups'),
    PGSSO_DIRECTORY: `postgres://keeper@127.0.0.1:${database.port}/postgres?sslmode=disable`,
    PGSSO_DRAIN_DELAY: '300ms',
    PGSSO_SET_SERVER_JWT_AUTHENTICATION_ISSUERS_CONFIGURATION: ISSUER,
  });
  t.teardown(() => child.kill('SIGKILL'));
  const exit = once(child, 'exit');
  child.kill('SIGHUP');
  child.kill('SIGHUP');
  while (!log().includes('read again')) await sleep(10);
  child.kill('SIGTERM');
  while (!log().includes('draining')) await sleep(10);
  // Hang-ups to the very end, also while everything is being closed.
  while (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGHUP');
    await sleep(2);
  }
  t.strictSame(await exit, [0, null]);
  t.match(log(), /"msg":"stopped"/);
});

t.test('a reload that is asked for while everything is being closed opens nothing', async (t) => {
  const frontEnd = await startFrontEnd(backend, {
    directory: `postgres://keeper@127.0.0.1:${database.port}/postgres?sslmode=disable`,
  });
  await Promise.all([frontEnd.reload(), frontEnd.reload(), frontEnd.drain(), frontEnd.reload()]);
  await frontEnd.reload();
  t.equal(frontEnd.events.filter(({ event }) => event === 'reload').length, 3);
  await frontEnd.close();
});
