/**
 * `pgsso connect` before a pgsso with TLS and a real PostgreSQL, with a driver that knows nothing
 * of tokens.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t, { type Test } from 'tap';
import { LocalListener, type LocalListenerOptions } from '../../src/client/connect.ts';
import { TokenSource } from '../../src/client/token-source.ts';
import { openUpstream } from '../../src/client/upstream.ts';
import { JsonClient } from '../../src/http/json-client.ts';
import { makeAuthority } from '../support/certificates.ts';
import { sendCancel } from '../support/clients.ts';
import { type FrontEnd, startFrontEnd } from '../support/front-end.ts';
import { SERVICE, startPeopleProvider } from '../support/people-provider.ts';
import { startPostgres } from '../support/postgres.ts';
import { startup as formatStartup } from '../support/raw-client.ts';
import { newUser } from './world.ts';

const AUDIENCE = 'urn:databases';

/** Seconds. A test can wait for the end, and half of it is longer than a login takes. */
const LIFETIME = 6;

const files = mkdtempSync(join(tmpdir(), 'pgsso-connect-'));
t.teardown(() => rmSync(files, { recursive: true, force: true }));
const authority = makeAuthority();
const { cert, key } = authority.issue({ cn: 'localhost', san: ['localhost'], usage: 'server' });
const [ca, tlsCert, tlsKey] = [join(files, 'ca'), join(files, 'cert'), join(files, 'key')];
writeFileSync(ca, authority.cert);
writeFileSync(tlsCert, cert);
writeFileSync(tlsKey, key, { mode: 0o600 });

const provider = await startPeopleProvider({ audience: AUDIENCE, lifetime: LIFETIME });
t.teardown(() => provider.stop());
const database = await startPostgres({
  initSql: [`CREATE ROLE ${SERVICE.id} LOGIN`, 'CREATE ROLE bob LOGIN'],
});
t.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
const startUpstream = (port = 0): Promise<FrontEnd> =>
  startFrontEnd(backend, {
    listen: [{ host: '127.0.0.1', port }],
    clientTls: 'require',
    drainTimeout: 100,
    tlsCert,
    tlsKey,
    settings: {
      'server.jwt_authentication.issuers.configuration': provider.issuer,
      'server.jwt_authentication.audience': AUDIENCE,
      'server.jwt_authentication.jwks': '{"keys":[]}',
      'server.jwt_authentication.jwks_auto_fetch.enabled': 'true',
    },
  });
let frontEnd = await startUpstream();
t.teardown(() => frontEnd.close());
const upstreamPort = frontEnd.port;
const url = `postgres://localhost:${upstreamPort}/postgres?sslrootcert=${encodeURIComponent(ca)}`;

const http = new JsonClient({});
t.teardown(() => http.close());
const source = new TokenSource({
  environment: {},
  client: {
    issuer: provider.issuer,
    clientId: SERVICE.id,
    clientSecret: SERVICE.secret,
    audience: AUDIENCE,
  },
  useToken: 'access_token',
  state: join(files, 'state'),
  fetch: http.fetch,
  loginCommand: 'run "pgsso login"',
  tell: () => undefined,
  now: Date.now,
});

async function listen(t: Test, options: Partial<LocalListenerOptions> = {}) {
  const told: string[] = [];
  const listener = await LocalListener.open({
    address: { host: '127.0.0.1', port: 0 },
    upstream: await openUpstream(url),
    source,
    user: undefined,
    otherUsers: 'refuse',
    tell: (line) => told.push(line),
    ...options,
  });
  t.teardown(() => listener.close());
  return { listener, told, ...listener.place };
}

/** Logs in as an old program does: with a user, and with nothing to prove it. */
async function client(where: { host: string; port: number }, more: pg.ClientConfig = {}) {
  const { host, port } = where;
  const opened = new pg.Client({ host, port, user: SERVICE.id, database: 'postgres', ...more });
  opened.on('error', () => undefined);
  await opened.connect();
  return opened;
}

const grants = (): number => provider.requests.get('/token client_credentials') ?? 0;

t.test('fifty programs log in while tokens expire, and each gets a fresh one', async (t) => {
  const where = await listen(t);
  const before = grants();
  const { expiresAt = 0 } = await source.get(new AbortController().signal);
  const clients: pg.Client[] = [];
  // Some come before the first token ends, and some after it.
  while (clients.length < 50 || Date.now() < expiresAt + 1000) {
    const some = await Promise.all(Array.from({ length: 10 }, () => client(where)));
    if (clients.length < 50) clients.push(...some);
    else await Promise.all(some.map((each) => each.end()));
    await sleep(100);
  }
  t.ok(grants() >= before + 2);
  const users = await Promise.all(
    clients.map(async (each) => (await each.query('SELECT current_user')).rows[0].current_user),
  );
  t.strictSame([...new Set(users)], [SERVICE.id], 'sessions outlive their token');
  t.strictSame(where.told, []);
  t.equal(frontEnd.events.filter(({ outcome }) => outcome === 'refused').length, 0);
  await Promise.all(clients.map((each) => each.end()));
});

t.test(
  'user, database and settings of the program arrive; --user comes before its own',
  async (t) => {
    const where = await listen(t, { user: SERVICE.id });
    const gui = await client(where, {
      user: 'whoever',
      options: '-c geqo=off --search_path=a',
      application_name: 'gui',
    });
    const { rows } = await gui.query(
      "SELECT current_user, current_setting('geqo') geqo, current_setting('search_path') path, " +
        "current_setting('application_name') name",
    );
    t.match(rows[0], { current_user: SERVICE.id, geqo: 'off', path: 'a', name: 'gui' });
    const sleep = gui.query('SELECT pg_sleep(60)').catch((error: Error) => error);
    await sendCancel(where.port, gui);
    t.match(await sleep, { code: '57014' }, 'a cancel request finds its session');
    await gui.end();
  },
);

t.test("a refusal is the server's own, and a token that cannot be had is explained", async (t) => {
  const where = await listen(t);
  await t.rejects(client(where, { user: 'bob' }), {
    code: '28000',
    message: 'JWT authentication: invalid principal',
  });
  const without = await listen(t, {
    source: {
      get: async () => {
        throw new Error('run "pgsso login"');
      },
    },
  });
  await t.rejects(client(without), {
    message: 'pgsso connect has no token for this login',
    detail: 'run "pgsso login"',
  });
  t.match(without.told, [/no token for this login; run "pgsso login"/]);
});

t.test('the token goes to no server but the one that the certificate is for', async (t) => {
  const strange = `postgres://127.0.0.1:${upstreamPort}?sslrootcert=${encodeURIComponent(ca)}`;
  const where = await listen(t, { upstream: await openUpstream(strange) });
  await t.rejects(client(where), { code: '08001', detail: /127\.0\.0\.1.*certificate/ });
  const plain = `postgres://127.0.0.1:${database.port}`;
  const direct = await listen(t, { upstream: await openUpstream(plain) });
  await t.rejects(client(direct), 'PostgreSQL itself never asks for a token');
});

t.test('a Unix socket is this user’s alone, from its first moment on', async (t) => {
  const folder = join(files, 'socket');
  const where = await listen(t, { address: { folder } });
  t.equal(statSync(folder).mode & 0o777, 0o700);
  t.equal(statSync(join(folder, '.s.PGSQL.5432')).mode & 0o777, 0o600);
  const opened = await client(where);
  await opened.end();
  await t.rejects(listen(t, { address: { folder } }), { message: /--listen: .*EADDRINUSE/ });
  const path = join(files, 'dead', '.s.PGSQL.5432');
  mkdirSync(join(files, 'dead'), { mode: 0o700 });
  const listening = `require('net').createServer().listen('${path}', `;
  const script = `${listening}() => process.kill(process.pid, 9))`;
  spawnSync(process.execPath, ['-e', script]);
  t.ok(existsSync(path), 'a process that was killed has left its socket');
  const again = await client(await listen(t, { address: { folder: join(files, 'dead') } }));
  await again.end();
});

t.test('the user at the other end is found over IPv6 too', async (t) => {
  const where = await listen(t, { address: { host: '::1', port: 0 } }).catch(() => undefined);
  if (!where) return t.comment('this system has no IPv6');
  const opened = await client(where);
  await opened.end();
});

t.test(
  'another user of this machine is refused, also one who does not wait for the answer',
  { skip: process.getuid?.() === 0 && process.platform === 'linux' ? false : 'not root on Linux' },
  async (t) => {
    const where = await listen(t);
    const logins = frontEnd.events.length;
    const startup = `Buffer.from('${formatStartup({ user: SERVICE.id }).toString('hex')}', 'hex')`;
    const answer = await asNobody(
      `const s = require('net').connect(${where.port}, '127.0.0.1');
       s.write(${startup}); s.on('data', (d) => process.stdout.write(d));`,
    );
    t.match(answer, /28000.*another user of this machine/s);
    await asNobody(
      `const s = require('net').connect(${where.port}, '127.0.0.1', () => {
         s.write(${startup}); s.destroy(); });`,
    );
    t.match(where.told, ['another user of this machine tried to connect and was refused']);
    t.equal(frontEnd.events.length, logins, 'nothing went upstream');
  },
);

t.test('an upstream that restarts is a clear error, and then works again', async (t) => {
  const where = await listen(t);
  const first = await client(where);
  const ended = new Promise((resolve) => first.once('end', resolve));
  await frontEnd.close();
  await ended;
  await t.rejects(client(where), { code: '08001', detail: /localhost:\d+: .*ECONNREFUSED/ });
  frontEnd = await startUpstream(upstreamPort);
  const second = await client(where);
  t.match((await second.query('SELECT 1 AS one')).rows, [{ one: 1 }]);
  await second.end();
});

t.test('the command says how GUIs connect, and ends when it is asked to', async (t) => {
  const user = newUser();
  writeFileSync(join(user.home, 'secret'), SERVICE.secret, { mode: 0o600 });
  const command = user.start(
    [
      ...['connect', '--listen', '127.0.0.1:0', '--url', url, '--client-id', SERVICE.id],
      ...['--issuer', provider.issuer, '--audience', AUDIENCE, '--client-secret-file', 'secret'],
    ],
    {},
  );
  const port = Number(await command.says(/DBeaver, DataGrip, pgAdmin: host 127.0.0.1, port (\d+)/));
  const opened = await client({ host: '127.0.0.1', port });
  command.child.kill('SIGTERM');
  await command.says(/1 sessions go on/);
  t.match((await opened.query('SELECT 1 AS one')).rows, [{ one: 1 }]);
  await opened.end();
  t.match(await command.end(), { status: 0, stdout: '', stderr: /ready on/ });
  t.notMatch(command.output.stderr, /eyJ|not:so/, 'no secret');
});

/** Runs a script as the user nobody. Returns what it printed. */
async function asNobody(script: string): Promise<string> {
  const [uid, gid] = [65_534, 65_534];
  const child = spawn(process.execPath, ['-e', script], { uid, gid, cwd: '/', env: {} });
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  await once(child, 'close');
  return output;
}
