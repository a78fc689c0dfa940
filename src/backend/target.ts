/**
 * A backend that can be dialled: its URL, the authorities that its URL names, and which of its
 * hosts failed lately. Files are read at the start, when a mistake can still be reported, and again
 * on request. A login reads no file.
 */

import { createSecureContext, type SecureContext } from 'node:tls';
import { readCertificates } from '../lib/pem.ts';
import { HostOrder } from './hosts.ts';
import { type BackendUrl, formatHost } from './url.ts';

/** A client certificate with its chain, and its private key, both in PEM. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string | Buffer;
}

/** A backend that can be dialled. */
export class BackendTarget {
  readonly url: BackendUrl;
  /** Its hosts. Targets with the same ones share a limit that is the server's. */
  readonly servers: string;
  readonly hosts: HostOrder;
  #authorities: readonly string[] | undefined;
  #secureContext: SecureContext;

  private constructor(
    url: BackendUrl,
    authorities: readonly string[] | undefined,
    now: () => number,
  ) {
    this.url = url;
    this.servers = url.hosts.map(formatHost).sort().join(',');
    this.hosts = new HostOrder(url, now);
    this.#authorities = authorities;
    this.#secureContext = this.createContext();
  }

  /**
   * Reads the files that the URL names.
   *
   * @param now milliseconds on a clock that does not jump
   * @throws PgError F0000 if `sslrootcert` cannot be read or holds no certificate
   */
  static async open(
    url: BackendUrl,
    now: () => number = () => performance.now(),
  ): Promise<BackendTarget> {
    return new BackendTarget(url, await readAuthorities(url), now);
  }

  /** How to speak TLS with it, without a certificate of the front-end. */
  get secureContext(): SecureContext {
    return this.#secureContext;
  }

  /**
   * How to speak TLS with it, with a certificate of the front-end if one is given.
   *
   * @throws Error if certificate and key cannot be used or do not belong together
   */
  createContext(identity?: TlsIdentity): SecureContext {
    return createSecureContext({
      // The same as libpq's default (manual 32.1.2, ssl_min_protocol_version).
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
  if (rootCertificate === undefined) return undefined;
  return (await readCertificates('sslrootcert', rootCertificate)).map((certificate) =>
    certificate.toString(),
  );
}
