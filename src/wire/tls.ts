/**
 * TLS towards clients, over a connection that may have spoken in plain text before (manual 54.2.10
 * "SSL Session Encryption"). Whoever calls has made sure that nothing was read which the client
 * sent before TLS began (CVE-2021-23214).
 */

import { isIP, type Socket } from 'node:net';
import { checkServerIdentity, connect, type SecureContext, TLSSocket } from 'node:tls';
import { ALPN_PROTOCOL } from './constants.ts';

/**
 * Answers the client's TLS handshake. ALPN is the client's choice, but a list without `postgresql`
 * fails: such a client meant another server (the ALPACA attack, CVE-2021-3618).
 *
 * @throws the handshake's error; the signal's reason
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
        // A handshake that is being torn down may still report errors of its own.
        secure.on('error', () => undefined);
        secure.destroy();
        reject(error);
      } else {
        // Node.js reports a broken record on a socket of ours as _tlsError alone, and would leave
        // the connection open.
        secure.on('_tlsError', (broken: Error) => secure.destroy(broken));
        resolve(secure);
      }
    };
    const onSecure = (): void => settle();
    const onClose = (): void =>
      settle(new Error('the client ended the connection during the TLS handshake'));
    const onAbort = (): void => settle(signal.reason);
    // A failed handshake is told as _tlsError; an error event only follows when the socket itself
    // failed.
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

/*
 * TLS as a client over a socket that is already connected: the leg to the backend, whether it
 * begins with SSLRequest or with the hello. What `sslmode` calls require, verify-ca and verify-full
 * are the three degrees to which the certificate is looked at.
 */

/**
 * What is asked of the server's certificate: nothing, a chain to a trusted authority, or its name
 * or address besides.
 */
export type Verification = 'none' | 'chain' | 'identity';

/** How to speak TLS to a server. */
export interface TlsClientOptions {
  /** Trusted authorities, lowest version and, if there is one, the client's certificate. */
  readonly secureContext: SecureContext;
  /**
   * Host name or address, as dialled: what the certificate has to be for, and the SNI if it is a
   * name (RFC 6066 allows no address).
   */
  readonly host: string;
  readonly verification: Verification;
  /**
   * Whether the server must have chosen the protocol `postgresql` by ALPN: without SSLRequest
   * (manual 54.2.11).
   */
  readonly requireAlpn: boolean;
}

/**
 * Performs the handshake. The socket belongs to the TLS socket from then on, and is destroyed when
 * the handshake fails.
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
      // A handshake that is being torn down may still report errors of its own.
      secured.on('error', () => {});
      secured.destroy();
      reject(error);
    };
    const onSecure = (): void => {
      // A server without ALPN leaves it false; one that chose another protocol is not PostgreSQL
      // (ALPACA, CVE-2021-3618).
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
