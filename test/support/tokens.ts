/**
 * A mint for keys and tokens: any algorithm, any header, any claims, and tokens that no library
 * would make. Signs with node:crypto, so that what is verified with one implementation was made
 * with another.
 */
import { constants, createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

const CURVES = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' } as const;

/** The algorithms that a key here may sign with. */
export type SigningAlgorithm =
  | 'RS256'
  | 'RS384'
  | 'RS512'
  | 'PS256'
  | 'PS384'
  | 'PS512'
  | keyof typeof CURVES
  | 'EdDSA';

/** A key pair of an imagined issuer. */
export interface TestKey {
  readonly kid: string;
  readonly algorithm: SigningAlgorithm;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** Signs the text before the second dot. */
export type Signer = (signingInput: string) => Buffer;

/** Members of a header or a set of claims; one that is undefined is left out. */
export type Members = Readonly<Record<string, unknown>>;

const made = new Map<string, TestKey>();

/**
 * The key of that algorithm and name: the same one each time within a process, since an RSA key
 * takes long to make.
 */
export function testKey(algorithm: SigningAlgorithm, kid: string = algorithm): TestKey {
  const name = `${algorithm} ${kid}`;
  const key = made.get(name) ?? { kid, algorithm, ...generatePair(algorithm) };
  made.set(name, key);
  return key;
}

/** The public JWK as an issuer publishes it. */
export function publicJwk({ publicKey, kid, algorithm }: TestKey, members: Members = {}): Members {
  return { ...publicKey.export({ format: 'jwk' }), kid, alg: algorithm, use: 'sig', ...members };
}

/** A JWK set as text, as it goes into `server.jwt_authentication.jwks`. */
export function keySetText(...keys: readonly TestKey[]): string {
  return JSON.stringify({ keys: keys.map((key) => publicJwk(key)) });
}

/**
 * A token that the key signed; `header` adds to, replaces or removes (undefined) what is usually in
 * it.
 */
export function mintToken(key: TestKey, claims: Members, header: Members = {}): string {
  const usual = { alg: key.algorithm, kid: key.kid, typ: 'JWT' };
  return assembleToken(
    JSON.stringify({ ...usual, ...header }),
    JSON.stringify(claims),
    signWith(key),
  );
}

/** A token around any two texts or byte strings, whether they are JSON or not. */
export function assembleToken(
  header: string | Buffer,
  payload: string | Buffer,
  signer: Signer,
): string {
  const signingInput = `${encode(header)}.${encode(payload)}`;
  return `${signingInput}.${encode(signer(signingInput))}`;
}

/** Signs with a key, by default as its algorithm says. */
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

/** Signs as HS256 with any secret: what algorithm confusion needs. */
export function signWithSecret(secret: string | Buffer): Signer {
  return (signingInput) => createHmac('sha256', secret).update(signingInput).digest();
}

/** Signs nothing: the third part stays empty. */
export const signNothing: Signer = () => Buffer.alloc(0);

/** Unpadded base64url. */
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
