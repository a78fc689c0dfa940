/**
 * Logins without the option, on a real PostgreSQL: its passwords work, and nobody gets in because
 * it trusts the front-end.
 */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import t from 'tap';
import { makeAuthority } from '../support/certificates.ts';
import { type FrontEnd, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { RawClient, startup } from '../support/raw-client.ts';

const authority = makeAuthority();
const server = authority.issue({
  cn: 'localhost',
  san: ['localhost', '127.0.0.1'],
  usage: 'server',
});
const files = await mkdtemp(join(tmpdir(), 'pgsso-native-'));
t.teardown(() => rm(files, { recursive: true }));
const path = (name: string): string => join(files, name);
await writeFile(path('ca.crt'), authority.cert);
await writeFile(path('tls.crt'), server.cert);
await writeFile(path('tls.key'), server.key);
await writeFile(path('passfile'), '*:*:*:bob:bobs secret\n', { mode: 0o600 });

const database = await startPostgres({
  ssl: server,
  hba: [
    'host all trusted all trust',
    'host all hashed all md5',
    'host all plain all password',
    'host all all all scram-sha-256',
  ],
  initSql: [
    "CREATE ROLE alice LOGIN PASSWORD 'correct horse'",
    "CREATE ROLE bob LOGIN PASSWORD 'bobs secret'",
    'CREATE ROLE trusted LOGIN',
    'CREATE ROLE "MiXed" LOGIN PASSWORD \'mixed\'',
    "CREATE ROLE plain LOGIN PASSWORD 'pl\u00e4in'",
    "SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'md5 secret'",
  ],
});
t.teardown(() => database.close());

const encrypted = `postgres://localhost:${database.port}?sslrootcert=${encodeURIComponent(path('ca.crt'))}`;
const clear = `postgres://127.0.0.1:${database.port}?sslmode=disable`;
const tls = { tlsCert: path('tls.crt'), tlsKey: path('tls.key') };
const withPasswords = { backendAuth: 'password', backendPassfile: path('passfile') } as const;
const overTls = await startFrontEnd(encrypted, { ...tls, ...withPasswords });
t.teardown(() => overTls.close());
const overTcp = await startFrontEnd(clear, { ...tls, ...withPasswords });
t.teardown(() => overTcp.close());

const clientSsl = { ca: authority.cert, servername: 'localhost' };

async function whoAmI(
  front: FrontEnd,
  user: string,
  password: string,
  extra: pg.ClientConfig = {},
): Promise<string> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port: front.port,
    user,
    password,
    database: 'postgres',
    ...extra,
  });
  await client.connect();
  try {
    const { rows } = await client.query('SELECT session_user AS who');
    return rows[0].who;
  } finally {
    await client.end();
  }
}

t.test(
  'SCRAM, md5 and cleartext passwords of the backend work on every combination of legs',
  async (t) => {
    for (const [front, backendLeg] of [
      [overTls, 'TLS'],
      [overTcp, 'TCP'],
    ] as const) {
      for (const [ssl, clientLeg] of [
        [clientSsl, 'TLS'],
        [false, 'TCP'],
      ] as const) {
        const legs = `${clientLeg} to ${backendLeg}`;
        t.equal(await whoAmI(front, 'alice', 'correct horse', { ssl }), 'alice', `SCRAM, ${legs}`);
        t.equal(await whoAmI(front, 'hashed', 'md5 secret', { ssl }), 'hashed', `md5, ${legs}`);
        t.equal(await whoAmI(front, 'plain', 'pl\u00e4in', { ssl }), 'plain', `cleartext, ${legs}`);
        await t.rejects(
          whoAmI(front, 'alice', 'wrong', { ssl }),
          { code: '28P01', message: 'password authentication failed for user "alice"' },
          legs,
        );
      }
    }
  },
);

t.test('channel binding of the client is offered only where it can hold', async (t) => {
  await t.rejects(
    whoAmI(overTls, 'alice', 'correct horse', {
      ssl: clientSsl,
      enableChannelBinding: true,
    } as pg.ClientConfig).then(() => Promise.reject(new Error('in'))),
    {
      message: 'in',
    },
  );
});

t.test('a backend that trusts the front-end lets nobody in natively', async (t) => {
  for (const front of [overTls, overTcp]) {
    await t.rejects(whoAmI(front, 'trusted', 'anything'), {
      code: '28000',
      message: 'native login refused: the backend asked for no credential',
    });
  }
  t.match(await overTcp.event({ code: 'native_login_unearned' }), {
    fault: 'us',
    reason: /trusts/,
  });
  const socket = await startFrontEnd(
    `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`,
  );
  t.teardown(() => socket.close());
  await t.rejects(whoAmI(socket, 'postgres', 'anything'), {
    message: 'native login refused: the backend asked for no credential',
  });
});

t.test("the front-end's own passwords are never used for a native login", async (t) => {
  t.equal(
    await whoAmI(overTls, 'bob', token('bob'), {
      options: '--crdb:jwt_auth_enabled=true',
      ssl: clientSsl,
    }),
    'bob',
    'with a token they are',
  );
  for (const password of ['wrong', token('bob')]) {
    for (const ssl of [clientSsl, false])
      await t.rejects(whoAmI(overTls, 'bob', password, { ssl }), { code: '28P01' });
  }
});

t.test('native names are compared exactly, never folded', async (t) => {
  t.equal(await whoAmI(overTcp, 'MiXed', 'mixed'), 'MiXed');
  await t.rejects(whoAmI(overTcp, 'ALICE', 'correct horse'), { code: '28P01' });
});

t.test('a native login without a user is refused', async (t) => {
  const client = await RawClient.connect(overTcp.port);
  client.send(startup({ database: 'postgres' }));
  t.match(await client.error(), {
    sqlstate: '28000',
    message: 'no PostgreSQL user name specified in startup packet',
  });
});

t.test('a native login with the option false, and its rest arriving', async (t) => {
  const options = '--crdb:jwt_auth_enabled=false -c geqo=off';
  t.equal(await whoAmI(overTcp, 'alice', 'correct horse', { options }), 'alice');
});

t.test('a client that leaves at the password prompt is no refusal', async (t) => {
  const client = await RawClient.connect(overTcp.port);
  client.send(startup({ user: 'alice', database: 'postgres', application_name: 'leaver' }));
  await client.message();
  client.channel.socket.end();
  await client.closed();
  t.notOk(
    overTcp.events.some(
      ({ applicationName, outcome }) => applicationName === 'leaver' && outcome !== 'abandoned',
    ),
  );
});

t.test('native logins can be denied', async (t) => {
  const denying = await startFrontEnd(clear, { ...withPasswords, nativeLogins: 'deny' });
  t.teardown(() => denying.close());
  await t.rejects(whoAmI(denying, 'alice', 'correct horse'), {
    code: '28000',
    hint: /crdb:jwt_auth_enabled=true/,
  });
  t.match(await denying.event({ code: 'native_logins_denied' }), { reason: /--native-logins/ });
});

t.test(
  'a token login needs a password in the file, and the answer names nothing of it',
  async (t) => {
    await t.rejects(
      whoAmI(overTls, 'alice', token('alice'), {
        options: '--crdb:jwt_auth_enabled=true',
        ssl: clientSsl,
      }),
      {
        code: '28000',
        message: 'the backend did not admit alice through this front-end',
      },
    );
    t.match(await overTls.event({ code: 'backend_did_not_admit' }), {
      fault: 'us',
      reason: /no password for/,
    });
  },
);
