/**
 * Rows as the console returns them, in the text and the binary format of their types. Nearly
 * everything is text: its binary format is the text itself, so that a driver which asks for binary
 * results needs nothing else.
 */
import { PgError } from '../lib/errors.ts';

/** The types of columns: PostgreSQL's names and OIDs (pg_type.dat). */
const types = {
  text: { oid: 25, size: -1 },
  int4: { oid: 23, size: 4 },
  int8: { oid: 20, size: 8 },
  oid: { oid: 26, size: 4 },
} as const;

/** A column of a result. */
export interface Column {
  readonly name: string;
  readonly type: keyof typeof types;
}

/** A value of a row; a number is a whole one. */
export type Cell = string | number | undefined;

/** The formats of the protocol: text and binary (manual 54.7, Bind). */
export type Format = 0 | 1;

/** Columns of type text. */
export function textColumns(...names: readonly string[]): readonly Column[] {
  return names.map((name) => ({ name, type: 'text' }));
}

/** OID and size of a column's type, for RowDescription. */
export function typeOf({ type }: Column): { readonly oid: number; readonly size: number } {
  return types[type];
}

/** A cell's bytes; undefined for NULL. */
export function encodeCell(cell: Cell, { type }: Column, format: Format): Buffer | undefined {
  if (cell === undefined) return undefined;
  if (format === 0 || type === 'text') return Buffer.from(String(cell));
  const bytes = Buffer.alloc(types[type].size);
  if (type === 'int8') bytes.writeBigInt64BE(BigInt(cell));
  else bytes.writeInt32BE(Number(cell));
  return bytes;
}

/** How the types that a client may declare for a parameter are written in binary. */
const decoders: ReadonlyMap<number, (bytes: Buffer) => string> = new Map([
  [16, (bytes) => String(sized(bytes, 1).readInt8() !== 0)],
  [20, (bytes) => String(sized(bytes, 8).readBigInt64BE())],
  [21, (bytes) => String(sized(bytes, 2).readInt16BE())],
  [23, (bytes) => String(sized(bytes, 4).readInt32BE())],
]);

/**
 * 0 and unknown (705), text (25), name (19), bpchar (1042), varchar (1043), json (114): their
 * binary format is text.
 */
const TEXT_TYPES: ReadonlySet<number> = new Set([0, 705, 25, 19, 1042, 1043, 114]);

/**
 * The text of a parameter.
 *
 * @param oid the type that the client declared; 0: none
 * @throws PgError 22021 for bytes that are not UTF-8, 22P03 for a binary value of the wrong length,
 *   0A000 for a binary type that is not known here
 */
export function decodeParameter(bytes: Buffer, oid: number, format: Format): string {
  const decode = decoders.get(oid);
  if (format === 0 || TEXT_TYPES.has(oid)) return decodeText(bytes);
  if (decode) return decode(bytes);
  throw new PgError({
    code: 'unsupported_parameter',
    message: `a parameter of type ${oid} in binary format is not understood`,
    hint: 'Send it as text.',
  });
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Text that a client sent.
 *
 * @throws PgError 22021 when it is not UTF-8
 */
export function decodeText(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new PgError({
      code: 'not_utf8',
      message: 'invalid byte sequence for encoding "UTF8"',
    });
  }
}

function sized(bytes: Buffer, size: number): Buffer {
  if (bytes.length === size) return bytes;
  throw new PgError({
    code: 'malformed_parameter',
    message: 'incorrect binary data format in bind parameter',
  });
}
