/**
 * The copy: every byte once and in order, FIN and reset passed on as each deserves, and no socket
 * left.
 */

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import { type SpliceEnd, splice, type Traffic } from '../../src/session/splice.ts';
import { readAll, socketPair } from '../support/sockets.ts';

interface Spliced {
  readonly client: Socket;
  readonly backend: Socket;
  readonly traffic: Traffic;
  readonly ended: Promise<SpliceEnd>;
  readonly inner: readonly Socket[];
}

async function start(before?: (client: Socket, inner: Socket) => Promise<void>): Promise<Spliced> {
  const left = await socketPair();
  const right = await socketPair();
  await before?.(left.far, left.near);
  const traffic: Traffic = { toBackend: 0, toClient: 0 };
  const ended = splice(left.near, right.near, traffic, 0);
  for (const socket of [left.far, right.far]) socket.on('error', () => undefined);
  return { client: left.far, backend: right.far, traffic, ended, inner: [left.near, right.near] };
}

function digest(bytes: Buffer): string {
  return createHash('md5').update(bytes).digest('hex');
}

t.test('bytes pass both ways, whole and in order, with a reader that stalls', async (t) => {
  const { client, backend, traffic, ended } = await start();
  const down = randomBytes(8 * 1024 * 1024);
  const up = randomBytes(3 * 1024 * 1024);
  backend.end(down);
  client.write(up);
  const received: Buffer[] = [];
  backend.on('data', (chunk: Buffer) => received.push(chunk));
  client.pause();
  await new Promise((resolve) => setTimeout(resolve, 50));
  const got = await readAll(client);
  t.equal(digest(got), digest(down));
  client.end();
  t.match(await ended, { endedBy: 'backend', error: undefined });
  t.equal(traffic.toClient, down.length);
});

t.test('a reader that does not read holds up its writer and costs no memory', async (t) => {
  const { client, backend, ended, inner } = await start();
  client.pause();
  let written = 0;
  const chunk = Buffer.alloc(64 * 1024);
  while (written < 64 * 1024 * 1024 && backend.write(chunk)) written += chunk.length;
  await new Promise((resolve) => setTimeout(resolve, 100));
  for (const socket of inner)
    t.ok(
      socket.writableLength + socket.readableLength < 512 * 1024,
      `${socket.writableLength} bytes are held`,
    );
  client.destroy();
  await ended;
});

t.test("a client's FIN is passed on and the answer still comes", async (t) => {
  const { client, backend, ended } = await start();
  client.end('query');
  t.equal((await readAll(backend)).toString(), 'query');
  backend.end('answer');
  t.equal((await readAll(client)).toString(), 'answer');
  t.match(await ended, { endedBy: 'client', error: undefined });
});

t.test(
  "a backend's FIN ends the session after its last byte, even when the client says nothing more",
  async (t) => {
    const { client, backend, ended, inner } = await start();
    backend.end('last words');
    t.equal((await readAll(client)).toString(), 'last words');
    t.match(await ended, { endedBy: 'backend' });
    for (const socket of inner) t.ok(socket.destroyed);
  },
);

t.test('a reset of either end takes the other one down within a second', async (t) => {
  for (const victim of ['client', 'backend'] as const) {
    const spliced = await start();
    const other = victim === 'client' ? spliced.backend : spliced.client;
    spliced.client.resume();
    spliced.backend.resume();
    spliced[victim].write('x');
    await once(other, 'data');
    const started = Date.now();
    spliced[victim].resetAndDestroy();
    t.match(await spliced.ended, { endedBy: victim });
    for (const socket of spliced.inner) t.ok(socket.destroyed);
    t.ok(Date.now() - started < 1000);
    other.destroy();
  }
});

t.test(
  'what a client still sends to a backend that has gone is dropped, and it gets the last words',
  async (t) => {
    const { client, backend, ended } = await start();
    client.on('data', () => undefined);
    backend.end('FATAL');
    backend.resume();
    client.write(Buffer.alloc(1024 * 1024));
    t.match(await ended, { endedBy: 'backend' });
    client.destroy();
  },
);

t.test('a FIN that came during the login is passed on, too', async (t) => {
  const { client, backend, ended } = await start(async (early, inner) => {
    early.end();
    inner.read(0);
    await once(inner, 'end');
  });
  t.equal((await readAll(backend)).length, 0);
  backend.end('answer');
  t.equal((await readAll(client)).toString(), 'answer');
  t.match(await ended, { endedBy: 'client' });
});
