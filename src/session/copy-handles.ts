/**
 * One direction of a session's copy at the handles of both sockets. A message then costs a call
 * from libuv, a write and nothing else: no event, no stream, no buffer of its own.
 *
 * Handles are internals of Node.js (lib/net.js, src/stream_base.cc). {@link Handle} and
 * {@link openInternals} name everything that is used of them. copy-choice.ts tries it at the start,
 * and copyByStreams does the same where it does not work.
 *
 * - All handles read into one buffer. What was read is copied before anything else happens: a small
 *   message into a string, which the handle writes by itself; more of it into a buffer that belongs
 *   to the write until it is over. So no read can overwrite what waits to be written.
 * - One write is under way at a time. A TLS handle takes no second one, and ends the process.
 * - Errors and the end of the stream are left to the handler of Node.js, so the socket's events and
 *   its closing stay what they are.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { getSystemErrorName } from 'node:util';
import { type Copy, type CopyEvents, copyByStreams, type StartCopy } from './copy.ts';

/** What is used of a socket's handle (TCP, Pipe or TLSWrap). Results are 0 or a negative errno. */
interface Handle {
  /** Called after each read, with the result in {@link Internals.state}. It must not throw. */
  onread: (this: Handle) => void;
  /** Bytes of a write that is under way. */
  readonly writeQueueSize: number;
  /** Reads go to this buffer from now on. The handle keeps its address only. */
  useUserBuffer(buffer: Buffer): void;
  readStart(): number;
  readStop(): number;
  /** The buffer must stay as it is until the write is over. */
  writeBuffer(request: Request, bytes: Buffer): number;
  /** Copies what the kernel does not take at once. */
  writeLatin1String(request: Request, text: string): number;
}

/** An asynchronous write. One object serves one such write; others leave it as it is. */
interface Request {
  oncomplete?: (status: number) => void;
}

/** The binding `stream_wrap` of Node.js, as far as it is used. */
interface Internals {
  readonly WriteWrap: new () => Request;
  /** The results of the last call. */
  readonly streamBaseState: Int32Array;
  /** Where the size of a read or its error is. */
  readonly kReadBytesOrError: number;
  /** Where it says whether the last write is still under way. */
  readonly kLastWriteWasAsync: number;
}

/** As much as a read takes at once. */
const READ_BYTES = 64 * 1024;

/** Up to this size a string costs less than a buffer. */
const SMALL_BYTES = 2048;

/** Buffers for writes that are kept for the next one. */
const SPARE_BUFFERS = 16;

/** All handles read into it. */
const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);

const spare: Buffer[] = [];

/** Undefined if this Node.js has no such binding, or hides it (`--permission`). */
export function openInternals(): Internals | undefined {
  try {
    const { binding } = process as unknown as { binding(name: string): Partial<Internals> };
    const found = binding.call(process, 'stream_wrap');
    const { WriteWrap, streamBaseState, kReadBytesOrError, kLastWriteWasAsync } = found;
    return typeof WriteWrap === 'function' &&
      streamBaseState instanceof Int32Array &&
      typeof kReadBytesOrError === 'number' &&
      typeof kLastWriteWasAsync === 'number'
      ? { WriteWrap, streamBaseState, kReadBytesOrError, kLastWriteWasAsync }
      : undefined;
  } catch {
    return undefined;
  }
}

/** The copy by handles. A socket whose handle is unknown or closed is copied by streams. */
export function copyByHandles(internals: Internals): StartCopy {
  return (from, to, first, events) => {
    const [source, sink] = [handleOf(from), handleOf(to)];
    if (!source || !sink) return copyByStreams(from, to, first, events);
    return new HandleCopy(internals, { from, to, source, sink }, first, events);
  };
}

function handleOf(socket: Socket): Handle | undefined {
  const handle = (socket as unknown as { readonly _handle?: Partial<Handle> | null })._handle;
  const methods = [
    'onread',
    'useUserBuffer',
    'readStart',
    'readStop',
    'writeBuffer',
    'writeLatin1String',
  ] as const;
  if (!handle || !methods.every((name) => typeof handle[name] === 'function')) return undefined;
  return typeof handle.writeQueueSize === 'number' ? (handle as Handle) : undefined;
}

interface Ends {
  readonly from: Socket;
  readonly to: Socket;
  readonly source: Handle;
  readonly sink: Handle;
}

class HandleCopy implements Copy {
  readonly #internals: Internals;
  readonly #ends: Ends;
  readonly #events: CopyEvents;
  /**
   * TLS reports each write as one that is under way, and is done in the same turn of the event loop
   * if the kernel takes it. So its source is read on until there is something to hold back.
   */
  readonly #readsOn: boolean;
  /** What was read while a write was under way. */
  #queue: Buffer[] = [];
  #queued = 0;
  #request: Request | undefined;
  /** What the write that is under way writes; undefined if its handle has copied that. */
  #lent: Buffer | undefined;
  #isWriting = false;
  #isReading = false;
  #isDropping = false;
  #hasEnded = false;
  #written = 0;

  constructor(internals: Internals, ends: Ends, first: Buffer, events: CopyEvents) {
    const { from, to, source } = ends;
    this.#internals = internals;
    this.#ends = ends;
    this.#events = events;
    this.#readsOn = to instanceof TLSSocket;
    // When this write is over, those that came before it are over too: the handle is free.
    if (first.length > 0 || to.writableLength > 0) {
      this.#isWriting = true;
      to.write(first, (error) => {
        if (!error) this.#wrote(0);
      });
    }
    for (let bytes = from.read(); bytes; bytes = from.read()) {
      events.counted(bytes.length);
      this.#enqueue(bytes);
    }
    // The socket itself starts no read any more.
    from._read = () => undefined;
    const { onread } = source;
    const { streamBaseState, kReadBytesOrError } = internals;
    source.onread = () => {
      const bytes = streamBaseState[kReadBytesOrError] ?? 0;
      if (bytes > 0) this.#read(bytes);
      else onread.call(source);
    };
    source.useUserBuffer(readBuffer);
    this.#hasEnded = from.readableEnded;
    this.#flush();
  }

  waiting(): number {
    return this.#queued + (this.#isWriting ? Math.max(1, this.#ends.sink.writeQueueSize) : 0);
  }

  taken(): number {
    return this.#written - this.#ends.sink.writeQueueSize;
  }

  end(): void {
    this.#hasEnded = true;
    this.#isReading = false;
    if (this.#isWriting) this.#events.held(this);
    else this.#flush();
  }

  drop(): void {
    this.#isDropping = true;
    this.#queue = [];
    this.#queued = 0;
    this.#resume();
  }

  #read(bytes: number): void {
    if (this.#isDropping) return;
    this.#events.counted(bytes);
    if (!this.#isWriting) {
      this.#send(bytes);
    } else {
      // A TLS handle may deliver what it has decrypted after it was told to stop.
      this.#enqueue(Buffer.from(readBuffer.subarray(0, bytes)));
      this.#hold();
    }
  }

  /** Writes what was just read. */
  #send(bytes: number): void {
    const { sink } = this.#ends;
    const request = this.#nextRequest();
    if (bytes <= SMALL_BYTES) {
      const text = readBuffer.toString('latin1', 0, bytes);
      this.#after(sink.writeLatin1String(request, text), bytes, undefined);
    } else {
      const buffer = spare.pop() ?? Buffer.allocUnsafeSlow(READ_BYTES);
      readBuffer.copy(buffer, 0, 0, bytes);
      this.#after(sink.writeBuffer(request, buffer.subarray(0, bytes)), bytes, buffer);
    }
  }

  /** Writes what waits, and reads on when nothing does. */
  #flush(): void {
    if (!this.#isWriting && this.#queued > 0) {
      const [one, ...more] = this.#queue;
      const bytes = one && more.length === 0 ? one : Buffer.concat(this.#queue);
      this.#queue = [];
      this.#queued = 0;
      const error = this.#ends.sink.writeBuffer(this.#nextRequest(), bytes);
      this.#after(error, bytes.length, bytes);
    }
    if (this.#isWriting) return;
    if (this.#hasEnded) this.#ends.to.end();
    else this.#resume();
  }

  /** The result of a write that was asked for. */
  #after(error: number, bytes: number, lent: Buffer | undefined): void {
    const { streamBaseState, kLastWriteWasAsync } = this.#internals;
    if (error !== 0) {
      giveBack(lent);
      this.#fail(error);
      return;
    }
    this.#written += bytes;
    if (streamBaseState[kLastWriteWasAsync] === 0) {
      giveBack(lent);
      return;
    }
    this.#lent = lent;
    this.#request = undefined;
    this.#isWriting = true;
    if (lent || !this.#readsOn) this.#hold();
  }

  /** The end of a write that was under way. */
  #wrote(status: number): void {
    giveBack(this.#lent);
    this.#lent = undefined;
    this.#isWriting = false;
    if (status === 0) this.#flush();
    else this.#fail(status);
  }

  #fail(error: number): void {
    const { from, to } = this.#ends;
    this.drop();
    // A handle that is gone returns nothing, whatever its type says.
    const code = error < 0 ? getSystemErrorName(error) : 'EINVAL';
    to.destroy(Object.assign(new Error(`write ${code}`), { code }));
    from.destroy();
  }

  #nextRequest(): Request {
    if (this.#request) return this.#request;
    const request = new this.#internals.WriteWrap();
    request.oncomplete = (status) => this.#wrote(status);
    this.#request = request;
    return request;
  }

  #enqueue(bytes: Buffer): void {
    this.#queue.push(bytes);
    this.#queued += bytes.length;
  }

  #hold(): void {
    if (!this.#isReading) return;
    this.#isReading = false;
    this.#ends.source.readStop();
    this.#events.held(this);
  }

  #resume(): void {
    if (this.#isReading || this.#hasEnded) return;
    this.#isReading = true;
    this.#ends.source.readStart();
    this.#events.freed();
  }
}

/** Keeps a buffer for another write, if it has the size for that. */
function giveBack(buffer: Buffer | undefined): void {
  if (buffer?.length === READ_BYTES && spare.length < SPARE_BUFFERS) spare.push(buffer);
}
