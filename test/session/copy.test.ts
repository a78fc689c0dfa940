/**
 * Both copies on every kind of connection: what one side sends is what the other reads, whatever
 * the sizes and whoever stalls; what is held is bounded; and what is used of Node.js is as it was.
 */
import { createHash, type Hash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';
import t from 'tap';
import { copyByStreams, type Progress, type StartCopy } from '../../src/session/copy.ts';
import { chooseCopy } from '../../src/session/copy-choice.ts';
import { copyByHandles, openInternals } from '../../src/session/copy-handles.ts';
import { type SpliceEnd, splice, type Traffic } from '../../src/session/splice.ts';
import { copies } from '../support/copies.ts';
import { readAll, type SocketPair, socketPair, tlsPair } from '../support/sockets.ts';

const nothing = Buffer.alloc(0);

/** Ends of messages at, below and above the limits of the copy and of TLS records. */
const SIZES = [1, 60, 2047, 2048, 2049, 8192, 16_384, 16_385, 65_536, 65_537, 300_000];

const kinds: readonly (readonly [
  name: string,
  client: () => Promise<SocketPair>,
  backend: () => Promise<SocketPair>,
])[] = [
  ['plain', socketPair, socketPair],
  ['TLS to the client', () => tlsPair('near'), socketPair],
  ['TLS to the backend', socketPair, () => tlsPair('far')],
  ['TLS on both sides', () => tlsPair('near'), () => tlsPair('far')],
  ['TLS 1.2', () => tlsPair('near', { maxVersion: 'TLSv1.2' }), () => tlsPair('far')],
];

/** Sends chunks of many sizes, adds them to the digest and returns how many bytes there were. */
async function sendMuch(to: Socket, hash: Hash): Promise<number> {
  let bytes = 0;
  for (let i = 0; i < 60; i++) {
    const chunk = randomBytes(SIZES[Math.floor(Math.random() * SIZES.length)] ?? 1);
    hash.update(chunk);
    bytes += chunk.length;
    if (!to.write(chunk)) await once(to, 'drain');
    else if (Math.random() < 0.2) await turn();
  }
  return bytes;
}

/** Reads to the end, with pauses. */
async function readSlowly(from: Socket): Promise<Hash> {
  const hash = createHash('sha256');
  from.on('data', (bytes: Buffer) => {
    hash.update(bytes);
    if (Math.random() > 0.05) return;
    from.pause();
    setTimeout(() => from.resume(), Math.random() * 10);
  });
  await once(from, 'end');
  return hash;
}

/** Begins a session between the near ends. Errors of the far ends are expected. */
function begin(
  copy: StartCopy,
  client: SocketPair,
  backend: SocketPair,
  { first = nothing, peerTimeout = 20_000 } = {},
): { traffic: Traffic; ended: Promise<SpliceEnd> } {
  for (const { far } of [client, backend]) far.on('error', () => undefined);
  const traffic: Traffic = { toBackend: 0, toClient: 0 };
  const ahead = { toClient: first, toBackend: nothing };
  const ended = splice(client.near, backend.near, traffic, { copy, peerTimeout, ahead });
  return { traffic, ended };
}

for (const [name, copy] of copies) {
  t.test(`${name}: every byte arrives both ways, and so does each end`, async (t) => {
    for (const [kind, openClient, openBackend] of kinds) {
      const [client, backend] = [await openClient(), await openBackend()];
      const first = randomBytes(40_000);
      const { traffic, ended } = begin(copy, client, backend, { first });
      const read = [readSlowly(backend.far), readSlowly(client.far)];
      const [up, down] = [createHash('sha256'), createHash('sha256').update(first)];
      const answered = sendMuch(backend.far, down);
      const sent = await sendMuch(client.far, up);
      client.far.end();
      await read[0];
      // The client has ended its direction, and the answer goes on.
      const last = randomBytes(100_000);
      const toClient = (await answered) + last.length;
      down.update(last);
      backend.far.end(last);
      const digests = (await Promise.all(read)).map((hash) => hash.digest('hex'));
      const end = await ended;
      t.strictSame(
        { digests, traffic, end, closed: [client.near.destroyed, backend.near.destroyed] },
        {
          digests: [up.digest('hex'), down.digest('hex')],
          traffic: { toBackend: sent, toClient },
          end: { endedBy: 'client', error: undefined },
          closed: [true, true],
        },
        kind,
      );
    }
  });

  t.test(`${name}: bytes that come one by one arrive in order`, async (t) => {
    for (const [kind, openClient, openBackend] of kinds) {
      const [client, backend] = [await openClient(), await openBackend()];
      const { ended } = begin(copy, client, backend);
      const received = [readAll(backend.far), readAll(client.far)];
      const bytes = randomBytes(200);
      for (const { far } of [client, backend]) far.setNoDelay(true);
      for (const byte of bytes) {
        for (const { far } of [client, backend]) far.write(Buffer.from([byte]));
        await turn();
      }
      client.far.end();
      await received[0];
      backend.far.end();
      const found = await Promise.all(received);
      t.ok(
        found.every((got) => got.equals(bytes)),
        kind,
      );
      await ended;
    }
  });

  t.test(`${name}: a reset in the middle of bulk ends both sides`, async (t) => {
    for (const [kind, openClient, openBackend] of kinds) {
      for (const victim of ['client', 'backend'] as const) {
        const ends = { client: await openClient(), backend: await openBackend() };
        const { ended } = begin(copy, ends.client, ends.backend);
        for (const { far } of [ends.client, ends.backend])
          far.on('data', () => undefined).write(Buffer.alloc(4_000_000));
        await once(ends[victim].far, 'data');
        ends[victim].raw.resetAndDestroy();
        const { endedBy } = await ended;
        const { client, backend } = ends;
        t.strictSame(
          [endedBy, client.near.destroyed, backend.near.destroyed],
          [victim, true, true],
          `${kind}, ${victim}`,
        );
        for (const { far } of [client, backend]) far.destroy();
      }
    }
  });

  t.test(`${name}: a peer that takes nothing is ended, with TLS too`, async (t) => {
    for (const [kind, openClient, openBackend] of kinds.slice(1, 3)) {
      const [client, backend] = [await openClient(), await openBackend()];
      const { ended } = begin(copy, client, backend, { peerTimeout: 200 });
      client.far.pause();
      backend.far.write(Buffer.alloc(32 * 1024 * 1024));
      t.match(await ended, { endedBy: 'client', error: { name: 'PeerStalled' } }, kind);
      for (const { far } of [client, backend]) far.destroy();
    }
  });

  t.test(`${name}: 500 clients that do not read hold little memory`, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'pgsso-copy-'));
    let sockets = 0;
    const open = (): Promise<SocketPair> => socketPair(join(directory, `${sockets++}`));
    const held: Progress[] = [];
    const watched: StartCopy = (from, to, first, events) =>
      copy(from, to, first, {
        counted: (bytes) => events.counted(bytes),
        held(progress) {
          held.push(progress);
          events.held(progress);
        },
        freed: () => events.freed(),
      });
    // Sockets of this kind have buffers of 200 kB, which the kernel does not enlarge.
    const begun = Array.from({ length: 500 }, async () => {
      const [client, backend] = [await open(), await open()];
      client.far.pause();
      return { pairs: [client, backend], ...begin(watched, client, backend) };
    });
    const sessions = await Promise.all(begun);
    const before = process.memoryUsage();
    const much = Buffer.alloc(1_000_000);
    for (const { pairs } of sessions) pairs[1]?.far.write(much);
    while (held.length < 500) await sleep(10);
    const { arrayBuffers } = process.memoryUsage();
    const largest = Math.max(...held.map((progress) => progress.waiting()));
    t.ok(largest <= 128 * 1024, `at most ${largest} bytes wait`);
    const each = (arrayBuffers - before.arrayBuffers) / 500;
    t.ok(each <= 256 * 1024, `${each} bytes of buffers a session`);
    for (const { pairs } of sessions) for (const { far } of pairs) far.destroy();
    await Promise.all(sessions.map(({ ended }) => ended));
    rmSync(directory, { recursive: true });
  });
}

t.test('a client cannot renegotiate TLS 1.2', async (t) => {
  for (const [name, copy] of copies) {
    const client = await tlsPair('near', { maxVersion: 'TLSv1.2' });
    const backend = await socketPair();
    const { ended } = begin(copy, client, backend);
    const { far } = client;
    if (!(far instanceof TLSSocket)) throw new Error('no TLS');
    const failed = new Promise((resolve) => far.once('error', resolve));
    far.renegotiate({}, () => undefined);
    t.match(await failed, { code: 'ERR_SSL_NO_RENEGOTIATION' }, name);
    await ended;
    backend.far.destroy();
  }
});

t.test('what comes for a socket that is gone ends the other one', async (t) => {
  const internals = openInternals();
  if (!internals) throw new Error('this Node.js has no binding stream_wrap');
  const [client, backend] = [await socketPair(), await socketPair()];
  const events = { counted: () => undefined, held: () => undefined, freed: () => undefined };
  copyByHandles(internals)(backend.near, client.near, nothing, events);
  for (const { far, near } of [client, backend])
    for (const socket of [far, near]) socket.on('error', () => undefined);
  client.near.destroy();
  // The handle is gone some turns behind the event.
  await once(client.near, 'close');
  for (let turns = 0; turns < 5; turns++) await turn();
  const closed = once(backend.near, 'close');
  backend.far.write('x');
  await closed;
  t.ok(backend.near.destroyed);
  for (const { far } of [client, backend]) far.destroy();
});

t.test('this Node.js is one whose handles are known, and they are used', async (t) => {
  const choice = await chooseCopy('auto');
  t.match(choice, { name: 'handles', problem: undefined });
  t.match(await chooseCopy('streams'), { name: 'streams', start: copyByStreams });
});

t.test('without the binding, or in another version, streams are used', async (t) => {
  t.match(openInternals(), { kReadBytesOrError: Number, kLastWriteWasAsync: Number });
  const binding = t.intercept(process as unknown as { binding: unknown }, 'binding', {
    value: () => ({}),
  });
  t.match(await chooseCopy('auto'), { name: 'streams', problem: /no stream_wrap/ });
  binding.restore();
  t.intercept(process, 'versions', { value: { ...process.versions, node: '99.0.0' } });
  t.match(await chooseCopy('auto'), { name: 'streams', problem: 'not tested with Node.js 99' });
});
