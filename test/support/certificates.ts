/**
 * Certificates for tests: an authority, and its server and client certificates. Each takes under a
 * millisecond and needs no openssl binary. The code that issues certificates for `--backend-auth
 * issue-cert` writes them.
 */

import { createPrivateKey, createPublicKey } from 'node:crypto';
import {
  keyToPem,
  newKey,
  type Purpose,
  type Signer,
  selfSigner,
  signCertificate,
} from '../../src/lib/x509/certificate.ts';

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
  readonly usage?: Purpose;
  /** Private key as PEM; default: a new one. */
  readonly key?: string;
}

/** A certificate authority. */
export interface Authority extends Certificate {
  issue(options: CertificateOptions): Certificate;
}

const day = 86_400_000;

/** Makes a self-signed authority that is valid for ten years. */
export function makeAuthority(cn = 'pgsso test authority'): Authority {
  const key = newKey();
  const signer = selfSigner(cn, key);
  const cert = signCertificate(signer, {
    cn,
    publicKey: createPublicKey(key),
    notBefore: new Date(Date.now() - day),
    notAfter: new Date(Date.now() + 3650 * day),
    purposes: ['server', 'client'],
    authority: true,
  });
  return { cert, key: keyToPem(key), issue: (options) => issue(signer, options) };
}

function issue(signer: Signer, options: CertificateOptions): Certificate {
  const {
    cn,
    san = [],
    usage,
    notBefore = new Date(Date.now() - day),
    notAfter = new Date(Date.now() + 365 * day),
  } = options;
  const key = options.key === undefined ? newKey() : createPrivateKey(options.key);
  const purposes: readonly Purpose[] = usage === undefined ? ['server', 'client'] : [usage];
  const cert = signCertificate(signer, {
    cn,
    publicKey: createPublicKey(key),
    notBefore,
    notAfter,
    purposes,
    san,
  });
  return { cert, key: keyToPem(key) };
}
