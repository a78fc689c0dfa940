/**
 * Cuts a stream of bytes into frames, wherever the network has split it. The length of a frame is
 * checked against the caller's limit before its body arrives, so a peer cannot make the front-end
 * hold more than that. Bytes behind a frame stay for the next one.
 */
import { PgError } from '../lib/errors.ts';
import { STARTUP_BODY_LIMIT } from './constants.ts';

/** A message of either direction: type byte, length word, body (manual 54.1.1). */
export interface Message {
  /** ASCII code of the type byte. */
  readonly type: number;
  readonly body: Buffer;
  /** The whole message as it came, to be forwarded. */
  readonly bytes: Buffer;
  /** Set if the body was longer than allowed. It was dropped as it arrived, and both are empty. */
  readonly isDropped?: true;
}

const EMPTY = Buffer.alloc(0);

/** Makes frames of chunks. Holds one incomplete frame and what was pushed behind it. */
export class Framer {
  /**
   * Holds the bytes from #start to #end. It grows by doubling, so a peer that sends single bytes
   * causes no more copying than others.
   */
  #store: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  /** Length of the frame that was last found incomplete, in bytes. */
  #awaited = 0;
  /** Type of the message that is dropped, and bytes of it that have not arrived. */
  #dropped: { readonly type: number; left: number } | undefined;

  /** Adds what was read from the stream. The framer owns the chunk from then on. */
  push(chunk: Buffer): void {
    if (this.#dropped && this.#dropped.left > 0) {
      const now = Math.min(this.#dropped.left, chunk.length);
      this.#dropped.left -= now;
      if (now < chunk.length) this.push(chunk.subarray(now));
      return;
    }
    if (this.length === 0) {
      this.#store = chunk;
      this.#start = 0;
      this.#end = chunk.length;
      return;
    }
    if (this.#end + chunk.length > this.#store.length) this.#grow(this.length + chunk.length);
    this.#end += chunk.copy(this.#store, this.#end);
  }

  /** Makes room: for the awaited frame if its length is known, otherwise by doubling. */
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

  /** The next byte, which stays unread; undefined when there is none yet. */
  peek(): number | undefined {
    return this.length === 0 ? undefined : this.#store[this.#start];
  }

  /**
   * Takes the next message; undefined as long as it is incomplete.
   *
   * @param limit the longest body, in bytes
   * @param dropLimit a body above `limit` and up to this length is dropped as it arrives
   * @throws PgError 08P01 for a length below 4 or above the limits
   */
  message(limit: number, dropLimit = limit): Message | undefined {
    if (this.#dropped) return this.#droppedMessage();
    const type = this.peek();
    if (type === undefined || this.length < 5) return undefined;
    const end = 1 + this.#frameLength(1, Math.max(limit, dropLimit));
    if (end - 5 > limit) {
      this.#dropped = { type, left: end };
      this.push(this.rest());
      return this.#droppedMessage();
    }
    if (this.length < end) return this.#await(end);
    const bytes = this.#take(end);
    return { type, body: bytes.subarray(5), bytes };
  }

  /**
   * Takes the body of a packet without a type byte, as the first of a connection is; undefined as
   * long as it is incomplete.
   *
   * @throws PgError 08P01 for a length below 4 or above the limit of a startup packet
   */
  startupBody(): Buffer | undefined {
    if (this.length < 4) return undefined;
    const end = this.#frameLength(0, STARTUP_BODY_LIMIT);
    return this.length < end ? this.#await(end) : this.#take(end).subarray(4);
  }

  /** Takes one byte: the answer to SSLRequest is the only unframed one of the protocol. */
  byte(): number | undefined {
    return this.length === 0 ? undefined : this.#take(1)[0];
  }

  /**
   * Takes all that is left. The copy has a buffer of its own: a shared one would keep the token,
   * which was read before, in memory for the whole session.
   */
  rest(): Buffer {
    const rest = Buffer.from(this.#take(this.length));
    this.#store = Buffer.alloc(0);
    this.#start = 0;
    this.#end = 0;
    return rest;
  }

  #droppedMessage(): Message | undefined {
    if (!this.#dropped || this.#dropped.left > 0) return undefined;
    const { type } = this.#dropped;
    this.#dropped = undefined;
    return { type, body: EMPTY, bytes: EMPTY, isDropped: true };
  }

  /** The length word, which counts itself. The limit is for what follows it. */
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
