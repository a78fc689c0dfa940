/**
 * Token logins on a real PostgreSQL, by drivers and byte by byte: which are accepted, as which
 * user, and how each of the others is refused.
 */

import pg from 'pg';
import postgres from 'postgres';
import t, { type Test } from 'tap';
import { BACKEND } from '../../src/wire/constants.ts';
import { AUDIENCE, ISSUER, JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import { password, query, RawClient, tokenStartup } from '../support/raw-client.ts';
import {
  assembleToken,
  type Members,
  mintToken,
  publicJwk,
  signNothing,
  signWithSecret,
  testKey,
} from '../support/tokens.ts';

const database = await startPostgres({
  // The front-end is admitted over the Unix socket, and refused over TCP.
  hba: ['local all all trust', 'host all all all reject'],
  initSql: [
    'CREATE ROLE alice LOGIN',
    'CREATE ROLE bob LOGIN',
    'CREATE ROLE boss LOGIN SUPERUSER',
    'CREATE ROLE nologin',
  ],
});
t.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
const frontEnd = await startFrontEnd(backend, {
  settings: { 'server.identity_map.configuration': `https://map.test /^(.*)@example\\.com$ \\1` },
});
t.teardown(() => frontEnd.close());

function connection(user: string, jwt: string, extra: pg.ClientConfig = {}): pg.ClientConfig {
  const { port } = frontEnd;
  return {
    host: '127.0.0.1',
    port,
    user,
    password: jwt,
    database: 'postgres',
    options: JWT_OPTION,
    ...extra,
  };
}

async function withClient<T>(
  config: pg.ClientConfig,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client(config);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function refusal(config: pg.ClientConfig): Promise<pg.DatabaseError> {
  const client = new pg.Client(config);
  try {
    await client.connect();
  } catch (error) {
    return error as pg.DatabaseError;
  }
  await client.end();
  throw new Error('the login was accepted');
}

/** Sends a token once the front-end has asked for it. */
async function rawLogin(
  t: Test,
  parameters: Record<string, string>,
  jwt: string,
): Promise<RawClient> {
  const client = await RawClient.connect(frontEnd.port);
  client.send(tokenStartup(parameters));
  t.equal((await client.message())?.body.readUInt32BE(0), 3, 'a cleartext password is asked for');
  client.send(password(jwt));
  return client;
}

t.test('pg: the session belongs to the mapped user', async (t) => {
  const row = await withClient(connection('alice', token('alice')), async (client) => {
    const { rows } = await client.query(
      'SELECT current_user, session_user, current_database() AS db',
    );
    return rows[0];
  });
  t.strictSame(row, { current_user: 'alice', session_user: 'alice', db: 'postgres' });
});

t.test(
  'postgres: the session belongs to the mapped user, and prepared statements work',
  async (t) => {
    const sql = postgres({
      host: '127.0.0.1',
      port: frontEnd.port,
      user: 'alice',
      password: token('alice'),
      database: 'postgres',
      connection: { options: JWT_OPTION },
    });
    const rows = await sql`SELECT current_user, ${40}::int + 2 AS sum`;
    await sql.end();
    t.strictSame(
      rows.map((row) => ({ ...row })),
      [{ current_user: 'alice', sum: 42 }],
    );
  },
);

t.test('other startup parameters and options arrive unchanged', async (t) => {
  const config = connection('alice', token('alice'), {
    application_name: 'my app',
    options: `-c geqo=off ${JWT_OPTION} -c my.note=a\\ b`,
  });
  const settings = await withClient(config, async (client) => {
    const { rows } = await client.query(
      "SELECT current_setting('geqo') AS geqo, current_setting('my.note') AS note, " +
        "current_setting('application_name') AS name",
    );
    return rows[0];
  });
  t.strictSame(settings, { geqo: 'off', note: 'a b', name: 'my app' });
});

t.test(
  'a user name in other case is the same user, and without one the token decides',
  async (t) => {
    for (const parameters of [{ user: 'ALICE' }, {}, { user: '' }] as Record<string, string>[]) {
      const client = await rawLogin(t, parameters, token('Alice'));
      await client.until(BACKEND.readyForQuery);
      client.send(query('SELECT current_user'));
      const { types } = await client.until(0x44);
      t.equal(types, 'TD');
      client.close();
    }
  },
);

t.test('a query sent right after the password reaches the backend once', async (t) => {
  const client = await RawClient.connect(frontEnd.port);
  client.send(
    tokenStartup({ user: 'alice' }),
    password(token('alice')),
    query("SELECT 'pipelined'"),
  );
  t.equal((await client.until(BACKEND.readyForQuery)).types.replace(/S+/, 'S'), 'RRSKZ');
  const { types, last } = await client.until(BACKEND.readyForQuery);
  t.equal(types, 'TDCZ');
  t.ok(last);
  client.close();
});

t.test('a login that arrives byte by byte is accepted', async (t) => {
  const client = await RawClient.connect(frontEnd.port);
  await client.drip(Buffer.concat([tokenStartup({ user: 'alice' }), password(token('alice'))]));
  const { types } = await client.until(BACKEND.readyForQuery);
  t.match(types, /^RRS+KZ$/);
  client.close();
});

t.test('tokens of 16 kB, and of the longest password message, are accepted', async (t) => {
  for (const length of [16_000, 65_000]) {
    const padding = token('alice', { pad: 'x'.repeat(Math.floor((length - 800) * 0.75)) });
    t.ok(padding.length > length - 1000 && padding.length <= 65_534, `${padding.length} bytes`);
    await withClient(connection('alice', padding), (client) => client.query('SELECT 1'));
  }
});

t.test('each check refuses with its own message, detail and SQLSTATE', async (t) => {
  const now = Math.floor(Date.now() / 1000);
  const rows: [string, string, string, string | RegExp | undefined][] = [
    ['no token', 'hunter2', 'invalid token', /^token parsing failed: /],
    [
      'issuer',
      token('alice', { iss: 'https://other.test' }),
      'invalid issuer',
      'token issued by https://other.test',
    ],
    [
      'expired',
      token('alice', { exp: now - 1 }),
      'invalid token',
      'unable to parse token: "exp" not satisfied',
    ],
    [
      'not yet',
      token('alice', { nbf: now + 600 }),
      'invalid token',
      'unable to parse token: "nbf" not satisfied',
    ],
    [
      'no sub',
      token('alice', { sub: undefined }),
      'missing claim',
      'token does not contain a claim for sub',
    ],
    [
      'control character',
      token('a\nb'),
      'invalid claim value',
      `the value a\\x0ab for the issuer ${ISSUER} is invalid`,
    ],
    [
      'another user',
      token('bob'),
      'invalid principal',
      'token issued for [bob] and login was for alice',
    ],
    [
      'audience',
      token('alice', { aud: ['a', 'b'] }),
      'invalid audience',
      'token issued with an audience of [a b]',
    ],
    [
      'key',
      mintToken(testKey('RS256', 'other'), {
        iss: ISSUER,
        aud: AUDIENCE,
        sub: 'alice',
        exp: now + 600,
      }),
      'invalid token',
      'unable to parse token: key provider 0 failed: ' +
        'failed to find key with key ID "other" in key set',
    ],
  ];
  for (const [name, jwt, message, detail] of rows) {
    const error = await refusal(connection('alice', jwt));
    t.match(
      error,
      { severity: 'FATAL', code: '28000', message: `JWT authentication: ${message}`, detail },
      name,
    );
  }
});

t.test('attacks on the token are refused with 28000, and nothing is revealed', async (t) => {
  const key = testKey('RS256');
  const foreign = testKey('RS256', 'foreign');
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: ISSUER, aud: AUDIENCE, sub: 'alice', exp: now + 600 };
  const payload = JSON.stringify(claims);
  const header = (members: Members): string => JSON.stringify({ kid: key.kid, ...members });
  const good = token('alice');
  const [head = '', body = '', signature = ''] = good.split('.');
  const altered = `${body.slice(0, -2)}${body.endsWith('A') ? 'B' : 'A'}${body.slice(-1)}`;
  const pem = key.publicKey.export({ type: 'spki', format: 'pem' });
  const attacks: [string, string][] = [
    ['none', assembleToken(header({ alg: 'none' }), payload, signNothing)],
    ['NoNe', assembleToken(header({ alg: 'NoNe' }), payload, signNothing)],
    ['no signature', `${head}.${body}.`],
    ['two parts', `${head}.${body}`],
    [
      'HS256 with the public key',
      assembleToken(header({ alg: 'HS256' }), payload, signWithSecret(pem)),
    ],
    ['embedded key', mintToken(foreign, claims, { kid: key.kid, jwk: publicJwk(foreign) })],
    ['jku', mintToken(foreign, claims, { kid: key.kid, jku: 'https://evil.test/jwks' })],
    ['x5u', mintToken(foreign, claims, { kid: key.kid, x5u: 'https://evil.test/cert' })],
    ['crit', mintToken(key, claims, { crit: ['exp'] })],
    ['b64', mintToken(key, claims, { b64: false, crit: ['b64'] })],
    ['another algorithm of the key type', mintToken(key, claims, { alg: 'RS384' })],
    ['truncated signature', good.slice(0, -10)],
    ['padded', `${good}==`],
    ['a bit of the payload', `${head}.${altered}.${signature}`],
    ['white space', ` ${good}`],
    ['iss as an array', mintToken(key, { ...claims, iss: [ISSUER] })],
    ['aud as an object', mintToken(key, { ...claims, aud: { [AUDIENCE]: 1 } })],
    ['exp as a string', mintToken(key, { ...claims, exp: String(now + 600) })],
    ['no exp', mintToken(key, { ...claims, exp: undefined })],
    ['sub as a number', mintToken(key, { ...claims, sub: 1 })],
    ['kid as a number', mintToken(key, claims, { kid: 1 })],
    ['an array for a payload', assembleToken(header({ alg: 'RS256' }), '[]', signNothing)],
    [
      'prototype',
      assembleToken(header({ alg: 'RS256' }), '{"__proto__":{"iss":"x"}}', signNothing),
    ],
  ];
  for (const [name, jwt] of attacks) {
    const { code, message, detail = '' } = await refusal(connection('alice', jwt));
    t.match(
      { code, message },
      { code: '28000', message: /^JWT authentication: invalid (token|issuer)$/ },
      name,
    );
    t.notMatch(
      detail,
      new RegExp(`${key.kid}\\b(?!")|${ISSUER}`),
      `${name}: our key and issuer are not named`,
    );
  }
});

t.test('reserved users, superusers and roles that stand for one are refused', async (t) => {
  for (const user of ['root', 'postgres', 'pg_monitor', 'PG_x', 'admin']) {
    const error = await refusal(connection(user, token(user)));
    t.match(error, { code: '28000', message: 'JWT authentication: invalid identity' }, user);
  }
  const boss = await refusal(connection('boss', token('boss')));
  t.match(boss, {
    message: 'JWT authentication: invalid identity',
    detail: 'cannot use JWT auth to login to a reserved user boss',
  });
  t.match(await frontEnd.event({ code: 'superuser' }), {
    reason: /is_superuser = on.*--superusers/,
  });
  for (const options of [
    '-c role=boss',
    '--role=boss',
    '-ecrole=boss',
    '-c session_authorization=boss',
  ]) {
    const error = await refusal(
      connection('alice', token('alice'), { options: `${JWT_OPTION} ${options}` }),
    );
    t.match(error, { code: '28000', message: 'JWT authentication: invalid identity' }, options);
  }
});

t.test(
  'superusers, and roles in the startup packet, are accepted if they are allowed',
  async (t) => {
    await database.query('GRANT bob TO alice');
    const lenient = await startFrontEnd(backend, { superusers: 'allow' });
    t.teardown(() => lenient.close());
    const { port } = lenient;
    const boss = await withClient(connection('boss', token('boss'), { port }), (client) =>
      client.query('SELECT current_user AS who'),
    );
    t.strictSame(boss.rows, [{ who: 'boss' }]);
    const options = `${JWT_OPTION} -c role=bob`;
    const alice = await withClient(
      connection('alice', token('alice'), { port, options }),
      (client) => client.query('SELECT current_user AS who'),
    );
    t.strictSame(alice.rows, [{ who: 'bob' }]);
  },
);

t.test("the backend's own refusals arrive unchanged", async (t) => {
  const missing = await refusal(connection('carol', token('carol')));
  t.match(missing, { code: '28000', message: 'role "carol" does not exist' });
  const nologin = await refusal(connection('nologin', token('nologin')));
  t.match(nologin, { code: '28000', message: 'role "nologin" is not permitted to log in' });
  const nowhere = await refusal(connection('alice', token('alice'), { database: 'nowhere' }));
  t.match(nowhere, { code: '3D000', message: 'database "nowhere" does not exist' });
});

t.test(
  'an empty password, a missing one, another message and one too long are refused',
  async (t) => {
    const empty = await rawLogin(t, { user: 'alice' }, '');
    t.match(await empty.error(), {
      sqlstate: '28P01',
      message: 'password authentication failed for user "alice"',
    });
    empty.close();
    const left = await RawClient.connect(frontEnd.port);
    left.send(tokenStartup({ user: 'leaver' }));
    await left.message();
    left.close();
    const other = await RawClient.connect(frontEnd.port);
    other.send(tokenStartup({ user: 'alice' }), query('SELECT 1'));
    t.match(await other.error(), { sqlstate: '08P01', message: /expected password response/ });
    other.close();
    const tooLong = await RawClient.connect(frontEnd.port);
    tooLong.send(tokenStartup({ user: 'alice' }), password('x'.repeat(65_535)));
    t.match(await tooLong.error(), { sqlstate: '08P01', message: 'invalid message length' });
    tooLong.close();
    await frontEnd.event({ user: 'leaver', outcome: 'abandoned' });
    t.notOk(
      frontEnd.events.some(({ user, outcome }) => user === 'leaver' && outcome === 'refused'),
    );
  },
);

t.test('a JWT option with a wrong value or without one is refused', async (t) => {
  const wrong = await refusal(
    connection('alice', token('alice'), { options: '--crdb:jwt_auth_enabled=yes' }),
  );
  t.match(wrong, { code: '22023', message: /crdb:jwt_auth_enabled/ });
  const bare = await refusal(
    connection('alice', token('alice'), { options: '--crdb:jwt_auth_enabled' }),
  );
  t.match(bare, { code: '08P01', message: /"--crdb:jwt_auth_enabled"/ });
});

t.test(
  'the log names each user and the reason of each refusal, and contains no token',
  async (t) => {
    const jwt = token('alice', { jti: 'find-me' });
    await withClient(connection('alice', jwt, { application_name: 'audit' }), (client) =>
      client.query('SELECT 1'),
    );
    t.match(
      await frontEnd.event({ event: 'login', outcome: 'accepted', applicationName: 'audit' }),
      {
        user: 'alice',
        principal: 'alice',
        issuer: ISSUER,
        database: 'postgres',
        method: 'token',
        transport: 'plain',
        client: /^127\.0\.0\.1:\d+$/,
        backend: /\.s\.PGSQL\./,
        durationMs: Number,
        tokenExpires: /^\d{4}-/,
      },
    );
    t.match(await frontEnd.event({ event: 'session_end', applicationName: 'audit' }), {
      endedBy: 'client',
      bytesToBackend: Number,
      bytesToClient: Number,
      durationMs: Number,
    });
    t.match(
      await frontEnd.event({ event: 'login', outcome: 'refused', code: 'invalid_audience' }),
      {
        sqlstate: '28000',
        reason: /expected one of \[databases\].*server\.jwt_authentication\.audience/,
        fault: 'client',
      },
    );
    const everything = JSON.stringify(frontEnd.events);
    for (const part of jwt.split('.').slice(1)) t.notMatch(everything, part);
    t.notMatch(everything, /find-me|hunter2/);
  },
);

t.test('200 logins at once are all accepted', async (t) => {
  const users = await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      const user = i % 2 ? 'alice' : 'bob';
      return withClient(connection(user, token(user)), async (client) => {
        const { rows } = await client.query('SELECT current_user = $1 AS same', [user]);
        return rows[0].same;
      });
    }),
  );
  t.equal(users.filter(Boolean).length, 200);
});

t.test(
  'a backend that is down, or does not admit the front-end, is reported as such',
  async (t) => {
    const away = await startFrontEnd('postgres://127.0.0.1:9/?sslmode=disable');
    t.teardown(() => away.close());
    const error = await refusal(connection('alice', token('alice'), { port: away.port }));
    t.match(error, { code: '08001', severity: 'FATAL' });
    t.notMatch(`${error.message} ${error.detail} ${error.hint}`, /127\.0\.0\.1|:9/, 'no address');
    t.match(await away.event({ outcome: 'refused' }), {
      fault: 'backend',
      reason: /127\.0\.0\.1:9.*ECONNREFUSED/,
    });

    const barred = await startFrontEnd(`postgres://127.0.0.1:${database.port}`);
    t.teardown(() => barred.close());
    const refused = await refusal(connection('alice', token('alice'), { port: barred.port }));
    t.match(refused, {
      code: '28000',
      message: 'the backend did not admit alice through this front-end',
    });
    t.match(await barred.event({ outcome: 'refused' }), { fault: 'us', reason: /pg_hba/ });
  },
);
