/**
 * Where the lines of the log go. A pipe to a reader that has stopped takes no more, and Node.js
 * then keeps what is written in memory. Beyond a bound, lines are dropped and counted, because
 * memory that grows would end the sessions.
 */
import type { Writable } from 'node:stream';

/** Bytes that wait for the reader: some ten thousand lines. */
const PENDING_LIMIT = 4 * 1024 * 1024;

/** A stream for lines that holds a bounded number of bytes. */
export class LogStream {
  readonly #stream: Writable;
  readonly #resumed: (dropped: number) => void;
  readonly #limit: number;
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

  /** Writes a line. After one was dropped, the next ones are too until the reader is back. */
  write(line: string): void {
    const isFull = this.#stream.writableLength + line.length > this.#limit;
    if (this.#dropped > 0 || isFull) this.#dropped++;
    else this.#stream.write(line);
  }

  /** Lines are written in order: the number of dropped ones stands where they would have stood. */
  #resume(): void {
    const dropped = this.#dropped;
    if (dropped === 0) return;
    this.#dropped = 0;
    this.#resumed(dropped);
  }
}
