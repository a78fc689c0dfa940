import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import t from 'tap';
import { allHosts, forwardCancel } from '../../src/backend/cancel.ts';
import { connectAs } from '../../src/backend/connect.ts';
import type { BackendSession } from '../../src/backend/connection.ts';
import { type Credentials, passwordCredentials, trust } from '../../src/backend/credentials.ts';
import { BackendRefusal } from '../../src/backend/errors.ts';
import { logInNatively } from '../../src/backend/native-login.ts';
import type { BackendTarget } from '../../src/backend/target.ts';
import type { PasswordMethod } from '../../src/backend/url.ts';
import { PgError } from '../../src/lib/errors.ts';
import { formatMessage } from '../../src/wire/messages.ts';
import { makeAuthority } from '../support/certificates.ts';
import {
  authentication,
  backendError,
  connectClient,
  type ErrorFields,
  type FakeBackend,
  greeting,
  openTarget,
  type Peer,
  parameterStatus,
  readyForQuery,
  startFake,
} from './fake-backend.ts';

const signal = new AbortController().signal;
const authenticationOk = authentication(0);
const parameters = [
  { name: 'user', value: Buffer.from('alice') },
  { name: 'application_name', value: Buffer.from([0x61, 0xff]) },
];
const authority = makeAuthority();
const server = authority.issue({ cn: 'db', san: ['localhost', '127.0.0.1'], usage: 'server' });

async function fake(t: Test, script: (peer: Peer) => Promise<void>): Promise<FakeBackend> {
  const backend = await startFake(script);
  t.teardown(() => backend.close());
  return backend;
}

/** A fake that reads the startup packet, runs the script, and waits until the other side closes. */
async function afterStartup(t: Test, script: (peer: Peer) => Promise<void>): Promise<FakeBackend> {
  return fake(t, async (peer) => {
    await peer.packet();
    await script(peer);
    await peer.closed();
  });
}

const login = (target: BackendTarget, credentials: Credentials = trust): Promise<BackendSession> =>
  connectAs({ target, credentials, parameters, signal });

const withPassword = (...methods: PasswordMethod[]): Credentials =>
  passwordCredentials(new Set(methods), () => Buffer.from('secret'));

async function refusal(login: Promise<unknown>): Promise<PgError> {
  const error = await login.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (error instanceof PgError) return error;
  throw error ?? new Error('the login succeeded');
}

/** Waits until the fake has seen the end of every connection. */
async function allClosed(backend: FakeBackend): Promise<boolean> {
  for (let attempt = 0; attempt < 200; attempt++) {
    if ((await backend.connections()) === 0) return true;
    await sleep(5);
  }
  return false;
}

t.test(
  'the startup packet has the parameters unchanged, and the greeting is returned unchanged',
  async (t) => {
    let startup: Buffer = Buffer.alloc(0);
    const notice = formatMessage('N', Buffer.from('SNOTICE\0C00000\0Mhello\0\0'));
    const whole = Buffer.concat([
      authenticationOk,
      parameterStatus('TimeZone', 'UTC'),
      notice,
      greeting,
    ]);
    const backend = await fake(t, async (peer) => {
      startup = await peer.packet();
      for (const byte of whole) await peer.send(Buffer.from([byte]));
      await peer.send(parameterStatus('TimeZone', 'CET'));
      await peer.closed();
    });
    const session = await login(await backend.target());
    t.same(startup, Buffer.from('\0\x03\0\0user\0alice\0application_name\0a\xff\0\0', 'latin1'));
    t.same(session.greeting, whole);
    t.equal(session.isSuperuser, 'off');
    t.equal(session.host, `127.0.0.1:${backend.port}`);
    session.channel.destroy();
  },
);

t.test('bytes that the backend sends behind its greeting are not lost', async (t) => {
  const behind = parameterStatus('TimeZone', 'CET');
  const backend = await afterStartup(t, (peer) => peer.send(authenticationOk, greeting, behind));
  const { channel } = await login(await backend.target());
  t.same(channel.release(), behind);
  channel.destroy();
});

t.test('a user is a superuser if any report says so', async (t) => {
  const cases: [string[], 'on' | 'off' | undefined][] = [
    [[], undefined],
    [['off'], 'off'],
    [['on'], 'on'],
    [['on', 'off'], 'on'],
    [['off', 'on'], 'on'],
    [['maybe'], 'on'],
  ];
  for (const [reports, expected] of cases) {
    const statuses = reports.map((value) => parameterStatus('is_superuser', value));
    const backend = await afterStartup(t, (peer) =>
      peer.send(authenticationOk, ...statuses, readyForQuery),
    );
    const session = await login(await backend.target());
    t.equal(session.isSuperuser, expected, reports.join(', then '));
    session.channel.destroy();
  }
});

t.test(
  'a refusal of the user is forwarded, and a refusal of the front-end is masked',
  async (t) => {
    const cases: [string, ErrorFields, boolean][] = [
      ['no such database', { C: '3D000', M: 'database "x" does not exist' }, true],
      ['too many connections', { C: '53300', M: 'sorry, too many clients already' }, true],
      ['starting up', { C: '57P03', M: 'the database system is starting up' }, true],
      [
        'no such role',
        {
          C: '28000',
          M: 'role "alice" does not exist',
          F: 'miscinit.c',
          R: 'InitializeSessionUserId',
        },
        true,
      ],
      [
        'the same in another language',
        { C: '28000', M: 'Rolle »alice« existiert nicht', R: 'InitializeSessionUserId' },
        true,
      ],
      [
        'no login privilege on CockroachDB',
        { C: '28000', M: 'alice does not have login privilege' },
        true,
      ],
      [
        'wrong password',
        { C: '28P01', M: 'password authentication failed for user "alice"', R: 'auth_failed' },
        false,
      ],
      [
        'no pg_hba line',
        { C: '28000', M: 'no pg_hba.conf entry for host "10.0.0.1"', R: 'ClientAuthentication' },
        false,
      ],
      [
        'certificate',
        { C: '28000', M: 'certificate authentication failed for user "alice"', R: 'auth_failed' },
        false,
      ],
      ['of unknown origin', { C: '28000', M: 'no' }, false],
    ];
    for (const [name, fields, forwarded] of cases) {
      for (const before of [[], [authenticationOk]]) {
        const raw = backendError(fields);
        const backend = await afterStartup(t, (peer) => peer.send(...before, raw));
        const error = await refusal(login(await backend.target()));
        if (forwarded) {
          t.ok(error instanceof BackendRefusal && error.raw.equals(raw), name);
          t.match(error, { sqlstate: fields.C, message: fields.M, fault: 'backend' }, name);
        } else {
          t.match(
            error,
            {
              sqlstate: '28000',
              message: 'the backend did not admit alice through this front-end',
              fault: 'us',
            },
            name,
          );
          t.match(error.reason, fields.M, name);
          t.match(error.reason, '--backend-auth trust', name);
        }
        t.ok(await allClosed(backend), name);
      }
    }
  },
);

t.test('a backend that breaks the protocol is disconnected, whatever it sends', async (t) => {
  const huge = Buffer.from([0x53, 0x7f, 0xff, 0xff, 0xff]);
  const status = parameterStatus('x', 'y'.repeat(60_000));
  const cases: [string, Buffer[], string][] = [
    ['an end', [], '08006'],
    ['an end in a message', [Buffer.from([0x52, 0, 0])], '08006'],
    ['an end in the greeting', [authenticationOk, parameterStatus('a', 'b')], '08006'],
    ['no authentication', [readyForQuery], '08P01'],
    ['a notice before authentication', [formatMessage('N', Buffer.from([0]))], '08P01'],
    ['a huge request', [Buffer.from([0x52, 0x7f, 0xff, 0xff, 0xff])], '08P01'],
    ['a length below its own', [Buffer.from([0x52, 0, 0, 0, 3])], '08P01'],
    ['a request without a code', [formatMessage('R')], '08P01'],
    ['HTTP', [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')], '08P01'],
    ['a huge message in the greeting', [authenticationOk, huge], '08P01'],
    [
      'an endless greeting',
      [authenticationOk, ...Array.from({ length: 20 }, () => status)],
      '08P01',
    ],
    ['a row in the greeting', [authenticationOk, formatMessage('D', Buffer.from([0, 0]))], '08P01'],
    [
      'a ParameterStatus that is none',
      [authenticationOk, formatMessage('S', Buffer.from('x'))],
      '08P01',
    ],
    ['NegotiateProtocolVersion for 3.0', [formatMessage('v', Buffer.alloc(8))], '08P01'],
  ];
  for (const [name, messages, sqlstate] of cases) {
    const backend = await fake(t, async (peer) => {
      await peer.packet();
      await peer.send(...messages);
    });
    const error = await refusal(login(await backend.target()));
    t.match(error, { sqlstate, fault: 'backend' }, name);
    t.notMatch(
      `${error.message}${error.detail}${error.hint}`,
      /127\.0\.0\.1/,
      `${name}: no address for the client`,
    );
    t.match(
      error.reason ?? '',
      sqlstate === '08006' ? '127.0.0.1' : /./,
      `${name}: a reason for the log`,
    );
    t.ok(await allClosed(backend), `${name}: no connection left`);
  }
});

t.test('--backend-auth trust answers no request', async (t) => {
  for (const code of [3, 5, 7, 10]) {
    const backend = await afterStartup(t, (peer) =>
      peer.send(authentication(code, 'SCRAM-SHA-256\0\0')),
    );
    const error = await refusal(login(await backend.target()));
    t.match(error, {
      sqlstate: '28000',
      message: 'the backend did not admit alice through this front-end',
      fault: 'us',
    });
    t.match(error.reason, /asks for a credential .*--backend-auth is trust/);
  }
});

t.test(
  '--backend-auth password sends a password only if require_auth and the connection allow it',
  async (t) => {
    const scram = authentication(10, 'SCRAM-SHA-256\0\0');
    const cases: [string, Buffer, PasswordMethod[], RegExp][] = [
      [
        'nothing asked',
        authenticationOk,
        ['scram-sha-256', 'md5', 'password'],
        /asked for no credential/,
      ],
      [
        'in clear, not listed',
        authentication(3),
        ['scram-sha-256', 'md5'],
        /asks for password; require_auth is scram-sha-256,md5/,
      ],
      [
        'in clear, without TLS',
        authentication(3),
        ['password'],
        /in clear, and TLS was not verified/,
      ],
      ['md5, not listed', authentication(5, 'salt'), ['scram-sha-256', 'password'], /asks for md5/],
      ['SCRAM, not listed', scram, ['md5'], /asks for scram-sha-256; require_auth is md5/],
      ['GSS', authentication(7), ['scram-sha-256', 'md5', 'password'], /asks for gss/],
    ];
    for (const [name, request, methods, reason] of cases) {
      let answered = false;
      const backend = await afterStartup(t, async (peer) => {
        await peer.send(request);
        answered = await peer.receive().then(
          () => true,
          () => false,
        );
      });
      const error = await refusal(login(await backend.target(), withPassword(...methods)));
      t.match(error, { sqlstate: '28000', fault: 'us', reason }, name);
      t.ok(await allClosed(backend), name);
      t.notOk(answered, `${name}: nothing was sent`);
    }
    for (const password of [undefined, Buffer.alloc(0)]) {
      const backend = await afterStartup(t, (peer) => peer.send(scram));
      const error = await refusal(
        login(
          await backend.target(),
          passwordCredentials(new Set(['scram-sha-256']), () => password),
        ),
      );
      t.match(error, {
        sqlstate: '28000',
        reason: /there is no password for .* database alice, user alice/,
      });
    }
  },
);

t.test('a backend has to prove that it knows the password', async (t) => {
  const offer = authentication(10, 'SCRAM-SHA-256\0\0');
  const first = async (peer: Peer, iterations = '4096'): Promise<Buffer> => {
    await peer.send(offer);
    const nonce = /r=(.*)$/.exec((await peer.receive()).body.toString())?.[1];
    return authentication(11, `r=${nonce}x,s=c2FsdA==,i=${iterations}`);
  };
  const cases: [string, (peer: Peer) => Promise<void>, RegExp][] = [
    [
      'a wrong signature',
      async (peer) => {
        await peer.send(await first(peer));
        await peer.receive();
        await peer.send(
          authentication(12, `v=${Buffer.alloc(32).toString('base64')}`),
          authenticationOk,
          greeting,
        );
      },
      /did not prove/,
    ],
    [
      'no signature',
      async (peer) => {
        await peer.send(await first(peer));
        await peer.receive();
        await peer.send(authenticationOk, greeting);
      },
      /unexpected authentication request: ok/,
    ],
    [
      'no exchange',
      async (peer) => peer.send(await first(peer).then(() => authenticationOk), greeting),
      /unexpected .*: ok/,
    ],
    [
      'too many iterations',
      async (peer) => peer.send(await first(peer, '2000000')),
      /2000000 iterations/,
    ],
    [
      'another mechanism',
      (peer) => peer.send(authentication(10, 'OAUTHBEARER\0\0')),
      /none can be used/,
    ],
    ['no mechanism', (peer) => peer.send(authentication(10)), /none can be used/],
    [
      'channel binding without TLS',
      (peer) => peer.send(authentication(10, 'SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0')),
      /without TLS/,
    ],
  ];
  for (const [name, script, reason] of cases) {
    const backend = await afterStartup(t, script);
    const error = await refusal(login(await backend.target(), withPassword('scram-sha-256')));
    t.match(error, { sqlstate: '08P01', fault: 'backend', reason }, name);
    t.ok(await allClosed(backend), name);
  }
});

t.test(
  'the next host is tried if one cannot be reached, and the client does not see their addresses',
  async (t) => {
    const backend = await afterStartup(t, (peer) => peer.send(authenticationOk, greeting));
    const gone = await startFake(async () => {});
    await gone.close();
    const second = await openTarget(
      `postgres://127.0.0.1:${gone.port},127.0.0.1:${backend.port}/?sslmode=disable`,
    );
    const session = await login(second);
    t.equal(session.host, `127.0.0.1:${backend.port}`);
    session.channel.destroy();

    const error = await refusal(
      login(
        await openTarget(
          `postgres://127.0.0.1:${gone.port},localhost:${gone.port}/?sslmode=disable`,
        ),
      ),
    );
    t.match(error, {
      sqlstate: '08001',
      message: 'could not connect to the backend',
      fault: 'backend',
    });
    t.match(
      error.reason,
      new RegExp(
        `127\\.0\\.0\\.1:${gone.port}: connect ECONNREFUSED.*; localhost:${gone.port}: connect`,
      ),
    );
    t.notMatch(`${error.message}${error.hint}`, /127|localhost/);
    t.match(await refusal(login(await openTarget('postgres:///?host=/nowhere'))), {
      sqlstate: '08001',
      reason: /ENOENT/,
    });
  },
);

t.test('exactly one byte answers SSLRequest', async (t) => {
  const cases: [string, Buffer, RegExp][] = [
    ['no TLS', Buffer.from('N'), /the server has no TLS, and sslmode is require/],
    ['bytes behind the S', Buffer.from('SE'), /unencrypted data/],
    ['bytes behind the N', Buffer.from('NR'), /unencrypted data/],
    [
      'a login behind the S',
      Buffer.concat([Buffer.from('S'), authenticationOk, greeting]),
      /unencrypted data/,
    ],
    ['an error', backendError({ C: '53300', M: 'too many' }), /unencrypted data/],
    ['an error in pieces', Buffer.from('E'), /byte 0x45/],
    ['nothing', Buffer.alloc(0), /closed the connection at SSLRequest/],
  ];
  for (const [name, answer, reason] of cases) {
    const backend = await fake(t, async (peer) => {
      await peer.packet();
      await peer.send(answer);
      if (answer.length > 0) await peer.closed();
    });
    const target = await openTarget(`postgres://127.0.0.1:${backend.port}/?sslmode=require`);
    t.match(await refusal(login(target)), { sqlstate: '08001', reason }, name);
    t.ok(await allClosed(backend), name);
  }
});

t.test('TLS is verified as sslmode says', async (t) => {
  const ca = t.testdir({
    'ca.pem': authority.cert,
    'other.pem': makeAuthority().cert,
    'no.pem': 'none',
  });
  const named = authority.issue({ cn: 'localhost', san: ['localhost'], usage: 'server' });
  const expired = authority.issue({
    cn: 'db',
    san: ['127.0.0.1'],
    notAfter: new Date(Date.now() - 1000),
  });
  const early = authority.issue({
    cn: 'db',
    san: ['127.0.0.1'],
    notBefore: new Date(Date.now() + 3_600_000),
  });
  const cases: [string, typeof server, string, RegExp | undefined][] = [
    ['not valid yet', early, `sslmode=verify-full&sslrootcert=${ca}/ca.pem`, /not yet valid/],
    ['require takes any', makeAuthority().issue({ cn: 'x' }), 'sslmode=require', undefined],
    ['prefer takes any', makeAuthority().issue({ cn: 'x' }), 'sslmode=prefer', undefined],
    ['verify-full', server, `sslmode=verify-full&sslrootcert=${ca}/ca.pem`, undefined],
    [
      'verify-full, another name',
      named,
      `sslmode=verify-full&sslrootcert=${ca}/ca.pem`,
      /IP: 127.0.0.1 is not in the cert/,
    ],
    ['verify-ca, another name', named, `sslmode=verify-ca&sslrootcert=${ca}/ca.pem`, undefined],
    [
      'verify-ca, another authority',
      server,
      `sslmode=verify-ca&sslrootcert=${ca}/other.pem`,
      /certificate/,
    ],
    [
      'require with an authority is verify-ca',
      server,
      `sslmode=require&sslrootcert=${ca}/other.pem`,
      /certificate/,
    ],
    ['verify-full by the system', server, 'sslmode=verify-full', /certificate/],
    ['an expired certificate', expired, `sslmode=verify-full&sslrootcert=${ca}/ca.pem`, /expired/],
  ];
  for (const [name, certificate, query, reason] of cases) {
    for (const direct of [false, true]) {
      if (direct && query.includes('prefer')) continue;
      const backend = await fake(t, async (peer) => {
        if (!direct) {
          await peer.packet();
          await peer.send(Buffer.from('S'));
        }
        peer.startTls({ ...certificate, ALPNProtocols: ['postgresql'] });
        await peer.packet();
        await peer.send(authenticationOk, greeting);
        await peer.closed();
      });
      const negotiation = direct ? '&sslnegotiation=direct' : '';
      const attempt = login(
        await openTarget(`postgres://127.0.0.1:${backend.port}/?${query}${negotiation}`),
      );
      if (reason)
        t.match(await refusal(attempt), { sqlstate: '08001', reason }, `${name}${negotiation}`);
      else (await attempt).channel.destroy();
      t.ok(await allClosed(backend), `${name}${negotiation}`);
    }
  }
  await t.rejects(openTarget(`postgres://db/?sslrootcert=${ca}/no.pem`), {
    sqlstate: 'F0000',
    message: /no certificate/,
  });
  await t.rejects(openTarget(`postgres://db/?sslrootcert=${ca}/absent.pem`), {
    sqlstate: 'F0000',
    message: /sslrootcert .*ENOENT/,
  });
});

t.test(
  'without SSLRequest the server has to choose the protocol, and another one is refused',
  async (t) => {
    const cases: [string, string[] | undefined, string, RegExp | undefined][] = [
      ['asked, none', undefined, '', undefined],
      ['direct, none', undefined, '&sslnegotiation=direct', /no protocol by ALPN/],
      ['asked, another', ['http/1.1'], '', /./],
      ['direct, another', ['http/1.1'], '&sslnegotiation=direct', /./],
    ];
    for (const [name, ALPNProtocols, query, reason] of cases) {
      const backend = await fake(t, async (peer) => {
        if (query === '') {
          await peer.packet();
          await peer.send(Buffer.from('S'));
        }
        peer.startTls(ALPNProtocols ? { ...server, ALPNProtocols } : server);
        await peer.packet();
        await peer.send(authenticationOk, greeting);
        await peer.closed();
      });
      const attempt = login(
        await openTarget(`postgres://127.0.0.1:${backend.port}/?sslmode=require${query}`),
      );
      if (reason) t.match(await refusal(attempt), { sqlstate: '08001', reason }, name);
      else (await attempt).channel.destroy();
    }
  },
);

t.test('a login ends with its signal, or with the connect timeout, at any step', async (t) => {
  const places: [string, string, (peer: Peer) => Promise<void>][] = [
    ['at SSLRequest', 'require', (peer) => peer.closed()],
    [
      'in the handshake',
      'require',
      (peer) =>
        peer
          .packet()
          .then(() => peer.send(Buffer.from('S')))
          .then(() => peer.closed()),
    ],
    ['at the startup packet', 'disable', (peer) => peer.closed()],
    [
      'in the greeting',
      'disable',
      (peer) =>
        peer
          .packet()
          .then(() => peer.send(authenticationOk))
          .then(() => peer.closed()),
    ],
  ];
  for (const [name, sslmode, script] of places) {
    const backend = await fake(t, script);
    const controller = new AbortController();
    const target = await openTarget(`postgres://127.0.0.1:${backend.port}/?sslmode=${sslmode}`);
    const attempt = connectAs({
      target,
      credentials: trust,
      parameters,
      signal: controller.signal,
    });
    setTimeout(() => controller.abort(new Error('time is up')), 30);
    await t.rejects(attempt, { message: 'time is up' }, name);
    t.ok(await allClosed(backend), name);
  }
  await t.rejects(
    connectAs({
      target: await openTarget('postgres://127.0.0.1:1'),
      credentials: trust,
      parameters,
      signal: AbortSignal.abort(new Error('gone')),
    }),
    { message: 'gone' },
  );
  const silent = await fake(t, (peer) => peer.closed());
  const target = await openTarget(
    `postgres://127.0.0.1:${silent.port}/?sslmode=require&connect_timeout=1`,
  );
  t.match(await refusal(login(target)), { sqlstate: '08001', reason: /connect timeout/ });
});

/** A native login at a fake, with the client's side of it. */
async function nativeLogin(
  t: Test,
  script: (peer: Peer) => Promise<void>,
): Promise<{
  backend: FakeBackend;
  client: Peer;
  result: Promise<BackendSession | undefined>;
  answered: () => number;
}> {
  const backend = await afterStartup(t, script);
  const { client, frontEnd } = await connectClient();
  t.teardown(() => {
    client.channel.destroy();
    frontEnd.destroy();
  });
  const target = await backend.target();
  let answers = 0;
  const answered = (): void => void answers++;
  const result = logInNatively({
    target,
    parameters,
    client: frontEnd,
    clientTls: false,
    answered,
    signal,
  });
  result.catch(() => {});
  return { backend, client, result, answered: () => answers };
}

t.test('a native login for which the backend asks nothing is refused', async (t) => {
  for (const before of [[], [authentication(12, 'v=x')]]) {
    const { backend, result } = await nativeLogin(t, (peer) =>
      peer.send(...before, authenticationOk, greeting),
    );
    const error = await refusal(result);
    t.match(error, {
      sqlstate: '28000',
      message: 'native login refused: the backend asked for no credential',
    });
    t.ok(await allClosed(backend));
  }
});

t.test('a native login relays requests and answers unchanged', async (t) => {
  // The first step of several proves nothing.
  const requests: [Buffer, number][] = [
    [authentication(3), 1],
    [authentication(5, 'salt'), 1],
    [authentication(7), 0],
    [authentication(9), 0],
    [authentication(10, 'X\0\0'), 0],
  ];
  for (const [request, proofs] of requests) {
    const answers: Buffer[] = [];
    const { client, result, answered } = await nativeLogin(t, async (peer) => {
      await peer.send(request);
      answers.push((await peer.receive()).bytes);
      await peer.send(authenticationOk, greeting);
    });
    t.same((await client.receive()).bytes, request);
    t.equal(answered(), 0);
    const answer = formatMessage('p', Buffer.from('an answer\0'));
    await client.send(answer);
    const session = await result;
    t.same(answers, [answer]);
    t.equal(answered(), proofs);
    t.same(session?.greeting, Buffer.concat([authenticationOk, greeting]));
    session?.channel.destroy();
  }
});

t.test(
  'the last message of a GSS exchange needs no answer, and early bytes of the client are not lost',
  async (t) => {
    const { client, result } = await nativeLogin(t, async (peer) => {
      await peer.send(authentication(7));
      await peer.receive();
      await peer.send(authentication(8, 'one'));
      await peer.receive();
      await peer.send(authentication(8, 'two'));
      await peer.send(authenticationOk, greeting);
    });
    await client.receive();
    await client.send(formatMessage('p', Buffer.from('a')));
    await client.receive();
    await client.send(formatMessage('p', Buffer.from('b')));
    const session = await result;
    t.same((await client.receive()).body.subarray(4).toString(), 'two');
    t.ok(session);
    session?.channel.destroy();
  },
);

t.test('a client that leaves at the password prompt is not an error', async (t) => {
  for (const leave of ['end', 'resetAndDestroy'] as const) {
    const { backend, client, result } = await nativeLogin(t, (peer) =>
      peer.send(authentication(3)),
    );
    await client.receive();
    client.channel.socket[leave]();
    t.equal(await result, undefined, leave);
    t.ok(await allClosed(backend), leave);
  }
});

t.test('a client that sends Terminate at the prompt has left', async (t) => {
  const { backend, client, result } = await nativeLogin(t, (peer) => peer.send(authentication(3)));
  await client.receive();
  await client.send(formatMessage('X'));
  t.equal(await result, undefined);
  t.ok(await allClosed(backend));
});

t.test(
  'a client may only answer with a password message of at most its maximum length',
  async (t) => {
    const cases: [string, Buffer][] = [
      ['a query', formatMessage('Q', Buffer.from('select 1\0'))],
      ['a password that is too long', formatMessage('p', Buffer.alloc(65_536))],
    ];
    for (const [name, answer] of cases) {
      const { backend, client, result } = await nativeLogin(t, (peer) =>
        peer.send(authentication(3)),
      );
      await client.receive();
      await client.send(answer);
      t.match(await refusal(result), { sqlstate: '08P01', fault: 'client' }, name);
      t.ok(await allClosed(backend), name);
    }
  },
);

t.test('a native login is refused in the words of the backend', async (t) => {
  const raw = backendError({ C: '28P01', M: 'password authentication failed for user "alice"' });
  const { client, result } = await nativeLogin(t, async (peer) => {
    await peer.send(authentication(3));
    await peer.receive();
    await peer.send(raw);
  });
  await client.receive();
  await client.send(formatMessage('p', Buffer.from('wrong\0')));
  const error = await refusal(result);
  t.ok(error instanceof BackendRefusal && error.raw.equals(raw));
});

t.test('channel binding is removed from the offer for a client without TLS', async (t) => {
  const { client, result } = await nativeLogin(t, (peer) =>
    peer.send(authentication(10, 'SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0')),
  );
  t.same((await client.receive()).bytes, authentication(10, 'SCRAM-SHA-256\0\0'));
  client.channel.destroy();
  t.equal(await result, undefined);
});

t.test('a native login ends when the backend closes, and with its signal', async (t) => {
  const { client, result } = await nativeLogin(t, async (peer) => {
    await peer.send(authentication(3));
    await peer.receive();
    peer.channel.destroy();
  });
  await client.receive();
  await client.send(formatMessage('p', Buffer.from('pw\0')));
  t.match(await refusal(result), { sqlstate: '08006', fault: 'backend' });

  const backend = await afterStartup(t, (peer) => peer.send(authentication(3)));
  const { frontEnd } = await connectClient();
  const controller = new AbortController();
  const target = await backend.target();
  const attempt = logInNatively({
    target,
    parameters,
    client: frontEnd,
    clientTls: false,
    answered: () => {},
    signal: controller.signal,
  });
  setTimeout(() => controller.abort(new Error('time is up')), 30);
  await t.rejects(attempt, { message: 'time is up' });
  t.ok(await allClosed(backend));
  frontEnd.destroy();
});

t.test(
  'a cancel request reaches every host and ends when each has closed the connection',
  async (t) => {
    const packet = Buffer.from('0000001004d2162e0000000100000002', 'hex');
    const received: string[] = [];
    let done = 0;
    const answering = async (peer: Peer): Promise<void> => {
      received.push((await peer.packet()).toString('hex'));
      await sleep(20);
      done++;
    };
    const [one, two, silent] = [
      await fake(t, answering),
      await fake(t, answering),
      await fake(t, (peer) => peer.closed()),
    ];
    const gone = await startFake(async () => {});
    await gone.close();
    const hosts = [one, two, gone, silent].map(({ port }) => `127.0.0.1:${port}`);
    const outcomes = await forwardCancel(
      allHosts(await openTarget(`postgres://${hosts}/?sslmode=disable`)),
      packet,
      AbortSignal.timeout(1000),
    );
    t.equal(done, 2);
    t.same(received, [packet.subarray(4).toString('hex'), packet.subarray(4).toString('hex')]);
    t.same(
      outcomes.map(({ host }) => host),
      hosts,
    );
    t.match(
      outcomes.map(({ failure }) => failure),
      [undefined, undefined, /ECONNREFUSED/, /timeout/],
    );
    t.ok(await allClosed(silent));
  },
);
