/** Cancel requests: which hosts they go to, and how their connection ends. */

import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { serialize } from 'pg-protocol';
import type { Test } from 'tap';
import t from 'tap';
import { cancelQuery } from '../../src/backend/cancel.ts';
import { connectAs } from '../../src/backend/connect.ts';
import { trust } from '../../src/backend/credentials.ts';
import { CancelKeys } from '../../src/session/cancel.ts';
import { BACKEND } from '../../src/wire/constants.ts';
import { formatMessage } from '../../src/wire/messages.ts';
import { formatCancel } from '../../src/wire/startup.ts';
import {
  authentication,
  type FakeBackend,
  openTarget,
  parameterStatus,
  readyForQuery,
  startFake,
} from '../backend/fake-backend.ts';
import { makeAuthority } from '../support/certificates.ts';
import { type FrontEnd, startFrontEnd, token } from '../support/front-end.ts';
import { password, RawClient, tokenStartup } from '../support/raw-client.ts';

const signal = new AbortController().signal;
const CANCEL_CODE = '04d2162e';

/** A backend that logs everybody in with one key, and collects the cancel requests. */
async function startBackend(
  t: Test,
  key: string,
): Promise<FakeBackend & { readonly cancels: string[] }> {
  const cancels: string[] = [];
  const backend = await startFake(async (peer) => {
    const packet = (await peer.packet()).toString('hex');
    if (packet.startsWith(CANCEL_CODE)) {
      cancels.push(packet.slice(CANCEL_CODE.length));
      return;
    }
    await peer.send(
      authentication(0),
      parameterStatus('is_superuser', 'off'),
      formatMessage('K', Buffer.from(key, 'hex')),
      readyForQuery,
    );
    await peer.closed();
  });
  t.teardown(() => backend.close());
  return { ...backend, cancels };
}

async function logIn({ port }: FrontEnd, database: string): Promise<RawClient> {
  const client = await RawClient.connect(port);
  client.send(tokenStartup({ user: 'alice', database }));
  await client.until(BACKEND.authentication);
  client.send(password(token('alice')));
  await client.until(BACKEND.readyForQuery);
  return client;
}

async function cancel({ port }: FrontEnd, key: string): Promise<void> {
  const client = await RawClient.connect(port);
  client.send(formatCancel(Buffer.from(key, 'hex')));
  await client.ended();
  client.close();
}

t.test("a backend cannot replay another route's cancel key", async (t) => {
  const [one, two] = ['0000000100000002', '0000000300000004'];
  const [sales, billing] = [await startBackend(t, one), await startBackend(t, two)];
  const frontEnd = await startFrontEnd(undefined, {
    routes: [sales, billing].map(
      ({ port }, index) =>
        `${['sales', 'billing'][index]}=postgres://127.0.0.1:${port}/?sslmode=disable`,
    ),
  });
  t.teardown(() => frontEnd.close());
  const session = await logIn(frontEnd, 'sales');
  await cancel(frontEnd, one);
  t.strictSame([sales.cancels, billing.cancels], [[one], []], 'a known key goes to its host only');
  await cancel(frontEnd, 'ffffffff00000000');
  t.equal(sales.cancels.length + billing.cancels.length, 3, 'an unknown one goes to each');
  session.close();
  await frontEnd.event({ event: 'session_end' });
  await cancel(frontEnd, one);
  t.same([sales.cancels.length, billing.cancels.length], [3, 2], 'forgotten with its session');
});

t.test('a key that two hosts issued by chance goes to both', async (t) => {
  const target = await openTarget('postgres://127.0.0.1:1,127.0.0.1:2/?sslmode=disable');
  const keys = new CancelKeys();
  const cancelKey = Buffer.from('0000000100000002', 'hex');
  const packet = formatCancel(cancelKey);
  const holders = target.url.hosts.map((address) => ({ target, address, cancelKey }));
  for (const holder of holders) keys.add(holder);
  keys.add({ target, address: { ...target.url.hosts[0], port: 3 } as never, cancelKey: undefined });
  const ports = (): number[] | undefined => keys.find(packet)?.map(({ address }) => address.port);
  t.strictSame(ports(), [1, 2]);
  const [first, second] = holders;
  if (!first || !second) throw new Error('there are two hosts');
  keys.remove(first);
  keys.remove(first);
  t.strictSame(ports(), [2]);
  keys.remove(second);
  t.equal(ports(), undefined);
});

t.test('a session cancels its own query, and waits as long as it is told', async (t) => {
  const key = '0000000700000008';
  const backend = await startBackend(t, key);
  const target = await backend.target();
  const parameters = [{ name: 'user', value: Buffer.from('alice') }];
  const session = await connectAs({ target, credentials: trust, parameters, signal });
  t.match(await cancelQuery(session, signal), { failure: undefined });
  t.strictSame(backend.cancels, [key]);
  const frozen = await startFake((peer) => peer.closed());
  t.teardown(() => frozen.close());
  const stuck = { ...session, target: await frozen.target() };
  const [address] = stuck.target.url.hosts;
  const soon = AbortSignal.timeout(50);
  t.match(await cancelQuery({ ...stuck, ...(address && { address }) }, soon), {
    failure: /timeout/,
  });
  t.equal(await cancelQuery({ ...session, cancelKey: undefined }, signal), undefined);
  session.channel.destroy();
});

t.test('a cancel request over TLS ends with close_notify', async (t) => {
  const files = await mkdtemp(join(tmpdir(), 'pgsso-cancel-'));
  t.teardown(() => rm(files, { recursive: true }));
  const authority = makeAuthority();
  const { cert, key } = authority.issue({ cn: 'x', san: ['127.0.0.1'], usage: 'server' });
  const [tlsCert, tlsKey] = [join(files, 'server.crt'), join(files, 'server.key')];
  await writeFile(tlsCert, cert);
  await writeFile(tlsKey, key);
  const backend = await startBackend(t, '0000000100000002');
  const url = `postgres://127.0.0.1:${backend.port}/?sslmode=disable`;
  const frontEnd = await startFrontEnd(url, { tlsCert, tlsKey });
  t.teardown(() => frontEnd.close());

  const received: Buffer[] = [];
  const proxy = createServer((client) => {
    const server = connect({ port: frontEnd.port, host: '127.0.0.1' });
    server.on('data', (chunk) => received.push(chunk));
    server.on('error', () => client.destroy());
    client.on('error', () => server.destroy());
    server.pipe(client).pipe(server);
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.teardown(() => proxy.close());

  // In TLS 1.2 the type of a record is not encrypted.
  const { port } = proxy.address() as AddressInfo;
  const plain = await RawClient.connect(port);
  plain.send(serialize.requestSsl());
  await plain.byte();
  plain.channel.release();
  const { socket } = plain.channel;
  const secure = connectTls({
    socket,
    ca: authority.cert,
    host: '127.0.0.1',
    maxVersion: 'TLSv1.2',
  });
  await once(secure, 'secureConnect');
  secure.write(formatCancel(Buffer.from('0000000100000002', 'hex')));
  secure.resume();
  await once(secure, 'end');
  const bytes = Buffer.concat(received).subarray(1);
  const types: (number | undefined)[] = [];
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3))
    types.push(bytes[at]);
  t.equal(types.at(-1), 21, `the last record is an alert: ${types}`);
  secure.destroy();
});
