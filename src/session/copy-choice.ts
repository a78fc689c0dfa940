/**
 * Which copy a process uses. Handles are internals of Node.js, so the copy by handles is used only
 * in versions that the tests have run on, and is tried at the start: on two connections of its own,
 * with a reader that stalls, to the end of the stream. Every byte has to arrive.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { errorText } from '../lib/errors.ts';
import { copyByStreams, type StartCopy } from './copy.ts';
import { copyByHandles, openInternals } from './copy-handles.ts';

/** What `--copy` takes. */
export const COPY_OPTIONS = ['auto', 'streams'] as const;
export type CopyOption = (typeof COPY_OPTIONS)[number];

/** The copy of a process. */
export interface CopyChoice {
  readonly name: 'handles' | 'streams';
  readonly start: StartCopy;
  /** Why handles cannot be used, if they were wanted. */
  readonly problem?: string;
}

/**
 * Major versions of Node.js that the tests have run on. In another one a handle may end the process
 * where it is used otherwise than Node.js expects, and no trial would catch that.
 */
const TESTED = { from: 20, to: 24 };

/** How long the trial may take, in ms. It takes 20 where nothing else runs. */
const TRIAL_MS = 5000;

/** What the trial writes until the receiver holds it up, one after the other. */
const CHUNKS = [100, 5000, 65_536, 65_537, 200_000].map((size) => Buffer.alloc(size, `${size};`));

/** Chooses, and tries first what it chooses. Never rejects. */
export async function chooseCopy(option: CopyOption): Promise<CopyChoice> {
  const streams = { name: 'streams', start: copyByStreams } as const;
  if (option === 'streams') return streams;
  const major = Number.parseInt(process.versions.node, 10);
  if (major < TESTED.from || major > TESTED.to)
    return { ...streams, problem: `not tested with Node.js ${major}` };
  const internals = openInternals();
  if (!internals) return { ...streams, problem: 'process.binding has no stream_wrap' };
  const start = copyByHandles(internals);
  try {
    await tryCopy(start);
    return { name: 'handles', start };
  } catch (error) {
    return { ...streams, problem: errorText(error) };
  }
}

/** @throws Error that says what went wrong */
async function tryCopy(start: StartCopy): Promise<void> {
  const sockets: Socket[] = [];
  const overdue = setTimeout(() => {
    for (const socket of sockets) socket.destroy(new Error(`no end within ${TRIAL_MS} ms`));
  }, TRIAL_MS);
  const server = createServer({ allowHalfOpen: true });
  try {
    // Workers would share the port, and each other's connections.
    server.listen({ port: 0, host: '127.0.0.1', exclusive: true });
    await once(server, 'listening');
    for (let pair = 0; pair < 2; pair++) sockets.push(...(await openPair(server)));
    await tryOn(start, sockets);
  } finally {
    clearTimeout(overdue);
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

/** @param sockets a writer and its peer, a reader and its peer */
async function tryOn(start: StartCopy, sockets: readonly Socket[]): Promise<void> {
  const [writer, from, reader, to] = sockets;
  if (!writer || !from || !reader || !to) return;
  const failed = new Promise<never>((_, reject) => {
    for (const socket of sockets) socket.on('error', reject);
  });
  failed.catch(() => undefined);
  const held = new Promise((resolve) => {
    const events = { counted: () => undefined, held: resolve, freed: () => undefined };
    const copy = start(from, to, Buffer.from('first'), events);
    from.once('end', () => copy.end());
  });
  const sent = createHash('sha256').update('first');
  let isHeld = false;
  void held.then(() => {
    isHeld = true;
  });
  for (let i = 0; !isHeld; i++) {
    const chunk = CHUNKS[i % CHUNKS.length] ?? Buffer.alloc(0);
    sent.update(chunk);
    if (!writer.write(chunk)) await Promise.race([once(writer, 'drain'), held, failed]);
  }
  writer.end();
  const received = createHash('sha256');
  reader.on('data', (bytes) => received.update(bytes));
  await Promise.race([once(reader, 'end'), failed]);
  if (sent.digest('hex') !== received.digest('hex')) throw new Error('bytes were lost');
}

/** Both ends of a connection on the loopback address. */
async function openPair(server: Server): Promise<readonly [Socket, Socket]> {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the trial cannot listen');
  const signal = AbortSignal.timeout(TRIAL_MS);
  const accepted = once(server, 'connection', { signal }) as Promise<[Socket]>;
  const near = connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true });
  const [[far]] = await Promise.all([accepted, once(near, 'connect', { signal })]);
  return [near, far];
}
