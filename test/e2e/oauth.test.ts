/** Logins by SASL OAUTHBEARER: byte by byte, and by psql 18 with a real OpenID provider. */
import { createServer } from 'node:http';
import root from 'tap';
import { formatMessage } from '../../src/wire/messages.ts';
import { ISSUER, JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { runStatements } from '../support/manual.ts';
import { NATIVE_CLIENT, startPeopleProvider } from '../support/people-provider.ts';
import { startPostgres } from '../support/postgres.ts';
import { startPsql18, withoutPsql18 } from '../support/psql18.ts';
import { password, RawClient, startup, tokenStartup } from '../support/raw-client.ts';
import { browse } from '../support/sign-in.ts';

const database = await startPostgres({
  hba: ['local all all trust'],
  initSql: [
    'CREATE ROLE alice LOGIN',
    'CREATE ROLE bob LOGIN',
    'CREATE ROLE readers',
    'CREATE ROLE pgsso_directory LOGIN CREATEROLE NOINHERIT',
    'GRANT readers TO pgsso_directory WITH ADMIN OPTION',
  ],
});
root.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;

const RULES = 'server.host_based_authentication.configuration';
const BEARER = 'server.oauthbearer_authentication';

type Test = { teardown(done: () => Promise<void>): void };

async function startWith(test: Test, settings: Record<string, string> = {}, options: object = {}) {
  const frontEnd = await startFrontEnd(backend, {
    ...options,
    settings: {
      [RULES]: 'host all all all oauth',
      [`${BEARER}.enabled`]: 'true',
      ...settings,
    },
  });
  test.teardown(() => frontEnd.close());
  return frontEnd;
}

const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};

/** A SASLInitialResponse. Undefined: without a response in it. */
function initial(response: string | undefined, mechanism = 'OAUTHBEARER'): Buffer {
  const data = response === undefined ? [int32(-1)] : [int32(response.length), latin1(response)];
  return formatMessage('p', latin1(`${mechanism}\0`), ...data);
}

function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

const first = (auth: string): string => `n,,\x01auth=${auth}\x01\x01`;
const kvsep = formatMessage('p', latin1('\x01'));

/** Connects, sends the startup packet and reads the offer. */
async function offered(port: number, user = 'alice'): Promise<RawClient> {
  const client = await RawClient.connect(port);
  client.send(startup({ user, database: 'postgres' }));
  const offer = await client.message();
  if (offer?.bytes.toString('latin1') !== 'R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0') {
    throw new Error(`another offer: ${offer?.bytes.toString('latin1')}`);
  }
  return client;
}

/** The text of the challenge that comes next. */
async function challengeOf(client: RawClient): Promise<unknown> {
  const message = await client.message();
  if (message?.bytes.toString('latin1', 0, 1) !== 'R' || message.body.readInt32BE(0) !== 11) {
    throw new Error(`no challenge but ${message?.bytes.toString('latin1')}`);
  }
  return message.body.toString('utf8', 4);
}

root.test('a client that brings a token is logged in without a further message', async (t) => {
  const frontEnd = await startWith(t);
  for (const [auth, empty] of [
    [`Bearer ${token('alice')}`, false],
    [`bEARER   ${token('alice')}`, true],
  ] as const) {
    const client = await offered(frontEnd.port);
    if (empty) {
      client.send(initial(undefined));
      t.equal(await challengeOf(client), '', 'an empty challenge for no initial response');
      client.send(formatMessage('p', latin1(first(auth))));
    } else {
      client.send(initial(first(auth)));
    }
    const { types } = await client.until(0x5a);
    t.match(types, /^RS+KZ$/, 'AuthenticationOk and no SASLFinal');
    client.close();
  }
  t.match(await frontEnd.event({ event: 'login', outcome: 'accepted' }), {
    method: 'token',
    mechanism: 'OAUTHBEARER',
    user: 'alice',
    issuer: ISSUER,
  });
});

root.test('a token as the password is taken on an oauth line with the option', async (t) => {
  const frontEnd = await startWith(t);
  const client = await RawClient.connect(frontEnd.port);
  client.send(tokenStartup({ user: 'alice' }), password(token('alice')));
  t.match((await client.until(0x5a)).types, /^RRS+KZ$/);
  client.close();
});

root.test('a client without a token is told where to get one, which is no failure', async (t) => {
  const frontEnd = await startWith(
    t,
    {
      [RULES]:
        'host postgres bob all oauth issuer=https://b.example/x scope="db openid"\n' +
        'host all all all oauth',
      'pgsso.throttle.exempt': '',
      'pgsso.throttle.address_refusals': '1',
      'pgsso.throttle.first_delay': '1m',
      'pgsso.throttle.longest_delay': '1m',
    },
    { metricsListen: { host: '127.0.0.1', port: 0 } },
  );
  const discovery = (issuer: string, scope: string): string =>
    `{"status":"invalid_token",` +
    `"openid-configuration":"${issuer}/.well-known/openid-configuration","scope":"${scope}"}`;
  for (const [user, wanted] of [
    ['alice', discovery(ISSUER, 'openid')],
    ['bob', discovery('https://b.example/x', 'db openid')],
    ['alice', discovery(ISSUER, 'openid')],
  ] as const) {
    const client = await offered(frontEnd.port, user);
    client.send(initial(first('')));
    t.equal(await challengeOf(client), wanted);
    client.send(kvsep);
    t.strictSame(await client.error(), {
      severity: 'FATAL',
      sqlstate: '28000',
      message: `OAuth bearer authentication failed for user "${user}"`,
    });
    await client.ended();
  }
  t.match(await frontEnd.event({ event: 'login', outcome: 'abandoned' }), {
    level: 'debug',
    reason: 'the client asked where to get a token',
  });
  t.notOk(
    frontEnd.events.some(({ outcome }) => outcome === 'refused'),
    'nobody is refused',
  );
  const metrics = await (await fetch(`http://127.0.0.1:${frontEnd.metricsPort}/metrics`)).text();
  t.match(metrics, /pgsso_logins_total\{method="token",outcome="abandoned",code="",fault=""\} 3/);
  t.notMatch(metrics, /outcome="refused"/);
});

root.test('a client that asks and says no more is closed within seconds', async (t) => {
  const frontEnd = await startWith(t);
  const client = await offered(frontEnd.port);
  client.send(initial(first('')));
  await challengeOf(client);
  t.match(await client.error(), { sqlstate: '28000' });
  await client.ended();
});

root.test('a refusal is told as JSON, and then as by password', async (t) => {
  const frontEnd = await startWith(t, {
    [RULES]: 'host all bob all oauth scope=db\nhost all all all oauth',
    [`${BEARER}.scope`]: 'openid profile',
  });
  const expired = { exp: Math.floor(Date.now() / 1000) - 10 };
  const rows: readonly [string, string, string, string, string, string | undefined][] = [
    // user, auth, status, scope, message, detail
    [
      'alice',
      `Bearer ${token('carol')}`,
      'invalid_token',
      'openid profile',
      'invalid principal',
      'token issued for [carol] and login was for alice',
    ],
    [
      'alice',
      `Bearer ${token('alice', { aud: 'x' })}`,
      'invalid_token',
      'openid profile',
      'invalid audience',
      'token issued with an audience of [x]',
    ],
    [
      'alice',
      `Bearer ${token('alice', expired)}`,
      'invalid_token',
      'openid profile',
      'invalid token',
      'unable to parse token: "exp" not satisfied',
    ],
    [
      'bob',
      `Bearer ${token('bob')}`,
      'insufficient_scope',
      'db',
      'insufficient scope',
      'token issued with a scope of []',
    ],
    [
      'alice',
      'Bearer opaque-token',
      'invalid_token',
      'openid profile',
      'invalid token',
      'token parsing failed: the token is not three parts separated by dots',
    ],
    [
      'alice',
      'Basic YTpi',
      'invalid_token',
      'openid profile',
      'invalid token',
      'token parsing failed: not a bearer token',
    ],
  ];
  for (const [user, auth, status, scope, message, detail] of rows) {
    const client = await offered(frontEnd.port, user);
    client.send(initial(first(auth)));
    const challenge = {
      status,
      'openid-configuration': `${ISSUER}/.well-known/openid-configuration`,
      scope,
    };
    t.equal(await challengeOf(client), JSON.stringify(challenge));
    client.send(kvsep);
    const told = {
      severity: 'FATAL',
      sqlstate: '28000',
      message: `JWT authentication: ${message}`,
      ...(detail !== undefined && { detail }),
    };
    t.strictSame(await client.error(), told);
    await client.ended();
    if (!auth.startsWith('Bearer ey')) continue;
    const other = await RawClient.connect(frontEnd.port);
    other.send(tokenStartup({ user }), password(auth.slice(7)));
    t.strictSame(await other.error(), told, 'the same by password');
    other.close();
  }
});

root.test('messages that break the protocol are refused as by PostgreSQL', async (t) => {
  const frontEnd = await startWith(t);
  const malformed = (detail: string) => ({
    sqlstate: '08P01',
    message: 'malformed OAUTHBEARER message',
    detail,
  });
  const rows: readonly [Buffer, object][] = [
    [initial(''), malformed('The message is empty.')],
    [
      initial('p=x,,\x01auth=\x01\x01'),
      malformed(
        'The server does not support channel binding for OAuth, but the client message ' +
          'includes channel binding data.',
      ),
    ],
    [
      initial('n,a=bob,\x01auth=\x01\x01'),
      {
        sqlstate: '0A000',
        message: 'client uses authorization identity, but it is not supported',
      },
    ],
    [
      initial(first(''), 'SCRAM-SHA-256'),
      {
        sqlstate: '08P01',
        message: 'client selected an invalid SASL authentication mechanism',
      },
    ],
    [
      formatMessage('Q', latin1('SELECT 1\0')),
      { sqlstate: '08P01', message: 'expected SASL response, got message type 81' },
    ],
    [
      Buffer.concat([latin1('p'), int32(70_000)]),
      { sqlstate: '08P01', message: 'invalid message length' },
    ],
  ];
  for (const [message, error] of rows) {
    const client = await offered(frontEnd.port);
    client.send(message);
    t.strictSame(await client.error(), { severity: 'FATAL', ...error });
    client.close();
  }
  for (const auth of ['', `Bearer ${token('carol')}`]) {
    const client = await offered(frontEnd.port);
    client.send(initial(first(auth)));
    await challengeOf(client);
    client.send(formatMessage('p', latin1(first(`Bearer ${token('alice')}`))));
    t.strictSame(
      await client.error(),
      { severity: 'FATAL', ...malformed('Client did not send a kvsep response.') },
      'a second message with a good token does not help',
    );
    client.close();
  }
});

root.test('what is turned off, or has no issuer, is refused before anything is sent', async (t) => {
  const off = await startWith(t, { [`${BEARER}.enabled`]: 'false' });
  const none = await startWith(t, {
    'server.jwt_authentication.issuers.configuration': '',
  });
  for (const [frontEnd, error, reason] of [
    [
      off,
      { sqlstate: '28000', message: 'OAUTHBEARER authentication: not enabled' },
      /decided by server\.oauthbearer_authentication\.enabled$/,
    ],
    [
      none,
      { sqlstate: 'XX000', message: 'OAuth is not properly configured for this user' },
      /server\.oauthbearer_authentication\.issuers/,
    ],
  ] as const) {
    const client = await RawClient.connect(frontEnd.port);
    client.send(startup({ user: 'alice', database: 'postgres' }));
    t.strictSame(await client.error(), { severity: 'FATAL', ...error });
    t.match(await frontEnd.event({ outcome: 'refused' }), { reason });
    client.close();
  }
});

root.test('the settings of OAUTHBEARER count, and those of JWT where they are empty', async (t) => {
  const frontEnd = await startWith(t, {
    'server.jwt_authentication.enabled': 'false',
    [`${BEARER}.audience`]: 'sql',
    [`${BEARER}.claim`]: 'name',
  });
  const good = token('x', { aud: 'sql', name: 'alice' });
  const client = await offered(frontEnd.port);
  client.send(initial(first(`Bearer ${good}`)));
  t.match((await client.until(0x5a)).types, /^RS+KZ$/);
  client.close();

  const wrong = await offered(frontEnd.port);
  wrong.send(initial(first(`Bearer ${token('x', { name: 'alice' })}`)));
  await challengeOf(wrong);
  wrong.send(kvsep);
  t.match(await wrong.error(), { message: 'JWT authentication: invalid audience' });
  t.match(await frontEnd.event({ code: 'invalid_audience' }), {
    reason: /expected one of \[sql\]; decided by server\.oauthbearer_authentication\.audience$/,
  });

  const byPassword = await RawClient.connect(frontEnd.port);
  byPassword.send(tokenStartup({ user: 'alice' }), password(good));
  t.match(await byPassword.error(), { message: 'JWT authentication: not enabled' });
});

root.test('a token by OAUTHBEARER is never sent on as the secret of an OAuth client', async (t) => {
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization);
    response.writeHead(400).end();
  }).listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const frontEnd = await startWith(t, {
    'pgsso.client_credentials.issuer': `http://127.0.0.1:${address.port}`,
  });
  const client = await offered(frontEnd.port);
  client.send(initial(first('Bearer opaque')));
  await challengeOf(client);
  client.send(kvsep);
  t.match(await client.error(), { message: 'JWT authentication: invalid token' });
  t.strictSame(seen, []);
});

root.test(
  'psql 18 signs in by the device flow, on a second connection',
  { skip: withoutPsql18 },
  async (t) => {
    const audience = 'https://db.example';
    const provider = await startPeopleProvider({ audience, scope: 'db' });
    t.teardown(() => provider.stop());
    const frontEnd = await startWith(t, {
      [RULES]: 'host all all all oauth scope=db',
      [`${BEARER}.issuers`]: provider.issuer,
      [`${BEARER}.audience`]: audience,
      [`${BEARER}.jwks_auto_fetch.enabled`]: 'true',
    });
    const conninfo = (more: string): string =>
      `host=127.0.0.1 port=${frontEnd.port} dbname=postgres sslmode=disable ` +
      `oauth_issuer=${provider.issuer} oauth_client_id=${NATIVE_CLIENT} ${more}`;

    const psql = startPsql18(conninfo('user=alice'), 'SELECT session_user');
    const [, address = '', code = ''] = await psql.printed(/Visit (\S+) and enter the code: (\S+)/);
    // The connection that asked is closed from here; libpq would keep it until it has the token.
    await frontEnd.event({ event: 'login', outcome: 'abandoned' });
    await browse(`${address}?user_code=${code}`, 'alice');
    t.equal(await psql.ended, 0, psql.output());
    t.match(psql.output(), /^alice$/m);
    t.match(await frontEnd.event({ outcome: 'accepted' }), { mechanism: 'OAUTHBEARER' });

    const forged = startPsql18(conninfo('user=bob'), 'SELECT session_user');
    const [, link = '', other = ''] = await forged.printed(/Visit (\S+) and enter the code: (\S+)/);
    await browse(`${link}?user_code=${other}`, 'alice');
    t.equal(await forged.ended, 2);
    t.match(forged.output(), /JWT authentication: invalid principal/, 'the person is not bob');
  },
);

root.test(
  'a psql without OAuth fails with words of its own',
  { skip: withoutPsql18 },
  async (t) => {
    const frontEnd = await startWith(t);
    const where = `host=127.0.0.1 port=${frontEnd.port} dbname=postgres`;
    const conninfo = `${where} user=alice sslmode=disable`;
    const psql = startPsql18(conninfo, 'SELECT 1');
    t.equal(await psql.ended, 2);
    t.match(psql.output(), /oauth_issuer/);
    const byToken = startPsql18(
      `${conninfo} password=${token('alice')} options=${JWT_OPTION}`,
      'SELECT 1',
    );
    t.equal(await byToken.ended, 0, byToken.output());
  },
);

root.test(
  'groups of several issuers stand for no role, whichever setting names them',
  async (t) => {
    const socket = `host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
    const frontEnd = await startWith(
      t,
      {
        'server.jwt_authentication.authorization.enabled': 'true',
        [`${BEARER}.issuers`]: JSON.stringify([ISSUER, 'https://partner.example.test']),
      },
      { directory: `postgres://pgsso_directory@/postgres?${socket}` },
    );
    const client = await offered(frontEnd.port);
    client.send(initial(first(`Bearer ${token('alice', { groups: ['readers'] })}`)));
    t.match((await client.until(0x5a)).types, /^RS+KZ$/);
    client.close();
    const { rows } = await database.query(
      "SELECT count(*)::int AS roles FROM pg_auth_members WHERE member = 'alice'::regrole",
    );
    t.strictSame(rows, [{ roles: 0 }]);
  },
);

root.test('the statements of docs/oauth.md run at the console', async (t) => {
  const frontEnd = await startWith(t);
  t.not(await runStatements('oauth.md', frontEnd), 0);
});
