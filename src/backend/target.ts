/**
 * A backend as it is dialled: its URL together with what has to be read from files for it. The files are read at the start, where a
 * mistake can still be reported, and again on request; a login finds everything in memory.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type SecureContext } from 'node:tls';
import { errorText, PgError } from '../errors.ts';
import type { BackendUrl } from './backend-url.ts';

/** A backend that can be dialled. */
export class BackendTarget {
  readonly url: BackendUrl;
  #secureContext: SecureContext;

  private constructor(url: BackendUrl, secureContext: SecureContext) {
    this.url = url;
    this.#secureContext = secureContext;
  }

  /**
   * Reads what the URL refers to.
   *
   * @throws PgError F0000 when `sslrootcert` cannot be read or holds no certificate
   */
  static async open(url: BackendUrl): Promise<BackendTarget> {
    return new BackendTarget(url, await readSecureContext(url));
  }

  /** Trusted authorities and lowest version of TLS to it. */
  get secureContext(): SecureContext {
    return this.#secureContext;
  }

  /** Reads the files again. Throws as open does; what was read before then stays in use. */
  async reload(): Promise<void> {
    this.#secureContext = await readSecureContext(this.url);
  }
}

async function readSecureContext({ rootCertificate }: BackendUrl): Promise<SecureContext> {
  // TLS 1.2 is also the lowest that libpq speaks by default (manual 32.1.2, ssl_min_protocol_version).
  if (rootCertificate === undefined) return createSecureContext({ minVersion: 'TLSv1.2' });
  try {
    return createSecureContext({ minVersion: 'TLSv1.2', ca: parseCertificates(await readFile(rootCertificate, 'latin1')) });
  } catch (error) {
    throw new PgError({
      code: 'unusable_root_certificate',
      sqlstate: 'F0000',
      message: `sslrootcert ${rootCertificate}: ${errorText(error)}`,
      fault: 'us',
      cause: error,
    });
  }
}

/** OpenSSL passes over what it cannot read in a file of authorities; here a damaged one is an error, and so is an empty file. */
function parseCertificates(pem: string): string[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs) ?? [];
  if (blocks.length === 0) throw new Error('it holds no certificate in PEM form');
  return blocks.map((block) => new X509Certificate(block).toString());
}
