/**
 * Codes and limits of the PostgreSQL frontend/backend protocol, version 3. Chapter and section
 * numbers are those of the PostgreSQL 18 manual, chapter 54 "Frontend/Backend Protocol"; limits
 * that the manual does not give are from the server's sources.
 */

/** Protocol 3.0 in a startup packet: major in the upper, minor in the lower 16 bits (54.7). */
export const PROTOCOL_3_0 = 0x0003_0000;

/**
 * Request codes, which take the place of the version in a first packet (54.7): major 1234, minor
 * 5678 to 5680.
 */
export const CANCEL_REQUEST = 80877102;
export const SSL_REQUEST = 80877103;
export const GSSENC_REQUEST = 80877104;

/** Bytes of body, without the length word: MAX_STARTUP_PACKET_LENGTH of the server's pqcomm.h. */
export const STARTUP_BODY_LIMIT = 10_000;

/**
 * The longest password message, in bytes of body: PG_MAX_AUTH_TOKEN_LENGTH of the server's auth.h.
 * Tokens of Entra ID reach 7,000 bytes.
 */
export const PASSWORD_BODY_LIMIT = 65_535;

/** Bytes. A cancel key has 4 in protocol 3.0 and 4 to 256 in 3.2 (54.7, BackendKeyData). */
export const CANCEL_KEY_LIMIT = 256;

/**
 * The first byte of a TLS handshake record. A connection that begins with it speaks TLS without
 * SSLRequest (54.2.11).
 */
export const TLS_HANDSHAKE = 0x16;

/** The protocol's name in TLS ALPN (IANA registry; 54.2.11). */
export const ALPN_PROTOCOL = 'postgresql';

/** Codes of an AuthenticationRequest (54.7). */
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

/** Type bytes of the messages that a client sends, by the names of the manual (54.7). */
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

/** Type bytes of the messages that a server sends; a letter may differ from the client's use. */
export const BACKEND = {
  authentication: 0x52,
  backendKeyData: 0x4b,
  dataRow: 0x44,
  errorResponse: 0x45,
  negotiateProtocolVersion: 0x76,
  noticeResponse: 0x4e,
  parameterStatus: 0x53,
  readyForQuery: 0x5a,
} as const;
