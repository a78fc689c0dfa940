/**
 * Logins with a client certificate: one for all users (`--backend-auth cert`), or one issued for
 * each user (`issue-cert`). An issued certificate is valid for minutes and its common name is the
 * SQL user, so the backend needs neither a password nor a map. The authority's key stays a key
 * object, outside of JavaScript's heap. A login cannot see whether the backend looked at the
 * certificate; Backend tests that.
 */

import { createPrivateKey, createPublicKey } from 'node:crypto';
import { chmod, unlink, writeFile } from 'node:fs/promises';
import type { SecureContext } from 'node:tls';
import { ExpiringCache } from '../lib/expiring-cache.ts';
import { readPrivateFile, unusableFile } from '../lib/files.ts';
import { readCertificates } from '../lib/pem.ts';
import {
  keyToPem,
  newKey,
  type Signer,
  selfSigner,
  signCertificate,
  signerOf,
} from '../lib/x509/certificate.ts';
import { AUTHENTICATION } from '../wire/constants.ts';
import { readRequest, requestName } from './connection.ts';
import type { BackendLogin, Credentials } from './credentials.ts';
import { notAdmitted } from './errors.ts';
import type { BackendTarget, TlsIdentity } from './target.ts';

/** How far the backend's clock may be behind that of the front-end. */
export const CLOCK_TOLERANCE_MS = 120_000;

/** PostgreSQL checks the dates of a certificate once, when the connection is made. */
const VALIDITY_MS = 300_000;

/**
 * How long a certificate is used again for its user. The rest of its validity is how far the
 * backend's clock may be ahead.
 */
const REUSE_MS = 120_000;

/** A TLS context has 20 to 50 kB in OpenSSL. The certificates beyond this number are used once. */
const CACHE_LIMIT = 1000;

/** Paths of a certificate, with its chain if there is one, and of its private key. */
export interface IdentityFiles {
  readonly certificate: string;
  readonly key: string;
  /** The option or parameter that names the certificate, for errors. */
  readonly certificateName: string;
  /** The option or parameter that names the key, for errors. */
  readonly keyName: string;
}

/**
 * Logs in every user with one certificate. The backend's pg_ident.conf limits the users.
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

/** Logs in each user with a certificate of an authority that the backend uses for nothing else. */
export function issuedCredentials(target: BackendTarget, issuer: CertificateIssuer): Credentials {
  return {
    method: 'issue-cert',
    secureContext: (user) => issuer.contextFor(user, (identity) => target.createContext(identity)),
    reload: () => issuer.reload(),
    authenticate: (login) => expectNoRequest(login, 'issue-cert'),
  };
}

interface Issued {
  readonly context: SecureContext;
  /** On the issuer's clock. */
  readonly at: number;
}

/** An authority, and the certificates that it issued within the last minutes. */
export class CertificateIssuer {
  readonly #files: IdentityFiles;
  readonly #ownUsers: ReadonlySet<string>;
  readonly #now: () => number;
  /** By user. A full cache takes no more: the certificate is then used once. */
  readonly #issued = new ExpiringCache<Issued>(CACHE_LIMIT);
  #authority: AuthorityFiles;

  private constructor(
    files: IdentityFiles,
    ownUsers: readonly string[],
    authority: AuthorityFiles,
    now: () => number,
  ) {
    this.#files = files;
    this.#ownUsers = new Set(ownUsers);
    this.#authority = authority;
    this.#now = now;
  }

  /**
   * Reads the authority.
   *
   * @param ownUsers SQL users of pgsso itself, for whom no certificate is issued
   * @param now milliseconds since the epoch
   * @throws PgError F0000 for files that cannot be used: others can read the key, the two do not
   *   belong together, or the certificate is of no authority
   */
  static async open(
    files: IdentityFiles,
    ownUsers: readonly string[] = [],
    now: () => number = Date.now,
  ): Promise<CertificateIssuer> {
    return new CertificateIssuer(files, ownUsers, await readAuthority(files), now);
  }

  /**
   * Reads the authority again and forgets the certificates. Throws as open does; the old authority
   * then stays in use.
   */
  async reload(): Promise<void> {
    this.#authority = await readAuthority(this.#files);
    this.#issued.clear();
  }

  /**
   * The context that `create` made of the user's certificate: the one in use, or a new one.
   *
   * @throws PgError 28000 for a user of pgsso itself
   */
  contextFor(user: string, create: (identity: TlsIdentity) => SecureContext): SecureContext {
    const at = this.#now();
    const known = this.#issued.get(user);
    if (known && at >= known.at && at < known.at + REUSE_MS) return known.context;
    const context = create(this.issue(user));
    this.#issued.set(user, { context, at }, REUSE_MS);
    return context;
  }

  /**
   * A new certificate for the user, with a new key.
   *
   * @throws PgError 28000 for a user of pgsso itself: the directory's user may create users and
   *   grant roles, and must not be reached by a login, whatever the checks of a token let through
   */
  issue(user: string): TlsIdentity {
    if (this.#ownUsers.has(user))
      throw notAdmitted(
        user,
        `${user} is the user of --directory: no certificate is issued for it`,
      );
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

/** What to make as a new authority. */
export interface NewAuthority {
  /** Paths of the files, which must not exist. */
  readonly certificate: string;
  readonly key: string;
  /** Common name, for people and logs. */
  readonly name: string;
  readonly days: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

const DAY_MS = 86_400_000;

/**
 * Makes the key and the certificate of an authority for `issue-cert` (`pgsso ca init`), which can
 * sign certificates of clients only. The file of the key has mode 0600. Nothing is overwritten, and
 * no file is left if one of them cannot be written.
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
    // The umask may have removed bits of the owner.
    await chmod(keyPath, 0o600);
    await writeFile(certificate, pem, { flag: 'wx', mode: 0o644 });
  } catch (error) {
    await unlink(keyPath);
    throw error;
  }
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
  { connection, user, signal }: BackendLogin,
  method: 'cert' | 'issue-cert',
): Promise<Buffer> {
  const { label, certificate } = connection;
  if (!certificate)
    throw notAdmitted(
      user,
      `${label}: without TLS there is no certificate, and --backend-auth is ${method}`,
    );
  const { code, bytes } = await readRequest(connection, signal);
  if (code === AUTHENTICATION.ok) return bytes;
  throw notAdmitted(
    user,
    `${label} asks for a credential (${requestName(code)}), and --backend-auth is ${method}: ` +
      'see the "cert" lines of its pg_hba.conf',
  );
}

/** The contents of an authority's files. */
interface AuthorityFiles {
  readonly signer: Signer;
  /** The certificates that the backend needs between the issued one and its root, in PEM. */
  readonly chain: string;
}

async function readAuthority(files: IdentityFiles): Promise<AuthorityFiles> {
  const certificates = await readCertificates(files.certificateName, files.certificate);
  const [authority] = certificates;
  const pem = await readPrivateFile(files.keyName, files.key);
  try {
    if (!authority) throw new Error('there is no certificate');
    const signer = signerOf(authority, createPrivateKey(pem));
    // The backend has the root. It needs the certificates in between (RFC 8446, section 4.4.2).
    const chain = certificates.filter(({ subject, issuer }) => subject !== issuer).join('');
    return { signer, chain };
  } catch (error) {
    throw unusableFile(files.keyName, files.key, error);
  } finally {
    // The key object has its own copy, outside of JavaScript's heap.
    pem.fill(0);
  }
}
