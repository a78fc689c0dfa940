/**
 * Codes and limits of the PostgreSQL frontend/backend protocol, version 3. Chapter and section
 * numbers are those of the PostgreSQL 18 manual, chapter 54 "Frontend/Backend Protocol"; limits
 * that the manual does not give are from the server's sources.
 */

/**
 * Protocol 3.0 as it stands in a startup packet: major in the upper, minor in the lower 16 bits
 * (54.7).
 */
export const PROTOCOL_3_0 = 0x0003_0000;

/**
 * Request codes that stand in the place of a version in the first packet (54.7): major 1234, minor
 * 5678 to 5680.
 */
export const CANCEL_REQUEST = 80877102;
export const SSL_REQUEST = 80877103;
export const GSSENC_REQUEST = 80877104;

/** MAX_STARTUP_PACKET_LENGTH of the server's pqcomm.h: bytes of body, without the length word. */
export const STARTUP_BODY_LIMIT = 10_000;

/**
 * PG_MAX_AUTH_TOKEN_LENGTH of the server's auth.h: the longest password message; Entra ID's tokens
 * reach 7,000 bytes.
 */
export const PASSWORD_BODY_LIMIT = 65_535;

/** A cancel key has 4 bytes in protocol 3.0 and 4 to 256 in 3.2 (54.7, BackendKeyData). */
export const CANCEL_KEY_LIMIT = 256;

/**
 * A TLS record of type handshake begins with this byte: a ClientHello without SSLRequest (54.2.11,
 * direct SSL).
 */
export const TLS_HANDSHAKE = 0x16;

/** The protocol's name in TLS ALPN (IANA registry, manual 54.2.11). */
export const ALPN_PROTOCOL = 'postgresql';

/** Codes of an AuthenticationRequest message (54.7). */
export const AUTHENTICATION = {
  ok: 0,
  cleartextPassword: 3,
  md5Password: 5,
  gss: 7,
  gssContinue: 8,
  sspi: 9,
  sasl: 10,
  saslContinue: 11,
  saslFinal: 12,
} as const;

/**
 * The type bytes of messages, by the names of the manual (54.7). One letter may mean different
 * things in the two directions.
 */
export const FRONTEND = {
  bind: 0x42,
  close: 0x43,
  copyData: 0x64,
  copyDone: 0x63,
  copyFail: 0x66,
  describe: 0x44,
  execute: 0x45,
  flush: 0x48,
  parse: 0x50,
  password: 0x70,
  query: 0x51,
  sync: 0x53,
  terminate: 0x58,
} as const;
export const BACKEND = {
  authentication: 0x52,
  backendKeyData: 0x4b,
  errorResponse: 0x45,
  negotiateProtocolVersion: 0x76,
  noticeResponse: 0x4e,
  parameterStatus: 0x53,
  readyForQuery: 0x5a,
} as const;
