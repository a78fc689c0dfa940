/**
 * Columns, cells and parameters in the text and binary formats of their types. Most columns are of
 * type text, which has the same bytes in both formats.
 */
import { PgError } from '../lib/errors.ts';

/** The types of columns, with PostgreSQL's names and OIDs (pg_type.dat). */
const types = {
  bool: { oid: 16, size: 1 },
  char: { oid: 18, size: 1 },
  interval: { oid: 1186, size: 16 },
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

/** A value of a row. A number is an integer, of an interval its milliseconds; undefined is NULL. */
export type Cell = string | number | boolean | undefined;

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
  if (format === 0 || type === 'text' || type === 'char') return Buffer.from(cellText(cell, type));
  const bytes = Buffer.alloc(types[type].size);
  if (type === 'bool') bytes.writeInt8(Number(cell));
  else if (type === 'int8') bytes.writeBigInt64BE(BigInt(cell));
  // Microseconds, then days and months, which are 0.
  else if (type === 'interval') bytes.writeBigInt64BE(BigInt(cell) * 1000n);
  else if (type === 'oid') bytes.writeUInt32BE(Number(cell));
  else bytes.writeInt32BE(Number(cell));
  return bytes;
}

/** The text of a cell, as PostgreSQL prints its type. */
export function cellText(cell: Exclude<Cell, undefined>, type: Column['type']): string {
  if (type === 'bool') return cell === true ? 't' : 'f';
  return type === 'interval' ? intervalText(Number(cell)) : String(cell);
}

/** Hours are not carried into days, as in an interval that was made of a duration: `24:00:00`. */
function intervalText(milliseconds: number): string {
  const size = Math.abs(milliseconds);
  const [hours, minutes, seconds] = [
    Math.floor(size / 3_600_000),
    Math.floor(size / 60_000) % 60,
    Math.floor(size / 1000) % 60,
  ].map((part) => String(part).padStart(2, '0'));
  const fraction = size % 1000;
  const decimals = fraction === 0 ? '' : `.${String(fraction).padStart(3, '0')}`.replace(/0+$/, '');
  return `${milliseconds < 0 ? '-' : ''}${hours}:${minutes}:${seconds}${decimals}`;
}

/** Decoders of the binary parameter types, by OID: bool, int8, int2, int4, oid. */
const decoders: ReadonlyMap<number, (bytes: Buffer) => string> = new Map([
  [16, (bytes) => String(sized(bytes, 1).readInt8() !== 0)],
  [20, (bytes) => String(sized(bytes, 8).readBigInt64BE())],
  [21, (bytes) => String(sized(bytes, 2).readInt16BE())],
  [23, (bytes) => String(sized(bytes, 4).readInt32BE())],
  [26, (bytes) => String(sized(bytes, 4).readUInt32BE())],
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
