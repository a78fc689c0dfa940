/**
 * The certificate that clients see, and what each listener does about TLS. On a loopback address
 * nobody can read a plain connection. Everywhere else TLS is required unless the operator allows
 * plain text.
 */

import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
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

/** The certificate and key files. They are read at the start and again on request. */
export class ClientCertificate {
  readonly #options: ClientTlsOptions;
  #context: SecureContext | undefined;

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
    const cert = await readPem('--tls-cert', tlsCert);
    const key = await readPem('--tls-key', tlsKey);
    try {
      new X509Certificate(cert);
      this.#context = createSecureContext({ cert, key, minVersion: 'TLSv1.2' });
    } catch (error) {
      throw new Error(`--tls-cert ${tlsCert} with --tls-key ${tlsKey}: ${errorText(error)}`, {
        cause: error,
      });
    }
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

async function readPem(option: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new Error(`${option}: ${errorText(error)}`, { cause: error });
  }
}
