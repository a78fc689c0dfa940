/**
 * Native logins, which do not set the JWT option, on a real PostgreSQL. The passwords of the
 * backend work, and a backend that trusts the front-end admits nobody.
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

const rootCert = encodeURIComponent(path('ca.crt'));
const encrypted = `postgres://localhost:${database.port}?sslrootcert=${rootCert}`;
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
  'SCRAM, md5 and cleartext passwords of the backend work with TLS on neither, one or both sides',
  async (t) => {
    for (const [front, backendSide] of [
      [overTls, 'TLS'],
      [overTcp, 'TCP'],
    ] as const) {
      for (const [ssl, clientSide] of [
        [clientSsl, 'TLS'],
        [false, 'TCP'],
      ] as const) {
        const sides = `${clientSide} to ${backendSide}`;
        t.equal(await whoAmI(front, 'alice', 'correct horse', { ssl }), 'alice', `SCRAM, ${sides}`);
        t.equal(await whoAmI(front, 'hashed', 'md5 secret', { ssl }), 'hashed', `md5, ${sides}`);
        t.equal(
          await whoAmI(front, 'plain', 'pl\u00e4in', { ssl }),
          'plain',
          `cleartext, ${sides}`,
        );
        await t.rejects(
          whoAmI(front, 'alice', 'wrong', { ssl }),
          { code: '28P01', message: 'password authentication failed for user "alice"' },
          sides,
        );
      }
    }
  },
);

t.test('channel binding is not offered to the client, because it cannot hold', async (t) => {
  const binding = { ssl: clientSsl, enableChannelBinding: true };
  t.equal(await whoAmI(overTls, 'alice', 'correct horse', binding), 'alice');
});

t.test('a native login is refused if the backend trusts the front-end', async (t) => {
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
    'they are used for a token login',
  );
  for (const password of ['wrong', token('bob')]) {
    for (const ssl of [clientSsl, false])
      await t.rejects(whoAmI(overTls, 'bob', password, { ssl }), { code: '28P01' });
  }
});

t.test('a token without the JWT option is refused with a hint at the option', async (t) => {
  const secret = token('plain');
  const meant = /^The password looks like a JSON web token\..*--crdb:jwt_auth_enabled=true.* jwt /;
  const misspelt = (name: string): RegExp =>
    new RegExp(`^"${name}" is not the option .*--crdb:jwt_auth_enabled=true.* jwt `);
  const header = Buffer.from('{ "alg": 1 }').toString('base64url');
  const rows: {
    when: string;
    front?: FrontEnd;
    user?: string;
    password?: string;
    ssl?: pg.ClientConfig['ssl'];
    options?: string;
    code?: string;
    hint: RegExp | undefined;
  }[] = [
    { when: 'the backend asks in clear text', hint: meant },
    {
      when: 'pgsso asks in clear text',
      user: 'alice',
      front: overTls,
      ssl: clientSsl,
      hint: meant,
    },
    { when: 'a header is enough', password: `${header}.b.c`, hint: meant },
    { when: 'SCRAM shows no password', user: 'alice', hint: undefined },
    { when: 'md5 shows no password', user: 'hashed', hint: undefined },
    { when: 'two dots are no token', password: 'my.secret.word', hint: undefined },
    { when: 'JSON is no header', password: 'e30.e30.e30', hint: undefined },
    { when: 'five parts', password: `${secret}.a.b`, hint: undefined },
    { when: 'a long header', password: `${header}${'A'.repeat(5000)}.b.c`, hint: undefined },
    {
      when: 'a part of the option',
      password: 'wrong',
      options: '-c geqo=off --jwt_auth=true',
      hint: misspelt('--jwt_auth'),
    },
    {
      when: 'another option of the prefix',
      user: 'alice',
      options: '-c crdb:jwt=true',
      hint: misspelt('crdb:jwt'),
    },
    {
      when: 'encoded',
      options: '--crdb%3Ajwt-auth-enable%3Dtrue',
      hint: misspelt('--crdb:jwt-auth-enable'),
    },
    {
      when: 'the password is right, and the backend does not know the option',
      password: 'pl\u00e4in',
      options: '--crdb:jwt_auth=true',
      code: '42704',
      hint: misspelt('--crdb:jwt_auth'),
    },
    {
      when: 'only names count',
      options: '-c application_name=jwt_auth',
      password: 'wrong',
      hint: undefined,
    },
  ];
  for (const row of rows) {
    const { when, front = overTcp, user = 'plain', password = secret, ssl = false } = row;
    const { options = '', code = '28P01', hint } = row;
    const error = await whoAmI(front, user, password, { ssl, options }).catch((e) => e);
    t.match(
      { code: error.code, hint: String(error.hint) },
      { code, hint: hint ?? 'undefined' },
      when,
    );
  }
});

t.test('the log says that the JWT option was forgotten, and nothing of the token', async (t) => {
  const front = await startFrontEnd(clear, tls);
  t.teardown(() => front.close());
  const secret = token('plain');
  const refused = async (application_name: string, options: string): Promise<unknown> => {
    await t.rejects(whoAmI(front, 'plain', secret, { options, application_name }));
    return (await front.event({ applicationName: application_name }))['reason'];
  };
  t.match(
    [await refused('first', ''), await refused('second', '--jwt_auth=1')],
    [
      /password authentication failed .*; the password is a JSON web token, and crdb:jwt_auth_enab/,
      /password authentication failed .*; the client sent "--jwt_auth", which is not crdb:jwt_auth/,
    ],
  );
  const logged = JSON.stringify(front.events);
  t.strictSame(
    secret.split('.').filter((part) => logged.includes(part)),
    [],
  );
});

t.test('user names of native logins are compared exactly and never folded', async (t) => {
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
  client.close();
});

t.test('a login with the option set to false is native and keeps its other options', async (t) => {
  const options = '--crdb:jwt_auth_enabled=false -c geqo=off';
  t.equal(await whoAmI(overTcp, 'alice', 'correct horse', { options }), 'alice');
});

t.test('a client that leaves at the password prompt is not logged as refused', async (t) => {
  const client = await RawClient.connect(overTcp.port);
  client.send(startup({ user: 'alice', database: 'postgres', application_name: 'leaver' }));
  await client.message();
  client.channel.socket.end();
  await client.closed();
  await overTcp.event({ applicationName: 'leaver', outcome: 'abandoned' });
  t.notOk(
    overTcp.events.some(
      ({ applicationName, outcome }) => applicationName === 'leaver' && outcome !== 'abandoned',
    ),
  );
});

t.test('a setting silences accepted logins and their ends, and no refusal', async (t) => {
  const outcomes = async (enabled: string): Promise<unknown[]> => {
    const settings = { 'server.auth_log.sql_sessions.enabled': enabled };
    const front = await startFrontEnd(clear, { settings });
    await whoAmI(front, 'alice', 'correct horse');
    await whoAmI(front, 'alice', 'wrong').catch(() => undefined);
    await front.close();
    const events = front.events.filter(({ user }) => user === 'alice');
    return events.map(({ event, outcome }) => outcome ?? event).sort();
  };
  t.strictSame(await outcomes('true'), ['accepted', 'refused', 'session_end']);
  t.strictSame(await outcomes('false'), ['refused']);
});

t.test('native logins can be denied', async (t) => {
  const denying = await startFrontEnd(clear, { ...withPasswords, nativeLogins: 'deny' });
  t.teardown(() => denying.close());
  await t.rejects(whoAmI(denying, 'alice', 'correct horse'), {
    code: '28000',
    hint: /crdb:jwt_auth_enabled=true/,
  });
  t.match(await denying.event({ code: 'native_logins_denied' }), { reason: /--native-logins/ });
  const warningsOf = async (front: FrontEnd, rules: string): Promise<string[]> => {
    const operator = new pg.Client({ host: front.dataDir, port: front.port, database: 'pgsso' });
    const warnings: string[] = [];
    operator.on('notice', ({ message }) => warnings.push(message ?? ''));
    await operator.connect();
    await operator.query(
      `SET CLUSTER SETTING server.host_based_authentication.configuration = '${rules}'`,
    );
    await operator.end();
    return warnings;
  };
  const rules = 'hostssl all bob all native\nhostssl all all all jwt\nhost all all all native';
  t.match(await warningsOf(denying, rules), [
    /^lines 1, 3 of server\.host_based.* are native, and --native-logins is deny: only logins with/,
  ]);
  t.strictSame(await warningsOf(denying, ''), [], 'no rule is no line');
  t.strictSame(await warningsOf(overTcp, rules), []);
  await warningsOf(overTcp, '');
});

t.test(
  'a token login needs a password in the file, and the refusal does not mention the file',
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
