/**
 * Writes and reads DER (ITU-T X.690, section 10), with the ASN.1 types of an X.509 certificate.
 * Each function of the writer returns one whole element; a library takes twenty times longer. The
 * reader finds what Node.js does not report: the algorithm of the signature, the bytes of the
 * subject, and the key identifier.
 */

/** SEQUENCE of elements. */
export function sequence(...elements: readonly Buffer[]): Buffer {
  return element(0x30, Buffer.concat(elements));
}

/** SET of one element. DER sorts several, which a certificate here does not need. */
export function set(member: Buffer): Buffer {
  return element(0x31, member);
}

/**
 * INTEGER that is not negative, from its big-endian bytes. A set sign bit gets a zero byte first.
 */
export function unsigned(bytes: Buffer): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0);
  const significant = first === -1 ? Buffer.alloc(1) : bytes.subarray(first);
  return element(
    0x02,
    (significant[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.alloc(1), significant]) : significant,
  );
}

/** BOOLEAN TRUE. FALSE is always the default in a certificate, and DER omits defaults. */
export const booleanTrue = element(0x01, Buffer.of(0xff));

/** NULL. */
export const none = element(0x05, Buffer.alloc(0));

/** OBJECT IDENTIFIER from its dotted form. */
export function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...others] = dotted.split('.').map(Number);
  return element(0x06, Buffer.from([first * 40 + second, ...others].flatMap(base128)));
}

/** UTF8String. */
export function utf8(text: string): Buffer {
  return element(0x0c, Buffer.from(text));
}

/** OCTET STRING. */
export function octets(bytes: Buffer): Buffer {
  return element(0x04, bytes);
}

/** BIT STRING. The last byte has `unusedBits` that do not count. */
export function bits(bytes: Buffer, unusedBits = 0): Buffer {
  return element(0x03, Buffer.concat([Buffer.of(unusedBits), bytes]));
}

/**
 * A time of X.509, in seconds: UTCTime until 2049, and GeneralizedTime from 2050 (RFC 5280, section
 * 4.1.2.5).
 */
export function time(date: Date): Buffer {
  const digits = `${date.toISOString().replaceAll(/[-:T]|\..*/g, '')}Z`;
  const year = date.getUTCFullYear();
  return year >= 1950 && year < 2050
    ? element(0x17, Buffer.from(digits.slice(2)))
    : element(0x18, Buffer.from(digits));
}

/** Elements in a context-specific tag: EXPLICIT, or IMPLICIT for a constructed type. */
export function tagged(tag: number, ...elements: readonly Buffer[]): Buffer {
  return element(0xa0 | tag, Buffer.concat(elements));
}

/** A context-specific tag in place of the tag of a primitive type: IMPLICIT. */
export function taggedBytes(tag: number, bytes: Buffer): Buffer {
  return element(0x80 | tag, bytes);
}

/** Tag, length and content. A length from 128 has the number of its bytes first. */
function element(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const lengthBytes =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  if (length > 0xffff)
    throw new RangeError(`an element of ${length} bytes is not of a certificate`);
  return Buffer.concat([Buffer.from([tag, ...lengthBytes]), content]);
}

/** Seven bits in each byte. The high bit is set in all but the last. */
function base128(value: number): number[] {
  const groups = [value & 0x7f];
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) groups.unshift((rest & 0x7f) | 0x80);
  return groups;
}

/** A value that was read. */
export interface DerValue {
  readonly tag: number;
  readonly content: Buffer;
  /** Tag, length and content. */
  readonly whole: Buffer;
}

/** Tags of values in a certificate. */
export const DER_TAG = {
  octetString: 0x04,
  objectIdentifier: 0x06,
  sequence: 0x30,
  context0: 0xa0,
  context3: 0xa3,
} as const;

/**
 * The values in these bytes, one behind the other. The list ends at a value that is cut, or without
 * a definite length of at most four bytes.
 */
export function readValues(bytes: Buffer = Buffer.alloc(0)): DerValue[] {
  const values: DerValue[] = [];
  let at = 0;
  while (at + 2 <= bytes.length) {
    const tag = bytes.readUInt8(at);
    const first = bytes.readUInt8(at + 1);
    const width = first < 0x80 ? 0 : first & 0x7f;
    const start = at + 2 + width;
    if (first === 0x80 || width > 4 || start > bytes.length) break;
    const length = width === 0 ? first : bytes.readUIntBE(at + 2, width);
    if (start + length > bytes.length) break;
    values.push({
      tag,
      content: bytes.subarray(start, start + length),
      whole: bytes.subarray(at, start + length),
    });
    at = start + length;
  }
  return values;
}
