/**
 * A backend as it is dialled: its URL together with what has to be read from files for it, and
 * which of its hosts failed lately. The files are read at the start, where a mistake can still be
 * reported, and again on request; a login finds everything in memory.
 */

import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type SecureContext } from 'node:tls';
import { unusableFile } from '../lib/files.ts';
import { HostOrder } from './hosts.ts';
import type { BackendUrl } from './url.ts';

/** A client certificate with its chain, and its private key; both PEM. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string | Buffer;
}

/** A backend that can be dialled. */
export class BackendTarget {
  readonly url: BackendUrl;
  readonly hosts: HostOrder;
  #authorities: readonly string[] | undefined;
  #secureContext: SecureContext;

  private constructor(
    url: BackendUrl,
    authorities: readonly string[] | undefined,
    now: () => number,
  ) {
    this.url = url;
    this.hosts = new HostOrder(url, now);
    this.#authorities = authorities;
    this.#secureContext = this.createContext();
  }

  /**
   * Reads what the URL refers to.
   *
   * @param now milliseconds on a clock that does not jump
   * @throws PgError F0000 when `sslrootcert` cannot be read or holds no certificate
   */
  static async open(
    url: BackendUrl,
    now: () => number = () => performance.now(),
  ): Promise<BackendTarget> {
    return new BackendTarget(url, await readAuthorities(url), now);
  }

  /** Trusted authorities and lowest version of TLS to it, without a certificate of our own. */
  get secureContext(): SecureContext {
    return this.#secureContext;
  }

  /**
   * The same with a certificate of our own. Throws when certificate and key are not usable or not
   * of each other.
   */
  createContext(identity?: TlsIdentity): SecureContext {
    return createSecureContext({
      // TLS 1.2 is also the lowest that libpq speaks by default (manual 32.1.2,
      // ssl_min_protocol_version).
      minVersion: 'TLSv1.2',
      ...(this.#authorities && { ca: [...this.#authorities] }),
      ...identity,
    });
  }

  /** Reads the files again. Throws as open does; what was read before then stays in use. */
  async reload(): Promise<void> {
    this.#authorities = await readAuthorities(this.url);
    this.#secureContext = this.createContext();
  }
}

async function readAuthorities({
  rootCertificate,
}: BackendUrl): Promise<readonly string[] | undefined> {
  return rootCertificate === undefined
    ? undefined
    : readCertificates('sslrootcert', rootCertificate);
}

/**
 * The certificates of a file, one PEM text each. OpenSSL passes over what it cannot read in a file
 * of authorities; here a damaged one is an error, and so is a file without any.
 *
 * @param what names the file's kind in the error
 * @throws PgError F0000
 */
export async function readCertificates(what: string, path: string): Promise<readonly string[]> {
  try {
    const blocks =
      (await readFile(path, 'latin1')).match(
        /-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs,
      ) ?? [];
    if (blocks.length === 0) throw new Error('it holds no certificate in PEM form');
    return blocks.map((block) => new X509Certificate(block).toString());
  } catch (error) {
    throw unusableFile(what, path, error);
  }
}
