/**
 * Cuts a stream of bytes into frames, wherever the network has split it. A frame's announced length
 * is checked against the caller's limit before a byte of it is waited for, so that nobody can make
 * us hold more than that; what follows a frame is kept for later.
 */
import { PgError } from '../lib/errors.ts';
import { STARTUP_BODY_LIMIT } from './constants.ts';

/** A message of either direction: type byte, length word, body (manual 54.1.1). */
export interface Message {
  /** ASCII code of the type byte. */
  readonly type: number;
  readonly body: Buffer;
  /** The whole message as it came, to be passed on. */
  readonly bytes: Buffer;
}

/** Frames out of chunks; holds at most one incomplete frame and what was pushed behind it. */
export class Framer {
  /**
   * Bytes #start to #end of it are held. It grows by doubling: a stranger who sends single bytes
   * costs no more than one who does not.
   */
  #store: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  /** Length of the frame that was last found incomplete. */
  #awaited = 0;

  /** Adds what was read from the stream. The chunk is ours from then on. */
  push(chunk: Buffer): void {
    if (this.length === 0) {
      this.#store = chunk;
      this.#start = 0;
      this.#end = chunk.length;
      return;
    }
    if (this.#end + chunk.length > this.#store.length) this.#grow(this.length + chunk.length);
    this.#end += chunk.copy(this.#store, this.#end);
  }

  /**
   * Makes room: for the frame that is being waited for, once its length is known, and otherwise by
   * doubling.
   */
  #grow(needed: number): void {
    const grown = Buffer.allocUnsafeSlow(needed <= this.#awaited ? this.#awaited : 2 * needed);
    this.#store.copy(grown, 0, this.#start, this.#end);
    this.#end = this.length;
    this.#start = 0;
    this.#store = grown;
  }

  /** How many bytes are held. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** The first byte, left where it is; undefined when there is none yet. */
  peek(): number | undefined {
    return this.length === 0 ? undefined : this.#store[this.#start];
  }

  /**
   * Takes the next message; undefined as long as it is incomplete.
   *
   * @param limit the longest body, in bytes
   * @throws PgError 08P01 for a length below 4 or above the limit
   */
  message(limit: number): Message | undefined {
    const type = this.peek();
    if (type === undefined || this.length < 5) return undefined;
    const end = 1 + this.#frameLength(1, limit);
    if (this.length < end) return this.#await(end);
    const bytes = this.#take(end);
    return { type, body: bytes.subarray(5), bytes };
  }

  /**
   * Takes the body of a packet without a type byte, the first of a connection; undefined as long as
   * it is incomplete.
   *
   * @throws PgError 08P01 for a length that no such packet has
   */
  startupBody(): Buffer | undefined {
    if (this.length < 4) return undefined;
    const end = this.#frameLength(0, STARTUP_BODY_LIMIT);
    return this.length < end ? this.#await(end) : this.#take(end).subarray(4);
  }

  /** Takes one byte: the answer to SSLRequest is the protocol's only unframed one. */
  byte(): number | undefined {
    return this.length === 0 ? undefined : this.#take(1)[0];
  }

  /**
   * Takes all that is left, in a buffer of its own: a token that was read before it is not kept
   * alive for a whole session.
   */
  rest(): Buffer {
    const rest = Buffer.from(this.#take(this.length));
    this.#store = Buffer.alloc(0);
    this.#start = 0;
    this.#end = 0;
    return rest;
  }

  /** The length word, which counts itself, checked against the limit for what follows it. */
  #frameLength(offset: number, limit: number): number {
    const length = this.#store.readUInt32BE(this.#start + offset);
    if (length < 4 || length - 4 > limit) {
      throw new PgError({
        code: 'malformed_message',
        message: offset === 0 ? 'invalid length of startup packet' : 'invalid message length',
        reason: `a length of ${length} where at most ${limit + 4} is allowed`,
      });
    }
    return length;
  }

  #await(length: number): undefined {
    this.#awaited = length;
    return undefined;
  }

  #take(count: number): Buffer {
    const taken = this.#store.subarray(this.#start, this.#start + count);
    this.#start += count;
    return taken;
  }
}
