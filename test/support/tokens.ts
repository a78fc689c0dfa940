/**
 * Makes keys and tokens: any algorithm, header and claims, and tokens that no library makes. It
 * signs with node:crypto, so that tokens are not verified by the implementation that made them.
 */
import { constants, createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

const CURVES = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' } as const;

/** The algorithms of test keys. */
export type SigningAlgorithm =
  | 'RS256'
  | 'RS384'
  | 'RS512'
  | 'PS256'
  | 'PS384'
  | 'PS512'
  | keyof typeof CURVES
  | 'EdDSA';

/** A key pair of a test issuer. */
export interface TestKey {
  readonly kid: string;
  readonly algorithm: SigningAlgorithm;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** Signs the text before the second dot. */
export type Signer = (signingInput: string) => Buffer;

/** Members of a header or of claims. An undefined one is left out. */
export type Members = Readonly<Record<string, unknown>>;

const made = new Map<string, TestKey>();

/**
 * Returns the key of an algorithm and a name. A process makes each key once, since an RSA key takes
 * long to make.
 */
export function testKey(algorithm: SigningAlgorithm, kid: string = algorithm): TestKey {
  const name = `${algorithm} ${kid}`;
  const key = made.get(name) ?? { kid, algorithm, ...generatePair(algorithm) };
  made.set(name, key);
  return key;
}

/** Returns the public JWK as an issuer publishes it. */
export function publicJwk({ publicKey, kid, algorithm }: TestKey, members: Members = {}): Members {
  return { ...publicKey.export({ format: 'jwk' }), kid, alg: algorithm, use: 'sig', ...members };
}

/** Returns a JWK set as text, for `server.jwt_authentication.jwks`. */
export function keySetText(...keys: readonly TestKey[]): string {
  return JSON.stringify({ keys: keys.map((key) => publicJwk(key)) });
}

/**
 * Makes a token that the key signs.
 *
 * @param header added to the usual header; it replaces a member, or removes it with undefined
 */
export function mintToken(key: TestKey, claims: Members, header: Members = {}): string {
  const usual = { alg: key.algorithm, kid: key.kid, typ: 'JWT' };
  return assembleToken(
    JSON.stringify({ ...usual, ...header }),
    JSON.stringify(claims),
    signWith(key),
  );
}

/** Makes a token of any two texts or byte strings, valid JSON or not. */
export function assembleToken(
  header: string | Buffer,
  payload: string | Buffer,
  signer: Signer,
): string {
  const signingInput = `${encode(header)}.${encode(payload)}`;
  return `${signingInput}.${encode(signer(signingInput))}`;
}

/** Signs with a key, by default with its own algorithm. */
export function signWith(key: TestKey, algorithm: SigningAlgorithm = key.algorithm): Signer {
  const hash = algorithm === 'EdDSA' ? null : `sha${algorithm.slice(2)}`;
  const padding = algorithm.startsWith('PS')
    ? constants.RSA_PKCS1_PSS_PADDING
    : constants.RSA_PKCS1_PADDING;
  const options = {
    key: key.privateKey,
    dsaEncoding: 'ieee-p1363' as const,
    saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
    ...(key.privateKey.asymmetricKeyType === 'rsa' ? { padding } : {}),
  };
  return (signingInput) => sign(hash, Buffer.from(signingInput), options);
}

/** Signs with HS256 and any secret, for attacks by algorithm confusion. */
export function signWithSecret(secret: string | Buffer): Signer {
  return (signingInput) => createHmac('sha256', secret).update(signingInput).digest();
}

/** Leaves the signature empty. */
export const signNothing: Signer = () => Buffer.alloc(0);

/** Encodes as base64url without padding. */
export function encode(part: string | Buffer): string {
  return Buffer.from(part).toString('base64url');
}

function generatePair(algorithm: SigningAlgorithm): {
  privateKey: KeyObject;
  publicKey: KeyObject;
} {
  switch (algorithm) {
    case 'EdDSA':
      return generateKeyPairSync('ed25519');
    case 'ES256':
    case 'ES384':
    case 'ES512':
      return generateKeyPairSync('ec', { namedCurve: CURVES[algorithm] });
    default:
      return generateKeyPairSync('rsa', { modulusLength: 2048 });
  }
}
