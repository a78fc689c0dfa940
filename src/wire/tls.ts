/**
 * TLS on a connected socket: as the server of a client and as the client of a backend (manual
 * 54.2.10 "SSL Session Encryption"). The caller makes sure that nothing which was sent before TLS
 * began is taken for a part of the session (CVE-2021-23214, CVE-2021-23222).
 */

import { isIP, type Socket } from 'node:net';
import { checkServerIdentity, connect, type SecureContext, TLSSocket } from 'node:tls';
import { ALPN_PROTOCOL } from './constants.ts';

/**
 * Answers a client's TLS handshake. A client may leave out ALPN, but a list without `postgresql`
 * fails: it is meant for another server (the ALPACA attack, CVE-2021-3618). The socket belongs to
 * the TLS socket from then on and is destroyed when the handshake fails.
 *
 * @throws the error of the handshake; the signal's reason
 */
export function acceptTls(
  socket: Socket,
  secureContext: SecureContext,
  signal: AbortSignal,
): Promise<TLSSocket> {
  const secure = new TLSSocket(socket, {
    isServer: true,
    secureContext,
    ALPNProtocols: [ALPN_PROTOCOL],
  });
  return new Promise((resolve, reject) => {
    const settle = (error?: Error): void => {
      secure
        .off('secure', onSecure)
        .off('_tlsError', settle)
        .off('error', settle)
        .off('close', onClose)
        .off('end', onClose);
      socket.off('end', onClose);
      signal.removeEventListener('abort', onAbort);
      if (error) {
        // A handshake may report further errors while it is torn down.
        secure.on('error', () => undefined);
        secure.destroy();
        reject(error);
      } else {
        // Node.js reports a broken record on such a socket as _tlsError only, and leaves the
        // connection open.
        secure.on('_tlsError', (broken: Error) => secure.destroy(broken));
        resolve(secure);
      }
    };
    const onSecure = (): void => settle();
    const onClose = (): void =>
      settle(new Error('the client ended the connection during the TLS handshake'));
    const onAbort = (): void => settle(signal.reason);
    // A failed handshake emits _tlsError. An error event follows only if the socket itself failed.
    secure
      .once('secure', onSecure)
      .once('_tlsError', settle)
      .once('error', settle)
      .once('close', onClose)
      .once('end', onClose);
    socket.once('end', onClose);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * What is verified of the server's certificate: nothing (`sslmode=require`), the chain to a trusted
 * authority (`verify-ca`), or the chain and the host name or address (`verify-full`).
 */
export type Verification = 'none' | 'chain' | 'identity';

/** How to speak TLS with a backend. */
export interface TlsClientOptions {
  /** Trusted authorities, lowest version, and the front-end's certificate if there is one. */
  readonly secureContext: SecureContext;
  /**
   * Host name or address, as dialled. The certificate has to be for it, and a name is sent as SNI
   * (RFC 6066, section 3, allows no address).
   */
  readonly host: string;
  readonly verification: Verification;
  /**
   * Whether the server has to choose `postgresql` by ALPN, as it does for a connection without
   * SSLRequest (manual 54.2.11).
   */
  readonly requireAlpn: boolean;
}

/**
 * Performs the handshake as the client. The socket belongs to the TLS socket from then on and is
 * destroyed when the handshake fails.
 *
 * @throws Error with the cause; the signal's reason
 */
export function startTls(
  socket: Socket,
  options: TlsClientOptions,
  signal: AbortSignal,
): Promise<TLSSocket> {
  const { secureContext, host, verification, requireAlpn } = options;
  return new Promise((resolve, reject) => {
    const secured = connect({
      socket,
      secureContext,
      servername: isIP(host) === 0 ? host : '',
      ALPNProtocols: [ALPN_PROTOCOL],
      rejectUnauthorized: verification !== 'none',
      checkServerIdentity: (_name, certificate) =>
        verification === 'identity' ? checkServerIdentity(host, certificate) : undefined,
    });
    const settle = (error: unknown): void => {
      secured.off('secureConnect', onSecure);
      secured.off('error', settle);
      secured.off('close', onClose);
      signal.removeEventListener('abort', onAbort);
      if (error === undefined) {
        resolve(secured);
        return;
      }
      // A handshake may report further errors while it is torn down.
      secured.on('error', () => {});
      secured.destroy();
      reject(error);
    };
    const onSecure = (): void => {
      // It is false with a server that does not know ALPN. A server that chose another protocol is
      // not PostgreSQL (ALPACA, CVE-2021-3618).
      const chosen = secured.alpnProtocol || undefined;
      const fits = chosen === ALPN_PROTOCOL || (chosen === undefined && !requireAlpn);
      settle(
        fits
          ? undefined
          : new Error(
              `the server chose ${chosen ?? 'no protocol'} by ALPN instead of ${ALPN_PROTOCOL}`,
            ),
      );
    };
    const onClose = (): void => settle(new Error('the connection ended during the TLS handshake'));
    const onAbort = (): void => settle(signal.reason);
    secured.once('secureConnect', onSecure);
    secured.once('error', settle);
    secured.once('close', onClose);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
