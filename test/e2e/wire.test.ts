/**
 * The client side of the wire before a login: encryption requests, versions, limits and refusals,
 * byte by byte against a real backend.
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
import { password, RawClient, startup, tokenStartup, upgrade } from '../support/raw-client.ts';

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

/** From the startup packet on: how a good token login goes. */
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

t.test('a plain startup', async (t) => {
  const client = await RawClient.connect(plain.port);
  t.equal(await logIn(client), 'RRSKZ');
  client.close();
});

t.test(
  'SSLRequest and GSSENCRequest are refused with N where there is no TLS, in either order, and the login goes on',
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

t.test('GSSENCRequest first, then TLS', async (t) => {
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
  t.match(await client.error(), { severity: 'FATAL', sqlstate: '08P01' });
});

t.test(
  'bytes behind an SSLRequest are refused before S is written and never reach the TLS layer (CVE-2021-23214)',
  async (t) => {
    for (const { port } of [plain, secure]) {
      const client = await RawClient.connect(port);
      client.send(sslRequest, startup({ user: 'mallory' }));
      t.match(await client.error(), {
        sqlstate: '08P01',
        message: 'received unencrypted data after SSL request',
      });
    }
    const client = await RawClient.connect(plain.port);
    client.send(gssRequest, Buffer.from('x'));
    t.match(await client.error(), {
      sqlstate: '08P01',
      message: 'received unencrypted data after GSSAPI encryption request',
    });
  },
);

t.test(
  'a plain startup where TLS is required is refused before a password is asked for',
  async (t) => {
    const client = await RawClient.connect(secure.port);
    client.send(tokenStartup({ user: 'alice' }));
    t.match(await client.error(), {
      severity: 'FATAL',
      sqlstate: '28000',
      hint: /sslmode=require/,
    });
    await client.ended();
  },
);

t.test('a cancel request is taken in plain text where TLS is required', async (t) => {
  const client = await RawClient.connect(secure.port);
  client.send(Buffer.from([0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 1]));
  await client.ended();
  t.match(await secure.event({ event: 'cancel' }), { level: 'debug' });
});

t.test('TLS by SSLRequest, with ALPN and without', async (t) => {
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

t.test('TLS that begins at once needs ALPN postgresql', async (t) => {
  const client = await RawClient.connectDirectTls(secure.port, {
    ...trusting,
    ALPNProtocols: [ALPN_PROTOCOL],
  });
  t.equal(await logIn(client), 'RRSKZ');
  client.close();
  const without = await RawClient.connectDirectTls(secure.port, trusting);
  t.match(await without.error(), { sqlstate: '08P01', message: /without ALPN/ });
  await t.rejects(
    RawClient.connectDirectTls(secure.port, { ...trusting, ALPNProtocols: ['h2'] }),
    'another protocol',
  );
  await t.rejects(
    RawClient.connectTls(secure.port, { ...trusting, ALPNProtocols: ['h2'] }),
    'another protocol',
  );
});

t.test('a TLS hello where there is no TLS is not left hanging', async (t) => {
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
  'a new certificate is used after a reload; a broken one is reported and the old one stays',
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
        'the backend takes what is left',
      );
      client.close();
    }
  },
);

t.test('other major versions are refused with 0A000', async (t) => {
  for (const version of [0x20000, 0x40000]) {
    const client = await RawClient.connect(plain.port);
    client.send(startup({ user: 'alice' }, version));
    t.match(await client.error(), {
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
    t.match(await client.error(), { severity: 'FATAL', sqlstate: '08P01' });
  }
});

t.test('a client that leaves without a byte is not logged', async (t) => {
  const client = await RawClient.connect(plain.port);
  const reset = await RawClient.connect(plain.port);
  const silent = [client, reset].map(({ channel }) => `127.0.0.1:${channel.socket.localPort}`);
  client.channel.socket.end();
  await client.ended();
  reset.channel.socket.resetAndDestroy();
  await waitFor(() =>
    plain.events.some(({ client, outcome }) => client === silent[1] && outcome === 'abandoned'),
  );
  t.notOk(
    plain.events.some(({ client, level }) => silent.includes(String(client)) && level !== 'debug'),
  );
});

t.test(
  'a login that takes too long is ended: with an error once the client has spoken',
  async (t) => {
    const hasty = await startFrontEnd(backend, { loginTimeout: 200 });
    t.teardown(() => hasty.close());
    const silent = await RawClient.connect(hasty.port);
    const waiting = await RawClient.connect(hasty.port);
    waiting.send(tokenStartup({ user: 'alice' }));
    const slow = await RawClient.connect(hasty.port);
    slow.send(Buffer.from([0, 0, 0, 50]));
    await silent.closed();
    t.match(await waiting.error(), {
      sqlstate: '57014',
      message: 'canceling authentication due to timeout',
    });
    t.match(await hasty.event({ code: 'login_timeout' }), { reason: /--login-timeout/ });
    await slow.closed();
    t.notOk(hasty.events.some(({ code, user }) => code === 'login_timeout' && user === undefined));
  },
);

t.test(
  'a flood of connections that say nothing pushes out itself, not somebody who logs in',
  async (t) => {
    const small = await startFrontEnd(backend, { maxLogins: 10 });
    t.teardown(() => small.close());
    const flood = await Promise.all(
      Array.from({ length: 30 }, () => RawClient.connect(small.port)),
    );
    const client = await RawClient.connect(small.port);
    t.equal(await logIn(client), 'RRSKZ');
    const gone = await Promise.race([
      Promise.all(flood.slice(0, 20).map((one) => one.closed())).then(() => true),
      sleep(2000),
    ]);
    t.equal(gone, true, 'the oldest ones were dropped');
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
  t.match(await second.error(), { sqlstate: '53300' });
  first.close();
  await one.event({ event: 'session_end' });
  const third = await RawClient.connect(one.port);
  t.equal(await logIn(third), 'RRSKZ', 'room again');
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

t.test(
  'draining lets sessions finish, takes no new ones, and ends what outstays the time',
  async (t) => {
    const draining = await startFrontEnd(backend, { drainTimeout: 300 });
    const client = await RawClient.connect(draining.port);
    await logIn(client);
    const drained = draining.drain();
    // What waits in the queue of the system is accepted first.
    while (await isAccepted(draining.port));
    client.send(Buffer.from('Q\0\0\0\x0dSELECT 1\0', 'latin1'));
    t.equal((await client.until(BACKEND.readyForQuery)).types, 'TDCZ');
    await drained;
    await client.closed();
    t.match(await draining.event({ event: 'shutdown', level: 'warn' }), {
      sessions: 1,
      msg: /--drain-timeout/,
    });
    await draining.close();
  },
);

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
  t.equal(await Promise.race([closed.then(() => 'closed'), sleep(3000, 'open')]), 'closed');
});

t.test(
  'a client that leaves in the middle of a TLS handshake frees its slot at once',
  async (t) => {
    const few = await startFrontEnd(backend, { tlsCert, tlsKey });
    t.teardown(() => few.close());
    const client = await RawClient.connect(few.port);
    client.send(sslRequest);
    await client.byte();
    client.send(Buffer.from([0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]));
    client.channel.socket.end();
    await client.closed();
    t.match(
      await few
        .event({ outcome: 'abandoned' })
        .catch(() => few.event({ code: 'tls_handshake_failed' })),
      {
        event: 'login',
      },
    );
  },
);

/** TLS over a socket that stays at hand. */
async function tlsOver(port: number): Promise<{ socket: TLSSocket; raw: Socket }> {
  const plainText = await RawClient.connect(port);
  plainText.send(sslRequest);
  await plainText.byte();
  plainText.channel.release();
  const raw = plainText.channel.socket;
  raw.on('error', () => undefined);
  return { socket: await upgrade(connectTls({ socket: raw, ...trusting })), raw };
}

async function waitFor(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 200 && !condition(); tries++) await sleep(10);
  if (!condition()) throw new Error('it did not come about within 2 seconds');
}
