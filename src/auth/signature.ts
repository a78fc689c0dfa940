/**
 * The signature algorithms of RFC 7518, section 3.1 and RFC 8037 that a key may be used with, on OpenSSL through node:crypto. Each row
 * fixes every parameter, so that nothing of a token but its bytes goes into the verification. `jose` does the same in more than twice the time
 * (bench/verify.ts); the tests hold this against it.
 */
import { constants, type KeyObject, type VerifyKeyObjectInput, verify } from 'node:crypto';

interface Algorithm {
  /** `asymmetricKeyType` of the keys that it is for. */
  readonly keyType: 'rsa' | 'ec' | 'ed25519';
  /** Null where the algorithm hashes by itself. */
  readonly hash: string | null;
  readonly parameters: Omit<VerifyKeyObjectInput, 'key'>;
  /** Length of a signature in bytes, where the algorithm fixes it and not the key. */
  readonly length?: number;
}

const algorithms: ReadonlyMap<string, Algorithm> = new Map([
  ['RS256', pkcs1('sha256')],
  ['RS384', pkcs1('sha384')],
  ['RS512', pkcs1('sha512')],
  ['PS256', pss('sha256', 32)],
  ['PS384', pss('sha384', 48)],
  ['PS512', pss('sha512', 64)],
  ['ES256', ecdsa('sha256', 64)],
  ['ES384', ecdsa('sha384', 96)],
  ['ES512', ecdsa('sha512', 132)],
  ['EdDSA', { keyType: 'ed25519', hash: null, parameters: {}, length: 64 }],
]);

/** RFC 7518, 3.3. */
function pkcs1(hash: string): Algorithm {
  return { keyType: 'rsa', hash, parameters: { padding: constants.RSA_PKCS1_PADDING } };
}

/** RFC 7518, 3.5: MGF1 with the same hash, and a salt as long as the hash; OpenSSL refuses any other. */
function pss(hash: string, saltLength: number): Algorithm {
  return { keyType: 'rsa', hash, parameters: { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength } };
}

/** RFC 7518, 3.4: R and S side by side, each as long as the curve's order; the curve is a property of the key. */
function ecdsa(hash: string, length: number): Algorithm {
  return { keyType: 'ec', hash, parameters: { dsaEncoding: 'ieee-p1363' }, length };
}

/** Whether the key made the signature over the bytes with that algorithm. False for an algorithm that is not for the key. */
export function isSignedBy(algorithm: string, key: KeyObject, signed: Buffer, signature: Buffer): boolean {
  const method = algorithms.get(algorithm);
  if (method === undefined || method.keyType !== key.asymmetricKeyType) return false;
  if (method.length !== undefined && method.length !== signature.length) return false;
  return verify(method.hash, signed, { key, ...method.parameters }, signature);
}
