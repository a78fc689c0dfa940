/**
 * The two-way copy between a client and its backend: every byte arrives once and in order, FIN and
 * reset are passed on, and no socket is left open.
 */

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Progress, StartCopy } from '../../src/session/copy.ts';
import { type SpliceEnd, splice, type Traffic } from '../../src/session/splice.ts';
import { copies } from '../support/copies.ts';
import { readAll, socketPair } from '../support/sockets.ts';

interface Spliced {
  readonly client: Socket;
  readonly backend: Socket;
  readonly traffic: Traffic;
  readonly ended: Promise<SpliceEnd>;
  /** The ends that are spliced, the client's first. */
  readonly inner: readonly [Socket, Socket];
  /** Whether the backend is not read because bytes wait for the client. */
  isHeld(): boolean;
  /** Bytes that wait for the client. */
  waiting(): number;
}

const nothing = Buffer.alloc(0);

/** @param before what happens on the client's connection before the copy begins */
async function start(
  copy: StartCopy,
  before?: (client: Socket, inner: Socket) => Promise<void>,
): Promise<Spliced> {
  const left = await socketPair();
  const right = await socketPair();
  await before?.(left.far, left.near);
  const traffic: Traffic = { toBackend: 0, toClient: 0 };
  let isHeld = false;
  let down: Progress | undefined;
  const watched: StartCopy = (from, to, first, events) => {
    const held = (progress: Progress): void => {
      if (to === left.near) isHeld = true;
      events.held(progress);
    };
    const freed = (): void => {
      if (to === left.near) isHeld = false;
      events.freed();
    };
    const counted = (bytes: number): void => events.counted(bytes);
    const started = copy(from, to, first, { counted, held, freed });
    if (to === left.near) down = started;
    return started;
  };
  const ended = splice(left.near, right.near, traffic, {
    copy: watched,
    peerTimeout: 0,
    ahead: { toClient: nothing, toBackend: nothing },
  });
  for (const socket of [left.far, right.far]) socket.on('error', () => undefined);
  return {
    client: left.far,
    backend: right.far,
    traffic,
    ended,
    inner: [left.near, right.near],
    isHeld: () => isHeld,
    waiting: () => down?.waiting() ?? 0,
  };
}

/** The time-outs that a test's copy sets. They end when the test calls them, and not by time. */
function holdTimeouts(t: Test): (() => void)[] {
  const timeouts: (() => void)[] = [];
  const hold = (end: () => void): object => ({ number: timeouts.push(end) });
  t.intercept(globalThis, 'setTimeout', { value: hold });
  return timeouts;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

function digest(bytes: Buffer): string {
  return createHash('md5').update(bytes).digest('hex');
}

for (const [name, copy] of copies) {
  t.test(
    `${name}: bytes pass both ways complete and in order, even if a reader stalls`,
    async (t) => {
      const { client, backend, traffic, ended, isHeld } = await start(copy);
      const down = randomBytes(8 * 1024 * 1024);
      const up = randomBytes(3 * 1024 * 1024);
      backend.end(down);
      client.write(up);
      const received: Buffer[] = [];
      backend.on('data', (chunk: Buffer) => received.push(chunk));
      client.pause();
      await until(isHeld);
      const got = await readAll(client);
      t.equal(digest(got), digest(down));
      client.end();
      t.match(await ended, { endedBy: 'backend', error: undefined });
      t.equal(traffic.toClient, down.length);
    },
  );

  t.test(
    `${name}: a client that does not read stops the backend and costs no memory`,
    async (t) => {
      const { client, backend, ended, isHeld, waiting, inner } = await start(copy);
      client.pause();
      // More than the system holds for both connections.
      backend.write(Buffer.alloc(64 * 1024 * 1024));
      await until(isHeld);
      await sleep(100); // A copy that does not stop reads on in this time.
      t.ok(backend.writableLength > 0, 'the backend is held up');
      const held = inner.reduce((sum, socket) => sum + socket.readableLength, waiting());
      t.ok(held < 256 * 1024, `${held} bytes are held`);
      client.destroy();
      await ended;
    },
  );

  t.test(`${name}: a client's FIN is passed on, and the answer still arrives`, async (t) => {
    const { client, backend, ended } = await start(copy);
    client.end('query');
    t.equal((await readAll(backend)).toString(), 'query');
    backend.end('answer');
    t.equal((await readAll(client)).toString(), 'answer');
    t.match(await ended, { endedBy: 'client', error: undefined });
  });

  t.test(
    `${name}: a backend's FIN ends the session behind its last byte, though no client closes`,
    async (t) => {
      const timeouts = holdTimeouts(t);
      const { client, backend, ended, inner } = await start(copy);
      backend.end('last words');
      t.equal((await readAll(client)).toString(), 'last words');
      await until(() => timeouts.length > 0);
      timeouts[0]?.();
      t.match(await ended, { endedBy: 'backend' });
      for (const socket of inner) t.ok(socket.destroyed);
    },
  );

  t.test(`${name}: a reset of either end closes the other one without a time-out`, async (t) => {
    const timeouts = holdTimeouts(t);
    for (const victim of ['client', 'backend'] as const) {
      const spliced = await start(copy);
      const other = victim === 'client' ? spliced.backend : spliced.client;
      spliced.client.resume();
      spliced.backend.resume();
      spliced[victim].write('x');
      await once(other, 'data');
      spliced[victim].resetAndDestroy();
      t.match(await spliced.ended, { endedBy: victim });
      for (const socket of spliced.inner) t.ok(socket.destroyed);
      t.strictSame(timeouts, []);
      other.destroy();
    }
  });

  t.test(
    `${name}: what is sent to a backend that has ended is dropped, and its last bytes arrive`,
    async (t) => {
      const timeouts = holdTimeouts(t);
      const { client, backend, ended } = await start(copy);
      const received = readAll(client);
      backend.end('FATAL');
      backend.resume();
      client.write(Buffer.alloc(1024 * 1024));
      t.equal((await received).toString(), 'FATAL');
      await until(() => timeouts.length > 0);
      timeouts[0]?.();
      t.match(await ended, { endedBy: 'backend' });
      client.destroy();
    },
  );

  t.test(`${name}: a client that is cut off after its FIN takes the backend with it`, async (t) => {
    const { client, backend, ended, inner } = await start(copy);
    client.end();
    await readAll(backend);
    inner[0].destroy();
    t.match(await ended, { endedBy: 'client' });
    t.ok(inner[1].destroyed);
    backend.destroy();
    client.destroy();
  });

  t.test(`${name}: a FIN that arrived during the login is passed on too`, async (t) => {
    const { client, backend, ended } = await start(copy, async (early, inner) => {
      early.end();
      inner.read(0);
      await once(inner, 'end');
    });
    t.equal((await readAll(backend)).length, 0);
    backend.end('answer');
    t.equal((await readAll(client)).toString(), 'answer');
    t.match(await ended, { endedBy: 'client' });
  });
}
