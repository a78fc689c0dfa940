/** Peers that take nothing any more while bytes wait for them (--tcp-user-timeout). */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { StartCopy } from '../../src/session/copy.ts';
import { type SpliceEnd, splice } from '../../src/session/splice.ts';
import { copies } from '../support/copies.ts';
import { socketPair } from '../support/sockets.ts';

/** More than the kernel takes for both connections. */
const MUCH = Buffer.alloc(32 * 1024 * 1024);

interface Spliced {
  readonly client: Socket;
  readonly backend: Socket;
  readonly ended: Promise<SpliceEnd>;
}

async function start(copy: StartCopy, peerTimeout: number): Promise<Spliced> {
  const left = await socketPair();
  const right = await socketPair();
  const traffic = { toBackend: 0, toClient: 0 };
  const ended = splice(left.near, right.near, traffic, {
    copy,
    peerTimeout,
    ahead: { toClient: Buffer.alloc(0), toBackend: Buffer.alloc(0) },
  });
  for (const socket of [left.far, right.far]) socket.on('error', () => undefined);
  return { client: left.far, backend: right.far, ended };
}

for (const [name, copy] of copies) {
  t.test(`${name}: a client that takes nothing is ended, and its backend with it`, async (t) => {
    const { client, backend, ended } = await start(copy, 200);
    client.pause();
    const closed = new Promise((resolve) => backend.once('close', resolve));
    backend.write(MUCH);
    const { endedBy, error } = await ended;
    t.equal(endedBy, 'client');
    t.match(error?.message, /took no byte for 200 ms .* --tcp-user-timeout/);
    await closed;
  });

  t.test(`${name}: a backend that takes nothing is ended likewise`, async (t) => {
    const { client, backend, ended } = await start(copy, 200);
    backend.pause();
    client.write(MUCH);
    t.match(await ended, { endedBy: 'backend', error: { name: 'PeerStalled' } });
  });

  t.test(`${name}: a reader that takes some bytes now and then is not ended`, async (t) => {
    const { client, backend, ended } = await start(copy, 2000);
    client.pause();
    backend.end(MUCH);
    let received = 0;
    client.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    client.pause();
    // Longer than the limit in all, with pauses that are shorter than it. Each time the reader
    // takes enough for its kernel to tell the sender.
    for (let round = 1; round <= 24; round++) {
      client.resume();
      while (received < round * 1024 * 1024) await sleep(1);
      client.pause();
      await sleep(100);
    }
    client.resume();
    await once(client, 'end');
    t.equal(received, MUCH.length);
    client.end();
    t.match(await ended, { endedBy: 'backend', error: undefined });
  });

  t.test(`${name}: without a limit nobody is ended`, async (t) => {
    const { client, backend, ended } = await start(copy, 0);
    client.pause();
    backend.write(MUCH);
    await sleep(300);
    t.notOk(backend.destroyed);
    t.notOk(client.destroyed);
    client.destroy();
    await ended;
  });
}
