/**
 * TLS towards clients, over a connection that may have spoken in plain text before (manual 54.2.10 "SSL Session Encryption").
 * Whoever calls has made sure that nothing was read which the client sent before TLS began (CVE-2021-23214).
 */
import type { Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import { ALPN_PROTOCOL } from '../protocol/constants.ts';

/**
 * Answers the client's TLS handshake. ALPN is the client's choice, but a list without `postgresql` fails: such a client meant
 * another server (the ALPACA attack).
 *
 * @throws the handshake's error; the signal's reason
 */
export async function acceptTls(socket: Socket, secureContext: SecureContext, signal: AbortSignal): Promise<TLSSocket> {
  const secure = new TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: [ALPN_PROTOCOL] });
  await new Promise<void>((resolve, reject) => {
    const abort = (): void => {
      secure.destroy();
      reject(signal.reason);
    };
    signal.addEventListener('abort', abort, { once: true });
    const settle = (error?: Error): void => {
      signal.removeEventListener('abort', abort);
      secure.removeAllListeners('close');
      if (error) reject(error);
      else resolve();
    };
    // A failed handshake is told as _tlsError; an error event only follows when the socket itself failed.
    secure
      .once('secure', () => settle())
      .once('_tlsError', settle)
      .once('error', settle);
    secure.once('close', () => settle(new Error('the client ended the connection during the TLS handshake')));
  });
  return secure;
}
