/**
 * Logging in with a client certificate (`--backend-auth cert` and `issue-cert`): the backend knows
 * the front-end, or the user himself, by what TLS has shown it, and asks for nothing more. pgsso
 * cannot see whether the certificate was looked at; see probe.ts.
 */

import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { chmod, unlink, writeFile } from 'node:fs/promises';
import type { SecureContext } from 'node:tls';
import { readPrivateFile, unusableFile } from '../lib/files.ts';
import {
  keyToPem,
  newKey,
  type Signer,
  selfSigner,
  signCertificate,
  signerOf,
} from '../lib/x509/certificate.ts';
import { AUTHENTICATION } from '../wire/constants.ts';
import type { BackendLogin, Credentials } from './credentials.ts';
import { notAdmitted } from './errors.ts';
import { readRequest, requestName } from './leg.ts';
import { type BackendTarget, readCertificates, type TlsIdentity } from './target.ts';

/**
 * One certificate for every user: the backend's pg_ident.conf says whom it may be.
 *
 * @throws PgError F0000 for files that cannot be used
 */
export async function certificateCredentials(
  target: BackendTarget,
  files: IdentityFiles,
): Promise<Credentials> {
  let context = await readContext(target, files);
  return {
    method: 'cert',
    secureContext: () => context,
    async reload() {
      context = await readContext(target, files);
    },
    authenticate: (login) => expectNoRequest(login, 'cert'),
  };
}

/**
 * A certificate of his own for each user, from an authority that the backend trusts for nothing
 * else.
 */
export function issuedCredentials(target: BackendTarget, issuer: CertificateIssuer): Credentials {
  return {
    method: 'issue-cert',
    secureContext: (user) => issuer.contextFor(user, (identity) => target.createContext(identity)),
    reload: () => issuer.reload(),
    authenticate: (login) => expectNoRequest(login, 'issue-cert'),
  };
}

async function readContext(target: BackendTarget, files: IdentityFiles): Promise<SecureContext> {
  const cert = (await readCertificates(files.certificateName, files.certificate)).join('');
  const key = await readPrivateFile(files.keyName, files.key);
  try {
    return target.createContext({ cert, key } satisfies TlsIdentity);
  } catch (error) {
    throw unusableFile(files.keyName, files.key, error);
  } finally {
    key.fill(0);
  }
}

async function expectNoRequest(
  { leg, user, signal }: BackendLogin,
  method: 'cert' | 'issue-cert',
): Promise<Buffer> {
  if (!leg.certificate)
    throw notAdmitted(
      user,
      `${leg.label}: without TLS there is no certificate, and --backend-auth is ${method}`,
    );
  const { code, bytes } = await readRequest(leg, signal);
  if (code === AUTHENTICATION.ok) return bytes;
  throw notAdmitted(
    user,
    `${leg.label} asks for a credential (${requestName(code)}), and --backend-auth is ${method}: see the "cert" lines of its pg_hba.conf`,
  );
}

/*
 * Issues client certificates (`--backend-auth issue-cert`): one for each user, valid for minutes,
 * its common name the SQL user. The backend needs neither a password nor a map, and a certificate
 * that somebody gets hold of is worthless soon. The authority's key is kept as a key object,
 * outside of JavaScript's heap, and is never written anywhere.
 */

/**
 * Paths of a certificate, with its chain if it has one, and of its private key; and how errors call
 * the two files.
 */
export interface IdentityFiles {
  readonly certificate: string;
  readonly key: string;
  readonly certificateName: string;
  readonly keyName: string;
}

/** How far the backend's clock may be behind ours, in ms. */
export const CLOCK_TOLERANCE_MS = 120_000;

/**
 * How long a certificate is valid from now on, in ms; PostgreSQL looks at it once, when the
 * connection is made.
 */
const VALIDITY_MS = 300_000;

/**
 * How long a certificate is used again for its user, in ms. The rest of its validity is how far the
 * backend's clock may be ahead.
 */
const REUSE_MS = 120_000;

/**
 * A context has 20 to 50 KB in OpenSSL; beyond this the user that was least recently seen gets a
 * new certificate next time.
 */
const CACHE_LIMIT = 1000;

interface Issued {
  readonly context: SecureContext;
  /** On the issuer's clock. */
  readonly at: number;
}

/** What the files of an authority hold. */
interface AuthorityFiles {
  readonly signer: Signer;
  /** Certificates between the authority and one that the backend knows; PEM. */
  readonly chain: string;
}

/** An authority, and the certificates that it has issued lately. */
export class CertificateIssuer {
  readonly #files: IdentityFiles;
  readonly #now: () => number;
  /** User → certificate in use, the least recently used first. */
  readonly #issued = new Map<string, Issued>();
  #authority: AuthorityFiles;

  private constructor(files: IdentityFiles, authority: AuthorityFiles, now: () => number) {
    this.#files = files;
    this.#authority = authority;
    this.#now = now;
  }

  /**
   * Reads the authority.
   *
   * @param now milliseconds since the epoch
   * @throws PgError F0000 for files that cannot be used: not private, not of each other, not of an
   *   authority
   */
  static async open(
    files: IdentityFiles,
    now: () => number = Date.now,
  ): Promise<CertificateIssuer> {
    return new CertificateIssuer(files, await readAuthority(files), now);
  }

  /**
   * Reads the authority again and forgets what it has issued. Throws as open does; the old one then
   * stays in use.
   */
  async reload(): Promise<void> {
    this.#authority = await readAuthority(this.#files);
    this.#issued.clear();
  }

  /**
   * The user's certificate, as a context that `create` made of it: the one in use, or a new one.
   */
  contextFor(user: string, create: (identity: TlsIdentity) => SecureContext): SecureContext {
    const at = this.#now();
    const known = this.#issued.get(user);
    this.#issued.delete(user);
    const usable = known && at >= known.at && at < known.at + REUSE_MS;
    const issued = usable ? known : { context: create(this.issue(user)), at };
    this.#issued.set(user, issued);
    for (const oldest of this.#issued.keys()) {
      if (this.#issued.size <= CACHE_LIMIT) break;
      this.#issued.delete(oldest);
    }
    return issued.context;
  }

  /** A new certificate for the user, with a new key. */
  issue(user: string): TlsIdentity {
    const { signer, chain } = this.#authority;
    const key = newKey();
    const at = this.#now();
    const cert = signCertificate(signer, {
      cn: user,
      publicKey: createPublicKey(key),
      notBefore: new Date(at - CLOCK_TOLERANCE_MS),
      notAfter: new Date(at + VALIDITY_MS),
      purposes: ['client'],
    });
    return { cert: cert + chain, key: keyToPem(key) };
  }
}

async function readAuthority(files: IdentityFiles): Promise<AuthorityFiles> {
  const certificates = (await readCertificates(files.certificateName, files.certificate)).map(
    (pem) => new X509Certificate(pem),
  );
  const [authority] = certificates;
  const pem = await readPrivateFile(files.keyName, files.key);
  try {
    if (!authority) throw new Error('there is no certificate');
    const signer = signerOf(authority, createPrivateKey(pem));
    // The backend knows the root itself; what is between has to be shown to it (RFC 8446, section
    // 4.4.2).
    const chain = certificates.filter(({ subject, issuer }) => subject !== issuer).join('');
    return { signer, chain };
  } catch (error) {
    throw unusableFile(files.keyName, files.key, error);
  } finally {
    // Node.js keeps the key outside of the heap from here on.
    pem.fill(0);
  }
}

/*
 * Makes an authority for `--backend-auth issue-cert` (`pgsso ca init`): one that can sign nothing
 * but clients, and that no backend should trust for anything else.
 */

/** What is to be made. */
export interface NewAuthority {
  /** Paths of the files, which must not exist yet. */
  readonly certificate: string;
  readonly key: string;
  /** Common name, for logs and for people. */
  readonly name: string;
  readonly days: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

const DAY_MS = 86_400_000;

/**
 * Makes key and certificate; the key's file has mode 0600. Nothing is overwritten, and nothing is
 * left if one of them cannot be written.
 *
 * @throws Error with the path of the file that cannot be written
 */
export async function createAuthority({
  certificate,
  key: keyPath,
  name,
  days,
  now,
}: NewAuthority): Promise<void> {
  const key = newKey();
  const pem = signCertificate(selfSigner(name, key), {
    cn: name,
    publicKey: createPublicKey(key),
    notBefore: new Date(now - CLOCK_TOLERANCE_MS),
    notAfter: new Date(now + days * DAY_MS),
    purposes: ['client'],
    authority: true,
  });
  await writeFile(keyPath, keyToPem(key), { flag: 'wx', mode: 0o600 });
  try {
    // The umask may have taken the owner's own bits.
    await chmod(keyPath, 0o600);
    await writeFile(certificate, pem, { flag: 'wx', mode: 0o644 });
  } catch (error) {
    await unlink(keyPath);
    throw error;
  }
}
