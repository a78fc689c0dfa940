/**
 * From accept to the first packet that means something: a client may ask for TLS, for GSS
 * encryption, in either order and once each, or begin with TLS at once (manual 54.2.10 and
 * 54.2.11). What comes out is a channel that is encrypted as far as it will ever be.
 */

import type { Socket } from 'node:net';
import type { SecureContext, TLSSocket } from 'node:tls';
import { errorText, PgError } from '../lib/errors.ts';
import { MessageChannel } from '../wire/channel.ts';
import { PROTOCOL_3_0, TLS_HANDSHAKE } from '../wire/constants.ts';
import { negotiateProtocolVersion } from '../wire/messages.ts';
import { type CancelRequest, parseFirstPacket, type StartupPacket } from '../wire/startup.ts';
import { acceptTls } from '../wire/tls.ts';

/** What a listener does about TLS: `require` refuses a plain startup, `disable` answers N. */
export type ClientTlsMode = 'require' | 'prefer' | 'disable';

/** TLS as one listener offers it; without a context it is not offered. */
export interface ClientTls {
  readonly mode: ClientTlsMode;
  readonly context: SecureContext | undefined;
}

/** A client that has said what it wants. */
export interface Arrival {
  readonly channel: MessageChannel;
  /** The TLS version, or `plain`. */
  readonly transport: string;
  readonly packet: StartupPacket | CancelRequest;
}

const SSL_ACCEPTED = Buffer.from('S');
const REFUSED = Buffer.from('N');

/** Where a connection stands while it is being negotiated. */
export interface Door {
  channel: MessageChannel;
  secure: TLSSocket | undefined;
}

/**
 * Negotiates encryption and reads the startup packet or cancel request.
 *
 * @param door holds the channel to which an error is to be written, also while this runs
 * @returns undefined when the client left without saying anything: a health check, or psql trying
 *   again
 * @throws PgError for what the client did wrong; the TLS handshake's error; the signal's reason
 */
export async function negotiate(
  door: Door,
  tls: ClientTls,
  signal: AbortSignal,
): Promise<Arrival | undefined> {
  const context = tls.mode === 'disable' ? undefined : tls.context;
  const asked = new Set<'ssl' | 'gss'>();
  if ((await door.channel.peek(signal)) === TLS_HANDSHAKE) {
    if (!context) return undefined;
    await encrypt(door, context, signal);
    requireAlpn(door.secure);
  }
  for (;;) {
    const body = await door.channel.startupBody(signal);
    if (!body) return undefined;
    const packet = parseFirstPacket(body);
    if (packet.kind === 'startup' || packet.kind === 'cancel') {
      if (packet.kind === 'startup' && !door.secure) refusePlain(tls.mode);
      return { channel: door.channel, transport: door.secure?.getProtocol() ?? 'plain', packet };
    }
    if (asked.has(packet.kind) || door.secure) throw repeated(packet.kind);
    asked.add(packet.kind);
    refuseEarlyBytes(door.channel, packet.kind);
    if (packet.kind === 'ssl' && context) {
      await door.channel.write(SSL_ACCEPTED, signal);
      await encrypt(door, context, signal);
    } else {
      await door.channel.write(REFUSED, signal);
    }
  }
}

/** A door at which nothing has been said yet. */
export function openDoor(socket: Socket): Door {
  return { channel: new MessageChannel(socket), secure: undefined };
}

/**
 * Only 3.0 is spoken here: whoever asks for more, or for a protocol option, is told so before
 * authentication (manual 54.2.1).
 */
export async function agreeOnVersion(
  channel: MessageChannel,
  version: number,
  protocolOptions: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  if (version === PROTOCOL_3_0 && protocolOptions.length === 0) return;
  await channel.write(negotiateProtocolVersion(PROTOCOL_3_0, protocolOptions), signal);
}

async function encrypt(door: Door, context: SecureContext, signal: AbortSignal): Promise<void> {
  const { socket } = door.channel;
  const hello = door.channel.release();
  if (hello.length > 0) socket.unshift(hello);
  // The plain socket keeps a listener: its errors are told by the TLS socket, which wraps it.
  socket.on('error', () => undefined);
  try {
    door.secure = await acceptTls(socket, context, signal);
  } catch (error) {
    // An ErrorResponse in plain text would be garbage to a client in the middle of a handshake.
    socket.destroy();
    signal.throwIfAborted();
    throw handshakeFailed(error);
  }
  door.channel = new MessageChannel(door.secure);
}

/**
 * Bytes behind an SSLRequest that come before its answer were written by somebody in the middle,
 * who wants them taken for what the client says inside TLS (CVE-2021-23214; CVE-2021-3935 for GSS).
 */
function refuseEarlyBytes(channel: MessageChannel, kind: 'ssl' | 'gss'): void {
  if (channel.buffered === 0) return;
  const name = kind === 'ssl' ? 'SSL' : 'GSSAPI encryption';
  throw new PgError({
    code: 'data_before_encryption',
    message: `received unencrypted data after ${name} request`,
    detail:
      'This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.',
  });
}

/** Without ALPN a direct handshake may come from a client of another protocol (manual 54.2.11). */
function requireAlpn(secure: TLSSocket | undefined): void {
  if (secure?.alpnProtocol) return;
  throw new PgError({
    code: 'missing_alpn',
    message: 'received direct SSL connection request without ALPN protocol negotiation extension',
  });
}

/**
 * libpq's sslmode=prefer tries again in plain text when a login over TLS has failed, and would then
 * send the token in the clear.
 */
function refusePlain(mode: ClientTlsMode): void {
  if (mode !== 'require') return;
  throw new PgError({
    code: 'tls_required',
    message: 'this server accepts encrypted connections only',
    hint: 'Connect with sslmode=verify-full, or at least sslmode=require.',
    reason: 'a startup packet without TLS; --client-tls is require',
  });
}

function handshakeFailed(error: unknown): PgError {
  return new PgError({
    code: 'tls_handshake_failed',
    message: 'the TLS handshake failed',
    reason: errorText(error),
    cause: error,
  });
}

function repeated(kind: 'ssl' | 'gss'): PgError {
  return new PgError({
    code: 'repeated_request',
    message: `received a second encryption request (${kind === 'ssl' ? 'SSLRequest' : 'GSSENCRequest'})`,
  });
}
