/**
 * Columns, cells and parameters in the text and binary formats of their types. Most columns are of
 * type text, which has the same bytes in both formats.
 */
import { PgError } from '../lib/errors.ts';

/** The types of columns, with PostgreSQL's names and OIDs (pg_type.dat). */
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

/** A value of a row. A number is an integer, undefined is NULL. */
export type Cell = string | number | undefined;

/** Format codes of the protocol: 0 is text, 1 is binary (manual 54.7, Bind). */
export type Format = 0 | 1;

/** Makes columns of type text. */
export function textColumns(...names: readonly string[]): readonly Column[] {
  return names.map((name) => ({ name, type: 'text' }));
}

/** Returns the OID and size of a column's type, for RowDescription. */
export function typeOf({ type }: Column): { readonly oid: number; readonly size: number } {
  return types[type];
}

/** Encodes a cell; undefined stands for NULL. */
export function encodeCell(cell: Cell, { type }: Column, format: Format): Buffer | undefined {
  if (cell === undefined) return undefined;
  if (format === 0 || type === 'text') return Buffer.from(String(cell));
  const bytes = Buffer.alloc(types[type].size);
  if (type === 'int8') bytes.writeBigInt64BE(BigInt(cell));
  else bytes.writeInt32BE(Number(cell));
  return bytes;
}

/** Decoders of the binary parameter types, by OID: bool, int8, int2, int4. */
const decoders: ReadonlyMap<number, (bytes: Buffer) => string> = new Map([
  [16, (bytes) => String(sized(bytes, 1).readInt8() !== 0)],
  [20, (bytes) => String(sized(bytes, 8).readBigInt64BE())],
  [21, (bytes) => String(sized(bytes, 2).readInt16BE())],
  [23, (bytes) => String(sized(bytes, 4).readInt32BE())],
]);

/**
 * Types with a binary format equal to the text format: none (0), unknown (705), text (25), name
 * (19), bpchar (1042), varchar (1043), json (114).
 */
const TEXT_TYPES: ReadonlySet<number> = new Set([0, 705, 25, 19, 1042, 1043, 114]);

/**
 * Decodes a parameter to text.
 *
 * @param oid the type that the client declared; 0 if it declared none
 * @throws PgError 22021 for bytes that are not UTF-8, 22P03 for a binary value of the wrong length,
 *   0A000 for the binary format of any other type
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
 * Decodes text that a client sent.
 *
 * @throws PgError 22021 if it is not UTF-8
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
