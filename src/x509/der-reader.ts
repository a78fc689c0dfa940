/**
 * Reads DER (ITU-T X.690, section 10) as far as a certificate has to be looked into for what Node.js does not tell: its signature's
 * algorithm, its subject to the byte, its key identifier. It follows no structure of its own; whoever calls knows what should be there.
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

/** The values that stand one behind the other; what is cut short or has no definite length of at most four bytes ends the list. */
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
    values.push({ tag, content: bytes.subarray(start, start + length), whole: bytes.subarray(at, start + length) });
    at = start + length;
  }
  return values;
}
