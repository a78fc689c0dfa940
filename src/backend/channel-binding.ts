/**
 * The channel binding `tls-server-end-point` (RFC 5929, section 4.1): a hash of the server's
 * certificate, made with the hash function of the certificate's own signature. Node.js 20 does not
 * report that function, so it is read from the DER form.
 */

import { createHash } from 'node:crypto';
import { DER_TAG, type DerValue, readValues } from '../lib/x509/der.ts';

/**
 * The hash functions of signature algorithms, by the DER bytes of their object identifiers. RFC
 * 5929 replaces MD5 and SHA-1 by SHA-256.
 */
const signatureHashes: ReadonlyMap<string, string> = new Map([
  ['2a864886f70d010104', 'sha256'], // md5WithRSAEncryption
  ['2a864886f70d010105', 'sha256'], // sha1WithRSAEncryption
  ['2a864886f70d01010b', 'sha256'], // sha256WithRSAEncryption
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
  ['2a864886f70d01010e', 'sha224'],
  ['2a8648ce3d0401', 'sha256'], // ecdsa-with-SHA1
  ['2a8648ce3d040301', 'sha224'],
  ['2a8648ce3d040302', 'sha256'], // ecdsa-with-SHA256
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
]);

/** Hash functions in the parameters of RSASSA-PSS (RFC 4055, section 2.1). */
const hashes: ReadonlyMap<string, string> = new Map([
  ['2b0e03021a', 'sha256'], // SHA-1, replaced as above
  ['608648016503040204', 'sha224'],
  ['608648016503040201', 'sha256'],
  ['608648016503040202', 'sha384'],
  ['608648016503040203', 'sha512'],
]);

const RSASSA_PSS = '2a864886f70d01010a';

/**
 * The channel binding data of a certificate in DER form; undefined if its signature has no hash
 * function of its own (Ed25519).
 */
export function endPointHash(certificate: Buffer): Buffer | undefined {
  const hash = signatureHash(certificate);
  return hash === undefined ? undefined : createHash(hash).update(certificate).digest();
}

/**
 * Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { algorithm, parameters },
 * signature } (RFC 5280, 4.1).
 */
function signatureHash(certificate: Buffer): string | undefined {
  const [outer] = readValues(certificate);
  const [, signatureAlgorithm] = readValues(outer?.content);
  const [algorithm, parameters] = readValues(signatureAlgorithm?.content);
  if (algorithm?.tag !== DER_TAG.objectIdentifier) return undefined;
  const name = algorithm.content.toString('hex');
  return name === RSASSA_PSS ? pssHash(parameters) : signatureHashes.get(name);
}

/**
 * RSASSA-PSS-params ::= SEQUENCE { [0] hashAlgorithm SEQUENCE { algorithm, … } DEFAULT sha1, … }
 * (RFC 4055, 3.1).
 */
function pssHash(parameters: DerValue | undefined): string | undefined {
  if (parameters?.tag !== DER_TAG.sequence) return undefined;
  const explicit = readValues(parameters.content).find(({ tag }) => tag === DER_TAG.context0);
  if (!explicit) return 'sha256';
  const [hashAlgorithm] = readValues(explicit.content);
  const [algorithm] = readValues(hashAlgorithm?.content);
  return hashes.get(algorithm?.content.toString('hex') ?? '');
}
