/**
 * Logging in with a client certificate (`--backend-auth cert` and `issue-cert`): the backend knows the front-end, or the user himself, by
 * what TLS has shown it, and asks for nothing more. pgsso cannot see whether the certificate was looked at; see probe.ts.
 */
import type { SecureContext } from 'node:tls';
import { AUTHENTICATION } from '../protocol/constants.ts';
import { notAdmitted } from './backend-errors.ts';
import type { CertificateIssuer, IdentityFiles } from './certificate-issuer.ts';
import type { BackendLogin, Credentials } from './credentials.ts';
import { readRequest, requestName } from './leg.ts';
import { readPrivateFile, unusableFile } from './private-file.ts';
import { type BackendTarget, readCertificates, type TlsIdentity } from './target.ts';

/**
 * One certificate for every user: the backend's pg_ident.conf says whom it may be.
 *
 * @throws PgError F0000 for files that cannot be used
 */
export async function certificateCredentials(target: BackendTarget, files: IdentityFiles): Promise<Credentials> {
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

/** A certificate of his own for each user, from an authority that the backend trusts for nothing else. */
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

async function expectNoRequest({ leg, user, signal }: BackendLogin, method: 'cert' | 'issue-cert'): Promise<Buffer> {
  if (!leg.certificate)
    throw notAdmitted(user, `${leg.label}: without TLS there is no certificate, and --backend-auth is ${method}`);
  const { code, bytes } = await readRequest(leg, signal);
  if (code === AUTHENTICATION.ok) return bytes;
  throw notAdmitted(
    user,
    `${leg.label} asks for a credential (${requestName(code)}), and --backend-auth is ${method}: see the "cert" lines of its pg_hba.conf`,
  );
}
