/**
 * A TCP proxy that misbehaves: it resets its connections, freezes them, loses them without a word,
 * or is slow.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** A running proxy. */
export interface FaultyProxy {
  readonly port: number;
  /** The connections that are open. */
  readonly size: number;
  /** Passes on nothing, on connections of now and of later, until {@link thaw}. */
  freeze(): void;
  thaw(): void;
  /** The connections of now pass on nothing any more, without an end. Later ones do. */
  lose(): void;
  /** Resets all connections. */
  reset(): void;
  /** Each piece of data waits for so many milliseconds. */
  slow(ms: number): void;
  close(): void;
}

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
  isLost: boolean;
}

/** Starts a proxy in front of a port of the loopback address. */
export async function startProxy(target: number): Promise<FaultyProxy> {
  const pairs = new Set<Pair>();
  let delay = 0;
  let thawed: Promise<void> | undefined;
  let thaw: () => void = () => undefined;

  const copy = async (pair: Pair, from: Socket, to: Socket): Promise<void> => {
    for await (const chunk of from) {
      await thawed;
      if (delay > 0) await sleep(delay);
      if (pair.isLost) await new Promise(() => undefined);
      if (!to.write(chunk)) await Promise.race([once(to, 'drain'), once(to, 'close')]);
    }
    await thawed;
    if (!pair.isLost) to.end();
  };
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    const far = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    const pair: Pair = { near, far, isLost: false };
    pairs.add(pair);
    for (const socket of [near, far]) {
      socket.on('error', () => undefined);
      socket.on('close', () => {
        if (pair.isLost) return;
        pairs.delete(pair);
        destroy(pair);
      });
    }
    copy(pair, near, far).catch(() => destroy(pair));
    copy(pair, far, near).catch(() => destroy(pair));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    get size() {
      return pairs.size;
    },
    freeze() {
      thawed ??= new Promise((resolve) => {
        thaw = resolve;
      });
    },
    thaw() {
      thawed = undefined;
      thaw();
    },
    lose() {
      for (const pair of pairs) pair.isLost = true;
    },
    reset() {
      for (const { near, far } of pairs) {
        near.resetAndDestroy();
        far.resetAndDestroy();
      }
    },
    slow(ms) {
      delay = ms;
    },
    close() {
      server.close();
      for (const pair of pairs) destroy(pair);
      pairs.clear();
    },
  };
}

function destroy({ near, far }: Pair): void {
  near.destroy();
  far.destroy();
}
