/**
 * Opens a connection to one host of a backend: TCP or Unix socket, then TLS as `sslmode` asks. A
 * failure leaves no socket open. Unlike libpq with `sslmode=prefer`, a failed TLS handshake is not
 * followed by an attempt in plain text: an attacker who can disturb a handshake could then read
 * the session.
 */

import { connect, type Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import { serialize } from 'pg-protocol';
import { withDeadline } from '../lib/abort.ts';
import { MessageChannel } from '../wire/channel.ts';
import { startTls, type Verification } from '../wire/tls.ts';
import type { BackendConnection } from './connection.ts';
import type { BackendTarget } from './target.ts';
import {
  type BackendHost,
  formatHost,
  isConfidential,
  isSocketDirectory,
  type SslMode,
  socketPath,
} from './url.ts';

/**
 * Silence before the first TCP keepalive probe. libuv sends one a second and gives up after ten.
 */
const KEEPALIVE_MS = 60_000;

const ANSWER_YES = 0x53; // S
const ANSWER_NO = 0x4e; // N

const verifications: Readonly<Record<SslMode, Verification>> = {
  disable: 'none',
  prefer: 'none',
  require: 'none',
  'verify-ca': 'chain',
  'verify-full': 'identity',
};

/**
 * Connects to one host, within the connect timeout.
 *
 * @param secureContext how to speak TLS: as the target does, or with a certificate of the front-end
 * @param limit milliseconds; 0 if the signal aborts after the connect timeout already
 * @throws Error with the cause; the signal's reason
 */
export async function dialHost(
  target: BackendTarget,
  host: BackendHost,
  signal: AbortSignal,
  secureContext: SecureContext = target.secureContext,
  limit = target.url.connectTimeout,
): Promise<BackendConnection> {
  const secured = await withDeadline(
    limit,
    'no connection within the connect timeout',
    signal,
    async (within) => secure(await openSocket(host, within), target, host, secureContext, within),
  );
  const certificate =
    secured instanceof TLSSocket ? secured.getPeerX509Certificate()?.raw : undefined;
  return {
    channel: new MessageChannel(secured),
    target,
    host,
    label: formatHost(host),
    confidential: isConfidential(host),
    certificate,
  };
}

function openSocket(host: BackendHost, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    // PostgreSQL answers a query after its sender has closed its side, so each direction ends by
    // itself.
    const socket = isSocketDirectory(host.host)
      ? connect({ path: socketPath(host), allowHalfOpen: true })
      : connect({
          host: host.host,
          port: host.port,
          allowHalfOpen: true,
          noDelay: true,
          keepAlive: true,
          keepAliveInitialDelay: KEEPALIVE_MS,
        });
    const settle = (error: unknown): void => {
      socket.off('connect', onConnect);
      socket.off('error', settle);
      signal.removeEventListener('abort', onAbort);
      if (error === undefined) {
        resolve(socket);
        return;
      }
      socket.destroy();
      reject(error);
    };
    const onConnect = (): void => settle(undefined);
    const onAbort = (): void => settle(signal.reason);
    socket.once('connect', onConnect);
    socket.once('error', settle);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * Starts TLS on the socket. Returns the socket itself if `sslmode` allows plain text. Destroys it
 * if TLS fails.
 */
async function secure(
  socket: Socket,
  target: BackendTarget,
  host: BackendHost,
  secureContext: SecureContext,
  signal: AbortSignal,
): Promise<Socket> {
  try {
    if (host.sslMode === 'disable') return socket;
    const direct = target.url.sslNegotiation === 'direct';
    if (!direct && !(await requestTls(socket, host, signal))) return socket;
    return await startTls(
      socket,
      {
        secureContext,
        host: host.host,
        verification: verifications[host.sslMode],
        requireAlpn: direct,
      },
      signal,
    );
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** Asks for TLS. False if the server has none and `sslmode` allows plain text. */
async function requestTls(
  socket: Socket,
  host: BackendHost,
  signal: AbortSignal,
): Promise<boolean> {
  const channel = new MessageChannel(socket);
  await channel.write(serialize.requestSsl(), signal);
  const answer = await channel.byte(signal);
  // Bytes that came with the answer in plain text would be taken for a part of the TLS session
  // (CVE-2021-23222).
  if (channel.release().length > 0)
    throw new Error('the server sent unencrypted data after its answer to SSLRequest');
  if (answer === ANSWER_YES) return true;
  if (answer === undefined) throw new Error('the server closed the connection at SSLRequest');
  if (answer !== ANSWER_NO)
    throw new Error(
      `the server answered SSLRequest with byte 0x${answer.toString(16).padStart(2, '0')}`,
    );
  if (host.sslMode !== 'prefer')
    throw new Error(`the server has no TLS, and sslmode is ${host.sslMode}`);
  return false;
}
