/**
 * The client's side of the protocol before a login, byte by byte: requests for encryption, protocol
 * versions, limits and refusals.
 */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { serialize } from 'pg-protocol';
import t from 'tap';
import { ALPN_PROTOCOL, BACKEND } from '../../src/wire/constants.ts';
import { makeAuthority } from '../support/certificates.ts';
import { startFrontEnd, token } from '../support/front-end.ts';
import { startPostgres } from '../support/postgres.ts';
import {
  password,
  query,
  RawClient,
  startup,
  tokenStartup,
  upgrade,
} from '../support/raw-client.ts';

const sslRequest = serialize.requestSsl();
const gssRequest = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30]);
const authority = makeAuthority();
const database = await startPostgres({ initSql: ['CREATE ROLE alice LOGIN'] });
t.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;

const files = await mkdtemp(join(tmpdir(), 'pgsso-tls-'));
t.teardown(() => rm(files, { recursive: true }));
const tlsCert = join(files, 'server.crt');
const tlsKey = join(files, 'server.key');
async function writeCertificate(cn: string): Promise<void> {
  const { cert, key } = authority.issue({ cn, san: ['localhost', '127.0.0.1'], usage: 'server' });
  await writeFile(tlsCert, cert);
  await writeFile(tlsKey, key);
}
await writeCertificate('first');

const plain = await startFrontEnd(backend);
t.teardown(() => plain.close());
const secure = await startFrontEnd(backend, { clientTls: 'require', tlsCert, tlsKey });
t.teardown(() => secure.close());
const trusting = { ca: authority.cert, host: '127.0.0.1' };

/** Logs in with a token. Returns the types of the messages, with one S for all of them. */
async function logIn(
  client: RawClient,
  version?: number,
  extra: Record<string, string> = {},
): Promise<string> {
  client.send(tokenStartup({ user: 'alice', ...extra }, version));
  const { types } = await client.until(BACKEND.authentication);
  client.send(password(token('alice')));
  return types + (await client.until(BACKEND.readyForQuery)).types.replace(/S+/, 'S');
}

/** The refusal that comes next. The client then closes, so that the front-end need not wait. */
async function refusal(client: RawClient): ReturnType<RawClient['error']> {
  const error = await client.error();
  client.close();
  return error;
}

t.test('a login in plain text', async (t) => {
  const client = await RawClient.connect(plain.port);
  t.equal(await logIn(client), 'RRSKZ');
  client.close();
});

t.test(
  'SSLRequest and GSSENCRequest are answered with N without TLS, and the login goes on',
  async (t) => {
    for (const requests of [[sslRequest, gssRequest], [gssRequest, sslRequest], [gssRequest]]) {
      const client = await RawClient.connect(plain.port);
      for (const request of requests) {
        client.send(request);
        t.equal(await client.byte(), 0x4e);
      }
      t.equal(await logIn(client), 'RRSKZ');
      client.close();
    }
  },
);

t.test('GSSENCRequest may be followed by SSLRequest', async (t) => {
  const client = await RawClient.connect(secure.port);
  client.send(gssRequest);
  t.equal(await client.byte(), 0x4e);
  client.send(sslRequest);
  t.equal(await client.byte(), 0x53);
  client.close();
});

t.test('a request that is repeated is refused', async (t) => {
  const client = await RawClient.connect(plain.port);
  client.send(sslRequest);
  await client.byte();
  client.send(sslRequest);
  t.match(await refusal(client), { severity: 'FATAL', sqlstate: '08P01' });
});

t.test(
  'bytes behind an SSLRequest are refused and never reach the TLS layer (CVE-2021-23214)',
  async (t) => {
    for (const { port } of [plain, secure]) {
      const client = await RawClient.connect(port);
      client.send(sslRequest, startup({ user: 'mallory' }));
      t.match(await refusal(client), {
        sqlstate: '08P01',
        message: 'received unencrypted data after SSL request',
      });
    }
    const client = await RawClient.connect(plain.port);
    client.send(gssRequest, Buffer.from('x'));
    t.match(await refusal(client), {
      sqlstate: '08P01',
      message: 'received unencrypted data after GSSAPI encryption request',
    });
  },
);

t.test(
  'a plain startup is refused before a password is asked for if TLS is required',
  async (t) => {
    const client = await RawClient.connect(secure.port);
    client.send(tokenStartup({ user: 'alice' }));
    t.match(await client.error(), {
      severity: 'FATAL',
      sqlstate: '28000',
      hint: /sslmode=require/,
    });
    await client.ended();
    client.close();
  },
);

t.test('a cancel request is accepted in plain text even if TLS is required', async (t) => {
  const client = await RawClient.connect(secure.port);
  client.send(Buffer.from([0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 1]));
  await client.ended();
  t.match(await secure.event({ event: 'cancel' }), { level: 'debug' });
});

t.test('SSLRequest begins TLS with and without ALPN', async (t) => {
  for (const ALPNProtocols of [undefined, [ALPN_PROTOCOL], ['h2', ALPN_PROTOCOL]]) {
    const client = await RawClient.connectTls(secure.port, {
      ...trusting,
      ...(ALPNProtocols && { ALPNProtocols }),
    });
    t.equal(await logIn(client), 'RRSKZ');
    client.close();
  }
  t.match(await secure.event({ event: 'login', outcome: 'accepted' }), { transport: 'TLSv1.3' });
});

t.test('direct TLS needs the ALPN protocol postgresql', async (t) => {
  const client = await RawClient.connectDirectTls(secure.port, {
    ...trusting,
    ALPNProtocols: [ALPN_PROTOCOL],
  });
  t.equal(await logIn(client), 'RRSKZ');
  client.close();
  const without = await RawClient.connectDirectTls(secure.port, trusting);
  t.match(await refusal(without), { sqlstate: '08P01', message: /without ALPN/ });
  await t.rejects(
    RawClient.connectDirectTls(secure.port, { ...trusting, ALPNProtocols: ['h2'] }),
    'another protocol',
  );
  await t.rejects(
    RawClient.connectTls(secure.port, { ...trusting, ALPNProtocols: ['h2'] }),
    'another protocol',
  );
});

t.test('direct TLS is answered at a front-end without TLS', async (t) => {
  await t.rejects(
    RawClient.connectDirectTls(plain.port, { ...trusting, ALPNProtocols: [ALPN_PROTOCOL] }),
  );
});

t.test('TLS below 1.2 is refused', async (t) => {
  const old = {
    ...trusting,
    minVersion: 'TLSv1',
    maxVersion: 'TLSv1.1',
    ciphers: 'DEFAULT@SECLEVEL=0',
  } as const;
  await t.rejects(RawClient.connectTls(secure.port, old));
  const client = await RawClient.connectTls(secure.port, { ...trusting, maxVersion: 'TLSv1.2' });
  t.equal(await logIn(client), 'RRSKZ');
  client.close();
  t.match(await secure.event({ code: 'tls_handshake_failed' }), { reason: String });
});

t.test(
  'a new certificate is used after a reload, and a broken one is reported and not used',
  async (t) => {
    await writeCertificate('second');
    await secure.reload();
    const second = await RawClient.connectTls(secure.port, trusting);
    const subject = (client: RawClient): unknown =>
      'getPeerCertificate' in client.channel.socket &&
      (client.channel.socket as TLSSocket).getPeerCertificate().subject.CN;
    t.equal(subject(second), 'second');
    second.close();
    await writeFile(tlsCert, 'broken');
    await secure.reload();
    t.match(await secure.event({ event: 'reload', level: 'error' }), { reason: /--tls-cert/ });
    const still = await RawClient.connectTls(secure.port, trusting);
    t.equal(subject(still), 'second');
    still.close();
    await writeCertificate('third');
  },
);

t.test(
  'a version above 3.0 and protocol options are negotiated down before authentication',
  async (t) => {
    const rows: [number, Record<string, string>, string[]][] = [
      [0x30002, {}, []],
      [0x30001, {}, []],
      [
        0x30000 + 9999,
        { '_pq_.test_protocol_negotiation': '' },
        ['_pq_.test_protocol_negotiation'],
      ],
      [0x30000, { '_pq_.a': '1', '_pq_.b': '2' }, ['_pq_.a', '_pq_.b']],
    ];
    for (const [version, parameters, names] of rows) {
      const client = await RawClient.connect(plain.port);
      client.send(tokenStartup({ user: 'alice', ...parameters }, version));
      const message = await client.message();
      t.equal(message?.type, BACKEND.negotiateProtocolVersion);
      t.equal(message?.body.readUInt32BE(0), 0x30000);
      t.equal(message?.body.readUInt32BE(4), names.length);
      t.equal(message?.body.subarray(8).toString(), names.map((name) => `${name}\0`).join(''));
      t.equal((await client.message())?.type, BACKEND.authentication);
      client.send(password(token('alice')));
      t.match(
        (await client.until(BACKEND.readyForQuery)).types,
        /^RS+KZ$/,
        'the backend accepts the rest',
      );
      client.close();
    }
  },
);

t.test('other major versions are refused with 0A000', async (t) => {
  for (const version of [0x20000, 0x40000]) {
    const client = await RawClient.connect(plain.port);
    client.send(startup({ user: 'alice' }, version));
    t.match(await refusal(client), {
      severity: 'FATAL',
      sqlstate: '0A000',
      message: /^unsupported frontend protocol/,
    });
  }
});

t.test('malformed startup packets are refused with 08P01', async (t) => {
  const oversized = Buffer.from([0, 0, 0x27, 0x15, 0, 3, 0, 0]);
  for (const bytes of [
    oversized,
    Buffer.from([0, 0, 0, 3]),
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    startup({ user: 'a' }).fill(1, 10),
  ]) {
    const client = await RawClient.connect(plain.port);
    client.send(bytes);
    t.match(await refusal(client), { severity: 'FATAL', sqlstate: '08P01' });
  }
});

t.test('a client that leaves without sending a byte is not logged', async (t) => {
  const client = await RawClient.connect(plain.port);
  const reset = await RawClient.connect(plain.port);
  const silent = [client, reset].map(({ channel }) => `127.0.0.1:${channel.socket.localPort}`);
  client.channel.socket.end();
  await client.ended();
  reset.channel.socket.resetAndDestroy();
  t.ok(await plain.event({ client: silent[1], outcome: 'abandoned' }));
  t.notOk(
    plain.events.some(({ client, level }) => silent.includes(String(client)) && level !== 'debug'),
  );
});

t.test(
  'a login that takes too long is ended, with an error if the client sent a startup packet',
  async (t) => {
    const hasty = await startFrontEnd(backend, { loginTimeout: 500 });
    t.teardown(() => hasty.close());
    const waiting = await RawClient.connect(hasty.port);
    waiting.send(tokenStartup({ user: 'alice' }));
    const silent = await RawClient.connect(hasty.port);
    const slow = await RawClient.connect(hasty.port);
    slow.send(Buffer.from([0, 0, 0, 50]));
    await silent.closed();
    t.match(await refusal(waiting), {
      sqlstate: '57014',
      message: 'canceling authentication due to timeout',
    });
    t.match(await hasty.event({ code: 'login_timeout' }), { reason: /--login-timeout/ });
    await slow.closed();
    t.notOk(hasty.events.some(({ code, user }) => code === 'login_timeout' && user === undefined));
  },
);

t.test(
  'a flood of silent connections drops its own oldest ones, and not a client that logs in',
  async (t) => {
    const small = await startFrontEnd(backend, { maxLogins: 10 });
    t.teardown(() => small.close());
    const flood = await Promise.all(
      Array.from({ length: 30 }, () => RawClient.connect(small.port)),
    );
    const client = await RawClient.connect(small.port);
    t.equal(await logIn(client), 'RRSKZ');
    await Promise.all(flood.slice(0, 20).map((one) => one.closed()));
    t.pass('the oldest ones were dropped');
    t.match(await small.event({ event: 'logins_dropped' }), { count: Number });
    for (const one of [client, ...flood]) one.close();
  },
);

t.test('sessions above --max-sessions are refused with 53300', async (t) => {
  const one = await startFrontEnd(backend, { maxSessions: 1 });
  t.teardown(() => one.close());
  const first = await RawClient.connect(one.port);
  await logIn(first);
  const second = await RawClient.connect(one.port);
  second.send(tokenStartup({ user: 'alice' }), password(token('alice')));
  t.match(await refusal(second), { sqlstate: '53300' });
  first.close();
  await one.event({ event: 'session_end' });
  const third = await RawClient.connect(one.port);
  t.equal(await logIn(third), 'RRSKZ', 'there is room again');
  third.close();
});

/** Whether a connection is accepted. */
async function isAccepted(port: number): Promise<boolean> {
  try {
    (await RawClient.connect(port)).close();
    return true;
  } catch {
    return false;
  }
}

t.test('a draining front-end lets sessions finish, and accepts no new ones', async (t) => {
  const draining = await startFrontEnd(backend, { drainTimeout: 3_600_000 });
  const client = await RawClient.connect(draining.port);
  await logIn(client);
  const drained = draining.drain();
  // What waits in the queue of the system is accepted first.
  while (await isAccepted(draining.port));
  client.send(query('SELECT 1'));
  t.equal((await client.until(BACKEND.readyForQuery)).types, 'TDCZ');
  client.close();
  await drained;
  await draining.close();
});

t.test('sessions that are still open when the drain time-out is over are ended', async (t) => {
  const draining = await startFrontEnd(backend, { drainTimeout: 50 });
  const client = await RawClient.connect(draining.port);
  await logIn(client);
  await draining.drain();
  await client.closed();
  t.match(await draining.event({ event: 'shutdown', level: 'warn' }), {
    sessions: 1,
    msg: /--drain-timeout/,
  });
  await draining.close();
});

t.test('a TLS client that is reset ends its session and gives its place back', async (t) => {
  const two = await startFrontEnd(backend, { tlsCert, tlsKey, maxSessions: 2 });
  t.teardown(() => two.close());
  for (let i = 0; i < 6; i++) {
    const { socket, raw } = await tlsOver(two.port);
    const client = new RawClient(socket);
    t.equal(await logIn(client), 'RRSKZ', `login ${i}`);
    if (i % 2) raw.resetAndDestroy();
    else client.close();
    await waitFor(() => two.events.filter(({ event }) => event === 'session_end').length === i + 1);
  }
});

t.test('a broken TLS record after the handshake ends the connection', async (t) => {
  const { socket, raw } = await tlsOver(secure.port);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket
    .on('error', () => undefined)
    .on('end', () => socket.destroy())
    .resume();
  raw.write(Buffer.concat([Buffer.from([0x17, 3, 3, 0, 64]), Buffer.alloc(64, 7)]));
  await closed;
  t.pass('closed');
});

t.test('a client that leaves in the middle of a TLS handshake frees its slot', async (t) => {
  const few = await startFrontEnd(backend, { tlsCert, tlsKey });
  t.teardown(() => few.close());
  const client = await RawClient.connect(few.port);
  client.send(sslRequest);
  await client.byte();
  client.send(Buffer.from([0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]));
  client.channel.socket.end();
  await client.closed();
  // Either the TLS layer or the socket is the first to notice.
  const { outcome, code } = await few.event({ event: 'login' });
  t.ok(outcome === 'abandoned' || code === 'tls_handshake_failed', `${outcome} ${code}`);
});

/** A TLS connection, and the TCP socket below it. */
async function tlsOver(port: number): Promise<{ socket: TLSSocket; raw: Socket }> {
  const plainText = await RawClient.connect(port);
  plainText.send(sslRequest);
  await plainText.byte();
  plainText.channel.release();
  const raw = plainText.channel.socket;
  raw.on('error', () => undefined);
  return { socket: await upgrade(connectTls({ socket: raw, ...trusting })), raw };
}

/** Resolves when the condition is true. The time limit of the file ends a wait in vain. */
async function waitFor(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10);
}
