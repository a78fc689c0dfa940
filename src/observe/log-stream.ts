/**
 * Where the lines of the log go. They are collected for a moment, because each write is a system
 * call, and a login has two lines. A pipe to a reader that has stopped takes no more, and Node.js
 * then keeps what is written in memory. Beyond a bound, lines are dropped and counted, because
 * memory that grows would end the sessions.
 *
 * pino's own destination is not used. It writes in a thread while the end of the process writes
 * what comes behind, so that lines are lost or swap places, and a closed pipe keeps its last write
 * in an endless loop.
 */
import type { Writable } from 'node:stream';

/** Bytes that wait for the reader: some ten thousand lines. */
const PENDING_LIMIT = 4 * 1024 * 1024;

/** How long a line waits for others, in ms. */
const COLLECT_MS = 100;

/**
 * Bytes of one write. Linux writes so much to a pipe as a whole (PIPE_BUF, pipe(7)): the lines of
 * processes that share a pipe do not mix.
 */
const WRITE_LIMIT = 4096;

/** A stream for lines that holds a bounded number of bytes. */
export class LogStream {
  readonly #stream: Writable;
  readonly #resumed: (dropped: number) => void;
  readonly #limit: number;
  #lines = '';
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #dropped = 0;

  /**
   * @param resumed called with the number of dropped lines when the reader has read what waited; it
   *   may write
   */
  constructor(stream: Writable, resumed: (dropped: number) => void, limit = PENDING_LIMIT) {
    this.#stream = stream;
    this.#resumed = resumed;
    this.#limit = limit;
    // An error of stderr, such as a closed pipe, must not end the sessions.
    stream.on('error', () => undefined);
    stream.on('drain', () => this.#resume());
  }

  /** Takes a line. After one was dropped, the next ones are too until the reader is back. */
  write(line: string): void {
    const bytes = Buffer.byteLength(line);
    const held = this.#stream.writableLength + this.#bytes;
    if (this.#dropped > 0 || held + bytes > this.#limit) {
      // Unless all is in the stream, it may not know that it is full, and report no end of it.
      if (this.#dropped++ === 0) this.flush();
      return;
    }
    if (this.#bytes + bytes > WRITE_LIMIT) this.flush();
    this.#lines += line;
    this.#bytes += bytes;
    this.#timer ??= setTimeout(() => this.flush(), COLLECT_MS).unref();
  }

  /**
   * Writes what has been collected.
   *
   * @param written called when the reader has taken it, or will not
   */
  flush(written?: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const lines = this.#lines;
    this.#lines = '';
    this.#bytes = 0;
    if (lines !== '' || written) this.#stream.write(lines, written);
  }

  /** Lines are written in order: the number of dropped ones stands where they would have stood. */
  #resume(): void {
    const dropped = this.#dropped;
    if (dropped === 0) return;
    this.#dropped = 0;
    this.#resumed(dropped);
  }
}
