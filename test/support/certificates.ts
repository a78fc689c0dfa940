/**
 * Certificates for tests (RFC 5280): an authority, and server and client certificates of it, in under a millisecond each and without
 * an openssl binary. Keys are ECDSA on P-256, which every client and PostgreSQL accept.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import { isIP, isIPv6 } from 'node:net';
import { bits, booleanTrue, objectId, octets, sequence, set, tagged, taggedBytes, time, unsigned, utf8 } from './der.ts';

/** A certificate and its private key (PKCS #8), both as PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** What {@link Authority.issue} takes. */
export interface CertificateOptions {
  /** The subject's common name: of a client certificate, the SQL user. */
  readonly cn: string;
  /** Subject alternative names: host names and IP addresses. */
  readonly san?: readonly string[];
  /** Default: a day ago. */
  readonly notBefore?: Date;
  /** Default: in a year. */
  readonly notAfter?: Date;
  /** Extended key usage, default both. */
  readonly usage?: 'server' | 'client';
  /** Private key as PEM; default: a new one. */
  readonly key?: string;
}

/** Something that signs certificates. */
export interface Authority extends Certificate {
  issue(options: CertificateOptions): Certificate;
}

const day = 86_400_000;

const oid = {
  commonName: objectId('2.5.4.3'),
  ecdsaWithSha256: objectId('1.2.840.10045.4.3.2'),
  subjectKeyId: objectId('2.5.29.14'),
  keyUsage: objectId('2.5.29.15'),
  subjectAltName: objectId('2.5.29.17'),
  basicConstraints: objectId('2.5.29.19'),
  authorityKeyId: objectId('2.5.29.35'),
  extendedKeyUsage: objectId('2.5.29.37'),
  serverAuth: objectId('1.3.6.1.5.5.7.3.1'),
  clientAuth: objectId('1.3.6.1.5.5.7.3.2'),
} as const;

const criticalKeyUsage = {
  // digitalSignature is bit 0; keyCertSign and cRLSign are bits 5 and 6, counted from the left
  leaf: extension(oid.keyUsage, bits(Buffer.of(0x80), 7), 'critical'),
  authority: extension(oid.keyUsage, bits(Buffer.of(0x06), 1), 'critical'),
};

/** Makes a self-signed authority that is valid for ten years. */
export function makeAuthority(cn = 'pgsso test authority'): Authority {
  const privateKey = newKey();
  const publicKey = createPublicKey(privateKey);
  const keyId = keyIdentifier(publicKey);
  const cert = signCertificate(privateKey, {
    issuer: cn,
    subject: cn,
    publicKey,
    notBefore: new Date(Date.now() - day),
    notAfter: new Date(Date.now() + 3650 * day),
    extensions: [
      extension(oid.basicConstraints, sequence(booleanTrue), 'critical'),
      criticalKeyUsage.authority,
      extension(oid.subjectKeyId, octets(keyId)),
    ],
  });
  return {
    cert,
    key: toPem(privateKey),
    issue: (options) => issue({ cn, privateKey, keyId }, options),
  };
}

function issue(authority: { cn: string; privateKey: KeyObject; keyId: Buffer }, options: CertificateOptions): Certificate {
  const { cn, san = [], usage, notBefore = new Date(Date.now() - day), notAfter = new Date(Date.now() + 365 * day) } = options;
  const privateKey = options.key === undefined ? newKey() : createPrivateKey(options.key);
  const publicKey = createPublicKey(privateKey);
  const purposes =
    usage === undefined ? [oid.serverAuth, oid.clientAuth] : [usage === 'server' ? oid.serverAuth : oid.clientAuth];
  const cert = signCertificate(authority.privateKey, {
    issuer: authority.cn,
    subject: cn,
    publicKey,
    notBefore,
    notAfter,
    extensions: [
      extension(oid.basicConstraints, sequence(), 'critical'),
      criticalKeyUsage.leaf,
      extension(oid.extendedKeyUsage, sequence(...purposes)),
      extension(oid.subjectKeyId, octets(keyIdentifier(publicKey))),
      extension(oid.authorityKeyId, sequence(taggedBytes(0, authority.keyId))),
      ...(san.length > 0 ? [extension(oid.subjectAltName, sequence(...san.map(generalName)))] : []),
    ],
  });
  return { cert, key: toPem(privateKey) };
}

interface Contents {
  readonly issuer: string;
  readonly subject: string;
  readonly publicKey: KeyObject;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly extensions: readonly Buffer[];
}

/** RFC 5280, section 4.1. */
function signCertificate(signer: KeyObject, contents: Contents): string {
  const algorithm = sequence(oid.ecdsaWithSha256);
  const toBeSigned = sequence(
    tagged(0, unsigned(Buffer.of(2))), // version 3
    unsigned(randomBytes(16)),
    algorithm,
    distinguishedName(contents.issuer),
    sequence(time(contents.notBefore), time(contents.notAfter)),
    distinguishedName(contents.subject),
    contents.publicKey.export({ type: 'spki', format: 'der' }),
    tagged(3, sequence(...contents.extensions)),
  );
  const certificate = sequence(toBeSigned, algorithm, bits(sign('sha256', toBeSigned, signer)));
  const lines = certificate.toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

function distinguishedName(cn: string): Buffer {
  return sequence(set(sequence(oid.commonName, utf8(cn))));
}

function extension(id: Buffer, value: Buffer, critical?: 'critical'): Buffer {
  return sequence(id, ...(critical ? [booleanTrue] : []), octets(value));
}

/** dNSName or iPAddress of RFC 5280, section 4.2.1.6. */
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

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

function toPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}
