/**
 * From accept to the first packet that says what the client wants. A client may ask for TLS and for
 * GSS encryption, in either order and once each, or begin with TLS at once (manual 54.2.10 and
 * 54.2.11). The result is a channel that is encrypted as far as it will ever be.
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

/** TLS as a listener offers it. Without a context it is not offered. */
export interface ClientTls {
  readonly mode: ClientTlsMode;
  readonly context: SecureContext | undefined;
}

/** A connection to a client, as far as it has been negotiated. */
export interface ClientConnection {
  /** Where an error is written. TLS replaces it. */
  channel: MessageChannel;
  secure: TLSSocket | undefined;
}

/** What a client has asked for. */
interface ClientRequest {
  readonly channel: MessageChannel;
  /** The TLS version, or `plain`. */
  readonly transport: string;
  readonly packet: StartupPacket | CancelRequest;
}

const SSL_ACCEPTED = Buffer.from('S');
const REFUSED = Buffer.from('N');

/** A connection on which nothing has been said yet. */
export function openConnection(socket: Socket): ClientConnection {
  return { channel: new MessageChannel(socket), secure: undefined };
}

/**
 * Negotiates encryption and reads the startup packet or cancel request.
 *
 * @returns undefined if the client left without a packet: a health check, or psql trying again
 * @throws PgError for a client's mistake; the TLS handshake's error; the signal's reason
 */
export async function negotiate(
  connection: ClientConnection,
  tls: ClientTls,
  signal: AbortSignal,
): Promise<ClientRequest | undefined> {
  const context = tls.mode === 'disable' ? undefined : tls.context;
  const asked = new Set<'ssl' | 'gss'>();
  if ((await connection.channel.peek(signal)) === TLS_HANDSHAKE) {
    if (!context) return undefined;
    await encrypt(connection, context, signal);
    requireAlpn(connection.secure);
  }
  for (;;) {
    const { channel, secure } = connection;
    const body = await channel.startupBody(signal);
    if (!body) return undefined;
    const packet = parseFirstPacket(body);
    if (packet.kind === 'startup' || packet.kind === 'cancel') {
      if (packet.kind === 'startup' && !secure) refusePlain(tls.mode);
      return { channel, transport: secure?.getProtocol() ?? 'plain', packet };
    }
    if (asked.has(packet.kind) || secure) throw repeated(packet.kind);
    asked.add(packet.kind);
    refuseEarlyBytes(channel, packet.kind);
    if (packet.kind === 'ssl' && context) {
      await channel.write(SSL_ACCEPTED, signal);
      await encrypt(connection, context, signal);
    } else {
      await channel.write(REFUSED, signal);
    }
  }
}

/**
 * Only 3.0 is spoken here. A client that asks for more, or for a protocol option, is told so before
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

async function encrypt(
  connection: ClientConnection,
  context: SecureContext,
  signal: AbortSignal,
): Promise<void> {
  const { socket } = connection.channel;
  const hello = connection.channel.release();
  if (hello.length > 0) socket.unshift(hello);
  // The TLS socket reports the errors of the plain socket, which needs a listener nevertheless.
  socket.on('error', () => undefined);
  try {
    connection.secure = await acceptTls(socket, context, signal);
  } catch (error) {
    // A client in the middle of a handshake cannot read an ErrorResponse in plain text.
    socket.destroy();
    signal.throwIfAborted();
    throw handshakeFailed(error);
  }
  connection.channel = new MessageChannel(connection.secure);
}

/**
 * Bytes between an SSLRequest and its answer come from an attacker in the middle, who wants them
 * to be taken for what the client says inside TLS (CVE-2021-23214; CVE-2021-3935 for GSS).
 */
function refuseEarlyBytes(channel: MessageChannel, kind: 'ssl' | 'gss'): void {
  if (channel.buffered === 0) return;
  const name = kind === 'ssl' ? 'SSL' : 'GSSAPI encryption';
  throw new PgError({
    code: 'data_before_encryption',
    message: `received unencrypted data after ${name} request`,
    detail:
      'This could be either a client-software bug or evidence of an attempted ' +
      'man-in-the-middle attack.',
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
 * libpq's sslmode=prefer tries again in plain text when a login over TLS has failed. It would then
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
  const name = kind === 'ssl' ? 'SSLRequest' : 'GSSENCRequest';
  return new PgError({
    code: 'repeated_request',
    message: `received a second encryption request (${name})`,
  });
}
