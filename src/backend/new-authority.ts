/**
 * Makes an authority for `--backend-auth issue-cert` (`pgsso ca init`): one that can sign nothing but clients, and that no backend should
 * trust for anything else.
 */
import { createPublicKey } from 'node:crypto';
import { chmod, unlink, writeFile } from 'node:fs/promises';
import { keyToPem, newKey, selfSigner, signCertificate } from '../x509/certificate.ts';
import { CLOCK_TOLERANCE_MS } from './certificate-issuer.ts';

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
 * Makes key and certificate; the key's file has mode 0600. Nothing is overwritten, and nothing is left if one of them cannot be written.
 *
 * @throws Error with the path of the file that cannot be written
 */
export async function createAuthority({ certificate, key: keyPath, name, days, now }: NewAuthority): Promise<void> {
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
