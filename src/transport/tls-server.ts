/**
 * TLS towards clients, over a connection that may have spoken in plain text before (manual 54.2.10 "SSL Session Encryption").
 * Whoever calls has made sure that nothing was read which the client sent before TLS began (CVE-2021-23214).
 */
import type { Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import { ALPN_PROTOCOL } from '../protocol/constants.ts';

/**
 * Answers the client's TLS handshake. ALPN is the client's choice, but a list without `postgresql` fails: such a client meant
 * another server (the ALPACA attack, CVE-2021-3618).
 *
 * @throws the handshake's error; the signal's reason
 */
export function acceptTls(socket: Socket, secureContext: SecureContext, signal: AbortSignal): Promise<TLSSocket> {
  const secure = new TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: [ALPN_PROTOCOL] });
  return new Promise((resolve, reject) => {
    const settle = (error?: Error): void => {
      secure.off('secure', onSecure).off('_tlsError', settle).off('error', settle).off('close', onClose).off('end', onClose);
      socket.off('end', onClose);
      signal.removeEventListener('abort', onAbort);
      if (error) {
        // A handshake that is being torn down may still report errors of its own.
        secure.on('error', () => undefined);
        secure.destroy();
        reject(error);
      } else {
        // Node.js reports a broken record on a socket of ours as _tlsError alone, and would leave the connection open.
        secure.on('_tlsError', (broken: Error) => secure.destroy(broken));
        resolve(secure);
      }
    };
    const onSecure = (): void => settle();
    const onClose = (): void => settle(new Error('the client ended the connection during the TLS handshake'));
    const onAbort = (): void => settle(signal.reason);
    // A failed handshake is told as _tlsError; an error event only follows when the socket itself failed.
    secure.once('secure', onSecure).once('_tlsError', settle).once('error', settle).once('close', onClose).once('end', onClose);
    socket.once('end', onClose);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
