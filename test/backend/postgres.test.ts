/** Logins at a real PostgreSQL, with TLS and without. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import type { Test } from 'tap';
import t from 'tap';
import { allHosts, forwardCancel } from '../../src/backend/cancel.ts';
import { connectAs } from '../../src/backend/connect.ts';
import type { BackendSession } from '../../src/backend/connection.ts';
import { type Credentials, passwordCredentials, trust } from '../../src/backend/credentials.ts';
import { BackendRefusal } from '../../src/backend/errors.ts';
import { logInNatively } from '../../src/backend/native-login.ts';
import { PasswordFile } from '../../src/backend/passfile.ts';
import type { PasswordMethod } from '../../src/backend/url.ts';
import { BACKEND } from '../../src/wire/constants.ts';
import { Framer } from '../../src/wire/framer.ts';
import { authenticationOk, formatMessage } from '../../src/wire/messages.ts';
import { makeAuthority } from '../support/certificates.ts';
import { type Postgres, startPostgres } from '../support/postgres.ts';
import { connectClient, openTarget } from './fake-backend.ts';

const signal = new AbortController().signal;
const authority = makeAuthority();
const certificate = authority.issue({ cn: 'db', san: ['localhost', '127.0.0.1'], usage: 'server' });
const files = t.testdir({ 'ca.pem': authority.cert });
const passfile = join(files, 'passfile');
writeFileSync(
  passfile,
  '*:*:*:alice:wönder\\:land\n*:*:*:marie:pw\n*:*:*:bob:wrong\n*:*:*:ghost:pw\n',
  { mode: 0o600 },
);

const postgres: Postgres = await startPostgres({
  ssl: certificate,
  conf: { password_encryption: 'scram-sha-256' },
  hba: [
    'host all trusted all trust',
    'host all nologin all trust',
    'host all absent all trust',
    'host all marie all md5',
    'host all clear all password',
    'host all outside all reject',
    'host all all all scram-sha-256',
    'local all all scram-sha-256',
  ],
  initSql: [
    "create role alice login password 'wönder:land'",
    "set password_encryption = 'md5'; create role marie login password 'pw'",
    "create role clear login password 'pw'",
    "create role bob login password 'right'",
    'create role trusted login',
    'create role outside login',
    'create role nologin nologin',
    'create role boss login superuser',
  ],
});
t.teardown(() => postgres.close());

const verified = `sslmode=verify-full&sslrootcert=${files}/ca.pem`;
const overTls = `postgres://127.0.0.1:${postgres.port}/?${verified}`;
const inClear = `postgres://127.0.0.1:${postgres.port}/?sslmode=disable`;
const socketHost = encodeURIComponent(postgres.socketDir);
const overSocket = `postgres:///?host=${socketHost}&port=${postgres.port}`;

const startup = (user: string, database = 'postgres'): { name: string; value: Buffer }[] => [
  { name: 'user', value: Buffer.from(user) },
  { name: 'database', value: Buffer.from(database) },
];

async function login(
  url: string,
  user: string,
  credentials: Credentials,
  database?: string,
): Promise<BackendSession> {
  return connectAs({
    target: await openTarget(url),
    credentials,
    parameters: startup(user, database),
    signal,
  });
}

async function fromPassfile(...methods: PasswordMethod[]): Promise<Credentials> {
  const file = await PasswordFile.open(passfile);
  return passwordCredentials(new Set(methods), (key) => file.find(key));
}

/** Runs a query on a new session, to see that it works. Returns the first column. */
async function ask({ channel }: BackendSession, sql: string): Promise<string> {
  await channel.write(formatMessage('Q', Buffer.from(`${sql}\0`)), signal);
  let answer = '';
  for (;;) {
    const message = await channel.message(100_000, signal);
    if (!message) throw new Error('the connection ended');
    if (message.type === 0x44) answer = message.body.toString('utf8', 6);
    if (message.type === 0x5a) return answer;
  }
}

t.test('SCRAM with the password file, over each kind of connection', async (t) => {
  const connections: [string, string][] = [
    ['TLS, with channel binding', overTls],
    ['TLS without verification', `postgres://127.0.0.1:${postgres.port}/?sslmode=require`],
    ['TLS from the first byte', `${overTls}&sslnegotiation=direct`],
    ['plain TCP', inClear],
    ['a Unix socket', overSocket],
  ];
  for (const [name, url] of connections) {
    const session = await login(url, 'alice', await fromPassfile('scram-sha-256'));
    t.equal(session.isSuperuser, 'off', name);
    t.match(session.greeting.toString('latin1'), 'server_version', name);
    t.same(session.greeting.subarray(0, 9), authenticationOk(), name);
    t.equal(cancelKeyOf(session).length, 8, name);
    t.equal(await ask(session, 'select current_user'), 'alice', name);
    session.channel.destroy();
  }
});

t.test('md5 and cleartext passwords, if they are listed', async (t) => {
  const md5 = await login(inClear, 'marie', await fromPassfile('md5'));
  t.equal(await ask(md5, 'select current_user'), 'marie');
  md5.channel.destroy();
  const clear = passwordCredentials(new Set(['password']), () => Buffer.from('pw'));
  const session = await login(overTls, 'clear', clear);
  t.equal(await ask(session, 'select current_user'), 'clear');
  session.channel.destroy();
  await t.rejects(login(inClear, 'clear', clear), {
    sqlstate: '28000',
    message: /did not admit/,
    reason: /in clear/,
  });
});

t.test('a superuser is reported', async (t) => {
  await postgres.query("alter role boss password 'pw'");
  const session = await login(
    inClear,
    'boss',
    passwordCredentials(new Set(['scram-sha-256']), () => Buffer.from('pw')),
  );
  t.equal(session.isSuperuser, 'on');
  session.channel.destroy();
});

t.test(
  'a refusal of the user is in the words of the backend, one of the front-end is not',
  async (t) => {
    const password = await fromPassfile('scram-sha-256');
    const ours = /^the backend did not admit .* through this front-end$/;
    const cases: [string, () => Promise<unknown>, string, RegExp][] = [
      [
        'no such database',
        () => login(inClear, 'alice', password, 'nowhere'),
        '3D000',
        /^database "nowhere" does not exist$/,
      ],
      [
        'no such role',
        () => login(inClear, 'absent', trust),
        '28000',
        /^role "absent" does not exist$/,
      ],
      [
        'no right to log in',
        () => login(inClear, 'nologin', trust),
        '28000',
        /^role "nologin" is not permitted to log in$/,
      ],
      ['wrong password', () => login(inClear, 'bob', password), '28000', ours],
      ['no such role, with SCRAM', () => login(inClear, 'ghost', password), '28000', ours],
      ['pg_hba says no', () => login(inClear, 'outside', trust), '28000', ours],
      ['a password asked for', () => login(inClear, 'alice', trust), '28000', ours],
      ['no password asked for', () => login(inClear, 'trusted', password), '28000', ours],
      ['no password there', () => login(inClear, 'outside2', password), '28000', ours],
    ];
    for (const [name, attempt, sqlstate, message] of cases) {
      const error = await attempt().then(
        () => undefined,
        (error: unknown) => error,
      );
      t.match(error, { sqlstate, message }, name);
      t.equal(error instanceof BackendRefusal, message !== ours, name);
    }
  },
);

/** A native login with `pg` as the client. Returns both sides of it. */
async function native(
  url: string,
  clientTls: boolean,
  user: string,
  password: string,
): Promise<BackendSession | undefined> {
  const { client, frontEnd } = await connectClient();
  client.channel.release();
  const { socket } = client.channel;
  const driver = new pg.Client({
    user,
    password,
    stream: () =>
      Object.assign(socket, { connect: () => setImmediate(() => socket.emit('connect')) }),
  });
  driver.on('error', () => {});
  driver.connect().catch(() => {});
  try {
    await frontEnd.startupBody(signal);
    const target = await openTarget(url);
    return await logInNatively({
      target,
      parameters: startup(user),
      client: frontEnd,
      clientTls,
      answered: () => {},
      signal,
    });
  } finally {
    frontEnd.destroy();
    socket.destroy();
  }
}

t.test('native logins with the passwords of the backend', async (t) => {
  const cases: [string, string, boolean, string, string][] = [
    ['SCRAM relayed', inClear, false, 'alice', 'wönder:land'],
    ['SCRAM relayed for a client on TLS', inClear, true, 'alice', 'wönder:land'],
    ['SCRAM relayed, channel binding struck', overTls, false, 'alice', 'wönder:land'],
    ['SCRAM done here, with channel binding', overTls, true, 'alice', 'wönder:land'],
    ['md5 relayed', inClear, false, 'marie', 'pw'],
    ['in clear', overTls, true, 'clear', 'pw'],
  ];
  for (const [name, url, clientTls, user, password] of cases) {
    const session = await native(url, clientTls, user, password);
    t.equal(session && (await ask(session, 'select current_user')), user, name);
    session?.channel.destroy();
    await t.rejects(
      native(url, clientTls, user, 'wrong'),
      { sqlstate: '28P01', message: `password authentication failed for user "${user}"` },
      name,
    );
  }
  await t.rejects(native(inClear, false, 'trusted', 'pw'), {
    sqlstate: '28000',
    message: /asked for no credential/,
  });
  await t.rejects(
    native(inClear, false, 'outside', 'pw'),
    {
      sqlstate: '28000',
      message: 'the backend did not admit outside through this front-end',
      reason: /pg_hba.conf rejects/,
    },
    'what pg_hba.conf says of the front-end is in the log only',
  );
});

t.test('a cancel request stops a query', async (t) => {
  for (const url of [overTls, inClear]) {
    const session = await login(url, 'alice', await fromPassfile('scram-sha-256'));
    await session.channel.write(formatMessage('Q', Buffer.from('select pg_sleep(60)\0')), signal);
    await postgresRuns(t, 'select pg_sleep(60)');
    const packet = Buffer.concat([Buffer.from('0000001004d2162e', 'hex'), cancelKeyOf(session)]);
    const outcomes = await forwardCancel(allHosts(await openTarget(url)), packet, signal);
    t.match(outcomes, [{ host: `127.0.0.1:${postgres.port}`, failure: undefined }]);
    let text = '';
    for (let type = 0; type !== 0x5a; ) {
      const message = await session.channel.message(100_000, signal);
      if (!message) break;
      type = message.type;
      if (type === 0x45) text = message.body.toString('latin1');
    }
    t.match(text, /C57014/);
    session.channel.destroy();
  }
});

/** Process and secret key: the body of the BackendKeyData in the greeting. */
function cancelKeyOf({ greeting }: BackendSession): Buffer {
  const framer = new Framer();
  framer.push(greeting);
  for (let message = framer.message(1000); message; message = framer.message(1000))
    if (message.type === BACKEND.backendKeyData) return message.body;
  throw new Error('the greeting has no cancel key');
}

/** Waits until the server runs the query. */
async function postgresRuns(t: Test, query: string): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const { rowCount } = await postgres.query(
      'select from pg_stat_activity where query = $1 and state = $2',
      [query, 'active'],
    );
    if (rowCount) return;
  }
  t.fail(`${query} does not run`);
}

t.test('no session is left at the server', async (t) => {
  for (let attempt = 0; attempt < 100; attempt++) {
    const { rowCount } = await postgres.query(
      "select from pg_stat_activity where backend_type = 'client backend' " +
        "and usename <> 'postgres'",
    );
    if (rowCount === 0) return;
  }
  t.fail('sessions are left');
});

t.test('a backend that is down is 08001', async (t) => {
  await postgres.stop();
  await t.rejects(login(overTls, 'alice', trust), {
    sqlstate: '08001',
    message: /could not connect/,
    reason: /ECONNREFUSED/,
  });
  await t.rejects(login(overSocket, 'alice', trust), {
    sqlstate: '08001',
    message: /could not connect/,
    reason: /ENOENT|ECONNREFUSED/,
  });
});
