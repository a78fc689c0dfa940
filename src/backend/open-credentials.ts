/**
 * Opens the credentials for a backend. The parameters of its URL come first; the options of the
 * command line are for the rest. A contradiction is an error that names the option or parameter to
 * change.
 */
import { UsageError } from '../lib/errors.ts';
import {
  CertificateIssuer,
  certificateCredentials,
  type IdentityFiles,
  issuedCredentials,
} from './certificates.ts';
import { type Credentials, passwordCredentials, trust } from './credentials.ts';
import { PasswordFile } from './passfile.ts';
import type { BackendTarget } from './target.ts';
import type { BackendAuth, BackendUrl } from './url.ts';

/** The options of the command line, for every backend with a URL that does not say otherwise. */
export interface CredentialOptions {
  readonly backendAuth: BackendAuth;
  readonly backendPassfile?: string;
  readonly issueCaCert?: string;
  readonly issueCaKey?: string;
  /** SQL users of pgsso itself: issue-cert makes no certificate for them. Default: none. */
  readonly ownUsers?: readonly string[];
}

/** The method for a backend. */
export function backendAuthOf(
  { credentials }: BackendUrl,
  options: CredentialOptions,
): BackendAuth {
  return credentials.method ?? options.backendAuth;
}

/**
 * Reads the files that the method needs.
 *
 * @throws UsageError for missing or contradictory options and parameters; PgError F0000 for files
 *   that cannot be used
 */
export async function openCredentials(
  target: BackendTarget,
  options: CredentialOptions,
): Promise<Credentials> {
  const { url } = target;
  const method = backendAuthOf(url, options);
  checkParameters(url, method);
  switch (method) {
    case 'trust':
      return trust;
    case 'password':
      return openPasswords(url, options);
    case 'cert':
      return certificateCredentials(target, clientCertificate(url));
    case 'issue-cert':
      return issuedCredentials(
        target,
        await CertificateIssuer.open(authorityFiles(url, options), options.ownUsers),
      );
  }
}

/** Refuses parameters that the method ignores: they would only seem to protect something. */
function checkParameters({ hosts, credentials, password }: BackendUrl, method: BackendAuth): void {
  const { passwordFile, clientCertificate, issueCaCertificate, issueCaKey } = credentials;
  const needless: [string, unknown, BackendAuth][] = [
    ['passfile', passwordFile, 'password'],
    ['a password', password, 'password'],
    ['sslcert', clientCertificate, 'cert'],
    ['issue_ca_cert', issueCaCertificate, 'issue-cert'],
    ['issue_ca_key', issueCaKey, 'issue-cert'],
  ];
  for (const [name, value, wanted] of needless) {
    if (value !== undefined && method !== wanted) {
      throw new UsageError(
        `${name} in the URL is of no use with --backend-auth ${method}; it is for ${wanted}`,
      );
    }
  }
  const certificate = method === 'cert' || method === 'issue-cert';
  if (certificate && hosts.some(({ sslMode }) => sslMode === 'disable' || sslMode === 'prefer')) {
    throw new UsageError(
      `--backend-auth ${method} needs TLS: ` +
        'sslmode=require, verify-ca or verify-full, and no Unix socket',
    );
  }
}

async function openPasswords(
  { password, requireAuth, credentials }: BackendUrl,
  options: CredentialOptions,
): Promise<Credentials> {
  if (password !== undefined) {
    const bytes = Buffer.from(password);
    return passwordCredentials(requireAuth, () => bytes);
  }
  const path = credentials.passwordFile ?? options.backendPassfile;
  if (path === undefined) throw new UsageError('--backend-auth password needs --backend-passfile');
  const file = await PasswordFile.open(
    path,
    credentials.passwordFile ? 'passfile' : '--backend-passfile',
  );
  return {
    ...passwordCredentials(requireAuth, (key) => file.find(key)),
    reload: () => file.reload(),
  };
}

function clientCertificate({ credentials }: BackendUrl): IdentityFiles {
  const { clientCertificate: certificate, clientKey: key } = credentials;
  if (certificate === undefined || key === undefined) {
    throw new UsageError('--backend-auth cert needs the parameters sslcert and sslkey in the URL');
  }
  return { certificate, key, certificateName: 'sslcert', keyName: 'sslkey' };
}

function authorityFiles({ credentials }: BackendUrl, options: CredentialOptions): IdentityFiles {
  const certificate = credentials.issueCaCertificate ?? options.issueCaCert;
  const key = credentials.issueCaKey ?? options.issueCaKey;
  if (certificate === undefined || key === undefined) {
    throw new UsageError(
      '--backend-auth issue-cert needs --issue-ca-cert and --issue-ca-key; ' +
        '`pgsso ca init` makes the two',
    );
  }
  return {
    certificate,
    key,
    certificateName: credentials.issueCaCertificate ? 'issue_ca_cert' : '--issue-ca-cert',
    keyName: credentials.issueCaKey ? 'issue_ca_key' : '--issue-ca-key',
  };
}
