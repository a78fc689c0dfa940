/**
 * The messages of both query protocols, for the console, which answers queries itself. Parses what
 * a client sends and formats what a server sends, with the layouts of the manual, 54.7 "Message
 * Formats".
 */
import { PgError } from '../lib/errors.ts';
import { cstring, formatMessage, int32 } from './messages.ts';

/** Parse. */
export interface ParseMessage {
  readonly name: string;
  readonly query: Buffer;
  /** The OIDs that the client declares for the parameters; 0 leaves a type open. */
  readonly types: readonly number[];
}

/** Bind. */
export interface BindMessage {
  readonly portal: string;
  readonly statement: string;
  /** Format codes: an empty list means text for all; one code is for all. */
  readonly formats: readonly number[];
  /** Undefined is NULL. */
  readonly values: readonly (Buffer | undefined)[];
  readonly resultFormats: readonly number[];
}

/** Describe or Close, of a prepared statement or of a portal. */
export interface TargetMessage {
  readonly kind: 'statement' | 'portal';
  readonly name: string;
}

/** Execute. */
export interface ExecuteMessage {
  readonly portal: string;
  /** 0: no limit. */
  readonly maxRows: number;
}

/** A column of a RowDescription. */
export interface ColumnDescription {
  readonly name: string;
  readonly oid: number;
  readonly size: number;
  readonly format: number;
}

/** Reads a body from front to back. Throws PgError 08P01 if it is too short or too long. */
class Body {
  readonly #body: Buffer;
  #at = 0;

  constructor(body: Buffer) {
    this.#body = body;
  }

  bytes(count: number): Buffer {
    const end = this.#at + count;
    if (end > this.#body.length) throw malformed();
    const taken = this.#body.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }

  int16(): number {
    return this.bytes(2).readUInt16BE();
  }

  int32(): number {
    return this.bytes(4).readInt32BE();
  }

  string(): Buffer {
    const end = this.#body.indexOf(0, this.#at);
    if (end < 0) throw malformed();
    const taken = this.bytes(end - this.#at);
    this.#at++;
    return taken;
  }

  /** As many values as the count before them says. */
  list<T>(read: () => T): T[] {
    return Array.from({ length: this.int16() }, read);
  }

  end(): void {
    if (this.#at !== this.#body.length) throw malformed();
  }
}

function parsed<T>(body: Buffer, read: (body: Body) => T): T {
  const reader = new Body(body);
  const message = read(reader);
  reader.end();
  return message;
}

/** The text of a Query. Throws PgError 08P01 for a malformed body, as the parsers below do. */
export function parseQuery(body: Buffer): Buffer {
  return parsed(body, (reader) => reader.string());
}

/** The body of a Parse. */
export function parseParse(body: Buffer): ParseMessage {
  return parsed(body, (reader) => ({
    name: reader.string().toString(),
    query: reader.string(),
    types: reader.list(() => reader.int32()),
  }));
}

/** The body of a Bind. */
export function parseBind(body: Buffer): BindMessage {
  return parsed(body, (reader) => ({
    portal: reader.string().toString(),
    statement: reader.string().toString(),
    formats: reader.list(() => reader.int16()),
    values: reader.list(() => {
      const length = reader.int32();
      return length === -1 ? undefined : reader.bytes(checkLength(length));
    }),
    resultFormats: reader.list(() => reader.int16()),
  }));
}

/** The body of a Describe or Close. */
export function parseTarget(body: Buffer): TargetMessage {
  return parsed(body, (reader) => {
    const kind = reader.bytes(1).toString('latin1');
    if (kind !== 'S' && kind !== 'P') throw malformed();
    return { kind: kind === 'S' ? 'statement' : 'portal', name: reader.string().toString() };
  });
}

/** The body of an Execute. */
export function parseExecute(body: Buffer): ExecuteMessage {
  return parsed(body, (reader) => ({
    portal: reader.string().toString(),
    maxRows: Math.max(0, reader.int32()),
  }));
}

function checkLength(length: number): number {
  if (length < 0) throw malformed();
  return length;
}

function malformed(): PgError {
  return new PgError({
    code: 'malformed_message',
    message: 'invalid message format',
  });
}

/** ParameterStatus. */
export function parameterStatus(name: string, value: string): Buffer {
  return formatMessage('S', cstring(name), cstring(value));
}

/** BackendKeyData of protocol 3.0. */
export function backendKeyData(processId: number, key: Buffer): Buffer {
  return formatMessage('K', int32(processId), key);
}

/** ReadyForQuery: idle (I), in a transaction (T) or in a failed transaction (E). */
export function readyForQuery(status: 'I' | 'T' | 'E'): Buffer {
  return formatMessage('Z', Buffer.from(status));
}

/** RowDescription. */
export function rowDescription(columns: readonly ColumnDescription[]): Buffer {
  return formatMessage(
    'T',
    int16(columns.length),
    ...columns.flatMap(({ name, oid, size, format }) => [
      cstring(name),
      // No table and no column of a table.
      int32(0),
      int16(0),
      int32(oid),
      int16(size),
      // No type modifier.
      Buffer.alloc(4, 0xff),
      int16(format),
    ]),
  );
}

/** ParameterDescription. */
export function parameterDescription(types: readonly number[]): Buffer {
  return formatMessage('t', int16(types.length), ...types.map(int32));
}

/** DataRow. Undefined is NULL. */
export function dataRow(values: readonly (Buffer | undefined)[]): Buffer {
  const cells = values.flatMap((value) =>
    value === undefined ? [Buffer.alloc(4, 0xff)] : [int32(value.length), value],
  );
  return formatMessage('D', int16(values.length), ...cells);
}

/** CommandComplete. */
export function commandComplete(tag: string): Buffer {
  return formatMessage('C', cstring(tag));
}

export const emptyQueryResponse: Buffer = formatMessage('I');
export const parseComplete: Buffer = formatMessage('1');
export const bindComplete: Buffer = formatMessage('2');
export const closeComplete: Buffer = formatMessage('3');
export const noData: Buffer = formatMessage('n');
export const portalSuspended: Buffer = formatMessage('s');

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value & 0xffff);
  return bytes;
}
