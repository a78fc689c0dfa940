/**
 * The certificate that clients see, and what each listener does about TLS. On a loopback address
 * nobody can read a plain connection. Everywhere else TLS is required unless the operator allows
 * plain text.
 */

import { constants, X509Certificate } from 'node:crypto';
import { open } from 'node:fs/promises';
import { createSecureContext, type SecureContext } from 'node:tls';
import { errorText, UsageError } from '../lib/errors.ts';
import { isLoopback } from '../lib/network.ts';
import type { ListenAddress } from './listener.ts';
import type { ClientTls, ClientTlsMode } from './negotiate.ts';

/** The options that decide about TLS towards clients. */
export interface ClientTlsOptions {
  /** Undefined: the listener's address decides. */
  readonly clientTls?: ClientTlsMode;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}

/** Mode bits of a private key that only its owner reads, and of one that a group of root reads. */
const OTHERS = 0o077;
const OTHERS_OF_ROOT = 0o037;

/**
 * As PostgreSQL has it (be_tls_init): TLS 1.2 is the lowest, and a client cannot negotiate again.
 * That was a way to burn the server's CPU (CVE-2011-1473) and to inject bytes (CVE-2009-3555).
 */
export const TLS_OPTIONS = {
  minVersion: 'TLSv1.2',
  secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
} as const;

/** The certificate and key files. They are read at the start and again on request. */
export class ClientCertificate {
  readonly #options: ClientTlsOptions;
  #context: SecureContext | undefined;
  #keyWarning: string | undefined;

  private constructor(options: ClientTlsOptions) {
    this.#options = options;
  }

  /**
   * Reads the files.
   *
   * @throws UsageError for one file without the other; Error that names the option and the file
   */
  static async open(options: ClientTlsOptions): Promise<ClientCertificate> {
    const { tlsCert, tlsKey } = options;
    if (tlsCert === undefined && tlsKey !== undefined)
      throw new UsageError('--tls-key is of no use without --tls-cert');
    if (tlsCert !== undefined && tlsKey === undefined)
      throw new UsageError('--tls-cert needs its private key: --tls-key');
    const certificate = new ClientCertificate(options);
    await certificate.reload();
    return certificate;
  }

  /**
   * Reads the files again, for connections that are accepted from now on. Throws as open does. The
   * old files then stay in use.
   */
  async reload(): Promise<void> {
    const { tlsCert, tlsKey } = this.#options;
    if (tlsCert === undefined || tlsKey === undefined) return;
    const { bytes: cert } = await readPem('--tls-cert', tlsCert);
    const { bytes: key, isShared } = await readPem('--tls-key', tlsKey);
    try {
      new X509Certificate(cert);
      this.#context = createSecureContext({ cert, key, ...TLS_OPTIONS });
    } catch (error) {
      throw new Error(`--tls-cert ${tlsCert} with --tls-key ${tlsKey}: ${errorText(error)}`, {
        cause: error,
      });
    }
    this.#keyWarning = isShared
      ? `others can read the private key ${tlsKey}: chmod 600 ${tlsKey}`
      : undefined;
  }

  /** What is wrong with the mode of the key file; undefined if nothing is. */
  get keyWarning(): string | undefined {
    return this.#keyWarning;
  }

  /**
   * What a listener on this address does.
   *
   * @throws UsageError if it has to require TLS and there is no certificate
   */
  forListener({ host, port }: ListenAddress): () => ClientTls {
    const mode = this.#options.clientTls ?? (isLoopback(host) ? 'prefer' : 'require');
    if (mode === 'require' && !this.#context) {
      throw new UsageError(
        `--listen ${host}:${port} requires TLS: give --tls-cert and --tls-key, ` +
          'or allow plain text with --client-tls prefer',
      );
    }
    return () => ({ mode, context: this.#context });
  }
}

/**
 * The bytes of a file, and whether more users can read it than PostgreSQL allows for a private key:
 * its owner, or a group of root's file (manual 18.9.1).
 */
async function readPem(
  option: string,
  path: string,
): Promise<{ bytes: Buffer; isShared: boolean }> {
  try {
    const file = await open(path, 'r');
    try {
      const { mode, uid } = await file.stat();
      const isShared = (mode & (uid === 0 ? OTHERS_OF_ROOT : OTHERS)) !== 0;
      return { bytes: await file.readFile(), isShared };
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new Error(`${option}: ${errorText(error)}`, { cause: error });
  }
}
