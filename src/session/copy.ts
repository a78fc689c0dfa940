/**
 * One direction of a session's copy, by the documented calls of Node.js. copy-handles.ts does the
 * same with less work for each message, where this Node.js allows it.
 */
import type { Socket } from 'node:net';

/** How far a receiver has come. */
export interface Progress {
  /** Bytes that wait here for the receiver. */
  waiting(): number;
  /** Grows with each byte that the receiver's kernel takes. */
  taken(): number;
}

/** One direction of a session: what one side sends goes to the other. */
export interface Copy extends Progress {
  /** The source has ended: behind what waits, the receiver's direction is ended. */
  end(): void;
  /** Reads the source to its end from now on, and drops what it sends. */
  drop(): void;
}

/** What a copy reports while it runs. */
export interface CopyEvents {
  /** Bytes were read. */
  counted(bytes: number): void;
  /** The source is not read, or has ended, while bytes wait for the receiver. */
  held(progress: Progress): void;
  /** The source is read again. */
  freed(): void;
}

/** Starts a copy. `first` is sent ahead of what is read. The caller says when the source ends. */
export type StartCopy = (from: Socket, to: Socket, first: Buffer, events: CopyEvents) => Copy;

/** As much of a socket's handle as Node.js itself looks at for its time-outs. */
interface WriteQueue {
  readonly _handle?: { readonly writeQueueSize?: number } | null;
}

/** The copy by the documented calls. */
export const copyByStreams: StartCopy = (from, to, first, events) => {
  const copy: Copy = {
    waiting: () => to.writableLength,
    taken() {
      const queued = (to as unknown as WriteQueue)._handle?.writeQueueSize ?? 0;
      return to.bytesWritten - to.writableLength - queued;
    },
    end() {
      to.end();
      if (to.writableLength > 0) events.held(copy);
    },
    drop() {
      from.off('data', pass);
      from.resume();
    },
  };
  const resume = (): void => {
    events.freed();
    from.resume();
  };
  const send = (bytes: Buffer): void => {
    if (to.write(bytes)) return;
    from.pause();
    events.held(copy);
    to.once('drain', resume);
  };
  const pass = (bytes: Buffer): void => {
    events.counted(bytes.length);
    send(bytes);
  };
  from.on('data', pass);
  from.resume();
  if (first.length > 0) send(first);
  return copy;
};
