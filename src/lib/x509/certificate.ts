/**
 * Writes X.509 certificates (RFC 5280) with what PostgreSQL and OpenSSL need and no more: a subject
 * of one common name, a validity, and the extensions that say what the key is for. It takes a
 * fraction of a millisecond; a library takes several.
 */

import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  type X509Certificate,
} from 'node:crypto';
import { isIP, isIPv6 } from 'node:net';
import { formatPemCertificate } from '../pem.ts';
import {
  bits,
  booleanTrue,
  DER_TAG,
  none,
  objectId,
  octets,
  readValues,
  sequence,
  set,
  tagged,
  taggedBytes,
  time,
  unsigned,
  utf8,
} from './der.ts';

/** An authority that signs certificates. */
export interface Signer {
  readonly key: KeyObject;
  /** The subject of its certificate, in DER form. */
  readonly name: Buffer;
  /** The key identifier of its certificate; undefined if it has none. */
  readonly keyId: Buffer | undefined;
}

/** What the key of a certificate may be used for. */
export type Purpose = 'server' | 'client';

/** A certificate to be signed. */
export interface CertificateContents {
  /** The common name, which is the whole subject. */
  readonly cn: string;
  readonly publicKey: KeyObject;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** Extended key usage. OpenSSL applies that of an authority to the certificates below it, too. */
  readonly purposes: readonly Purpose[];
  /** Subject alternative names: host names and IP addresses. */
  readonly san?: readonly string[];
  /** Whether it may sign certificates, but none of further authorities. Default: no. */
  readonly authority?: boolean;
}

const oid = {
  commonName: objectId('2.5.4.3'),
  subjectKeyId: objectId('2.5.29.14'),
  keyUsage: objectId('2.5.29.15'),
  subjectAltName: objectId('2.5.29.17'),
  basicConstraints: objectId('2.5.29.19'),
  authorityKeyId: objectId('2.5.29.35'),
  extendedKeyUsage: objectId('2.5.29.37'),
} as const;

const purposeIds: Readonly<Record<Purpose, Buffer>> = {
  server: objectId('1.3.6.1.5.5.7.3.1'),
  client: objectId('1.3.6.1.5.5.7.3.2'),
};

/**
 * Signature algorithms by the type of the signer's key: the hash function and the
 * AlgorithmIdentifier (RFC 5758, RFC 4055).
 */
const signatures: Readonly<Record<string, { readonly hash: string; readonly id: Buffer }>> = {
  prime256v1: { hash: 'sha256', id: sequence(objectId('1.2.840.10045.4.3.2')) },
  secp384r1: { hash: 'sha384', id: sequence(objectId('1.2.840.10045.4.3.3')) },
  secp521r1: { hash: 'sha512', id: sequence(objectId('1.2.840.10045.4.3.4')) },
  rsa: { hash: 'sha256', id: sequence(objectId('1.2.840.113549.1.1.11'), none) },
};

const keyUsages = {
  // From the left, bit 0 is digitalSignature, and bits 5 and 6 are keyCertSign and cRLSign.
  leaf: extension(oid.keyUsage, bits(Buffer.of(0x80), 7), 'critical'),
  authority: extension(oid.keyUsage, bits(Buffer.of(0x06), 1), 'critical'),
};

const constraints = {
  leaf: extension(oid.basicConstraints, sequence(), 'critical'),
  authority: extension(
    oid.basicConstraints,
    sequence(booleanTrue, unsigned(Buffer.of(0))),
    'critical',
  ),
};

/**
 * Signs a certificate (RFC 5280, section 4.1), with a random serial number.
 *
 * @returns PEM
 * @throws Error for a signer's key that is neither RSA nor ECDSA on P-256, P-384 or P-521
 */
export function signCertificate(signer: Signer, contents: CertificateContents): string {
  const { cn, publicKey, notBefore, notAfter, purposes, san = [], authority = false } = contents;
  const algorithm = signatureAlgorithm(signer.key);
  const kind = authority ? 'authority' : 'leaf';
  const extensions = [
    constraints[kind],
    keyUsages[kind],
    extension(oid.extendedKeyUsage, sequence(...purposes.map((purpose) => purposeIds[purpose]))),
    extension(oid.subjectKeyId, octets(keyIdentifier(publicKey))),
    ...(signer.keyId
      ? [extension(oid.authorityKeyId, sequence(taggedBytes(0, signer.keyId)))]
      : []),
    ...(san.length > 0 ? [extension(oid.subjectAltName, sequence(...san.map(generalName)))] : []),
  ];
  const toBeSigned = sequence(
    tagged(0, unsigned(Buffer.of(2))), // version 3
    unsigned(randomBytes(16)),
    algorithm.id,
    signer.name,
    sequence(time(notBefore), time(notAfter)),
    commonName(cn),
    publicKey.export({ type: 'spki', format: 'der' }),
    tagged(3, sequence(...extensions)),
  );
  return formatPemCertificate(
    sequence(toBeSigned, algorithm.id, bits(sign(algorithm.hash, toBeSigned, signer.key))),
  );
}

/** The signer of a self-signed certificate. The certificate must have the same key. */
export function selfSigner(cn: string, key: KeyObject): Signer {
  return { key, name: commonName(cn), keyId: keyIdentifier(createPublicKey(key)) };
}

/**
 * The signer with this certificate and key.
 *
 * @throws Error if they do not belong together, or if the certificate is of no authority
 */
export function signerOf(certificate: X509Certificate, key: KeyObject): Signer {
  if (!certificate.ca)
    throw new Error('the certificate is not one of an authority (basicConstraints CA:TRUE)');
  if (!certificate.checkPrivateKey(key)) throw new Error('the key is not that of the certificate');
  signatureAlgorithm(key);
  const [outer] = readValues(certificate.raw);
  const [toBeSigned] = readValues(outer?.content);
  const fields = readValues(toBeSigned?.content);
  // Version, serial number, signature, issuer, validity, subject, key and [3] extensions (RFC 5280,
  // section 4.1).
  const name = fields[5]?.whole;
  if (!name) throw new Error('the certificate has no subject');
  return {
    key,
    name,
    keyId: subjectKeyIdentifier(fields.find(({ tag }) => tag === DER_TAG.context3)?.content),
  };
}

/** A new key: ECDSA on P-256, which PostgreSQL and CockroachDB accept. */
export function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

/** A private key in PEM, as PKCS #8. */
export function keyToPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/**
 * Extensions ::= SEQUENCE OF SEQUENCE { extnID, critical DEFAULT FALSE, extnValue OCTET STRING }
 * (RFC 5280, section 4.1).
 */
function subjectKeyIdentifier(extensions: Buffer | undefined): Buffer | undefined {
  const [list] = readValues(extensions);
  const found = readValues(list?.content).find(({ content }) =>
    content.subarray(0, oid.subjectKeyId.length).equals(oid.subjectKeyId),
  );
  const value = readValues(found?.content).findLast(({ tag }) => tag === DER_TAG.octetString);
  return readValues(value?.content)[0]?.content;
}

function signatureAlgorithm(key: KeyObject): { readonly hash: string; readonly id: Buffer } {
  const kind =
    key.asymmetricKeyType === 'ec' ? key.asymmetricKeyDetails?.namedCurve : key.asymmetricKeyType;
  const found = signatures[kind ?? ''];
  if (!found)
    throw new Error(
      `a key of kind ${kind} cannot sign here; there are RSA and ECDSA on P-256, P-384 and P-521`,
    );
  return found;
}

function commonName(cn: string): Buffer {
  return sequence(set(sequence(oid.commonName, utf8(cn))));
}

function extension(id: Buffer, value: Buffer, critical?: 'critical'): Buffer {
  return sequence(id, ...(critical ? [booleanTrue] : []), octets(value));
}

/** A dNSName or iPAddress (RFC 5280, section 4.2.1.6). */
function generalName(name: string): Buffer {
  return isIP(name) ? taggedBytes(7, addressBytes(name)) : taggedBytes(2, Buffer.from(name));
}

function addressBytes(address: string): Buffer {
  if (!isIPv6(address)) return Buffer.from(address.split('.').map(Number));
  const [head = [], tail = []] = address.split('::').map((half) => half.split(':').filter(Boolean));
  const groups = [...head, ...Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

/** Method 1 of RFC 7093, section 2: the first 160 bits of the SHA-256 of the public key. */
function keyIdentifier(publicKey: KeyObject): Buffer {
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest()
    .subarray(0, 20);
}
