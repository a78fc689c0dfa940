/**
 * Writes DER (ITU-T X.690, section 10): as many ASN.1 types as an X.509 certificate needs, each
 * function giving one whole element. A certificate is a handful of nested elements, which a library
 * takes twenty times longer to write.
 */

/** SEQUENCE of elements. */
export function sequence(...elements: readonly Buffer[]): Buffer {
  return element(0x30, Buffer.concat(elements));
}

/** SET of one element; of several, DER would want them sorted. */
export function set(member: Buffer): Buffer {
  return element(0x31, member);
}

/**
 * INTEGER that is not negative, from its big-endian bytes; the sign bit gets a byte of its own
 * where it is needed.
 */
export function unsigned(bytes: Buffer): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0);
  const significant = first === -1 ? Buffer.alloc(1) : bytes.subarray(first);
  return element(
    0x02,
    (significant[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.alloc(1), significant]) : significant,
  );
}

/** BOOLEAN TRUE. FALSE is a default everywhere in a certificate, and DER leaves defaults out. */
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

/** BIT STRING, of whole bytes unless `unusedBits` of the last one do not count. */
export function bits(bytes: Buffer, unusedBits = 0): Buffer {
  return element(0x03, Buffer.concat([Buffer.of(unusedBits), bytes]));
}

/**
 * A time of X.509, to the second: UTCTime until 2049 and GeneralizedTime from 2050 on (RFC 5280,
 * section 4.1.2.5).
 */
export function time(date: Date): Buffer {
  const digits = `${date.toISOString().replaceAll(/[-:T]|\..*/g, '')}Z`;
  const year = date.getUTCFullYear();
  return year >= 1950 && year < 2050
    ? element(0x17, Buffer.from(digits.slice(2)))
    : element(0x18, Buffer.from(digits));
}

/** Context-specific tag around whole elements: EXPLICIT, or IMPLICIT over a constructed type. */
export function tagged(tag: number, ...elements: readonly Buffer[]): Buffer {
  return element(0xa0 | tag, Buffer.concat(elements));
}

/** Context-specific tag instead of the one of a primitive type: IMPLICIT. */
export function taggedBytes(tag: number, bytes: Buffer): Buffer {
  return element(0x80 | tag, bytes);
}

/** Tag, length (short below 128, else the count of its bytes and those), content. */
function element(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const lengthBytes =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  if (length > 0xffff)
    throw new RangeError(`an element of ${length} bytes is not of a certificate`);
  return Buffer.concat([Buffer.from([tag, ...lengthBytes]), content]);
}

/** Seven bits a byte, the high bit set in all but the last. */
function base128(value: number): number[] {
  const groups = [value & 0x7f];
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) groups.unshift((rest & 0x7f) | 0x80);
  return groups;
}

/*
 * Reads DER (ITU-T X.690, section 10) as far as a certificate has to be looked into for what
 * Node.js does not tell: its signature's algorithm, its subject to the byte, its key identifier. It
 * follows no structure of its own; whoever calls knows what should be there.
 */

/** A value of DER. */
export interface DerValue {
  readonly tag: number;
  readonly content: Buffer;
  /** Tag, length and content. */
  readonly whole: Buffer;
}

/** Tags that a certificate is made of. */
export const DER_TAG = {
  octetString: 0x04,
  objectIdentifier: 0x06,
  sequence: 0x30,
  context0: 0xa0,
  context3: 0xa3,
} as const;

/**
 * The values that stand one behind the other; what is cut short or has no definite length of at
 * most four bytes ends the list.
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
