/**
 * The first packet of a connection, which has no type byte: a startup packet or a request in its
 * place. The parameters of a startup packet say what kind of login it is, and which of them go to
 * the backend. Values stay bytes, because a database name may be in any encoding.
 */
import { PgError } from '../lib/errors.ts';
import { formatText } from '../lib/text.ts';
import { CANCEL_KEY_LIMIT, CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST } from './constants.ts';
import { int32 } from './messages.ts';
import {
  DEVICE_OPTION,
  JWT_OPTION,
  parseOptionValue,
  readOptions,
  resemblesJwtOption,
} from './options.ts';

/**
 * Parameters of a startup packet. The work of a login grows with them, and a packet has room for
 * 3,300. Drivers send about ten.
 */
const PARAMETER_LIMIT = 256;

/** One name and value of a startup packet. */
export interface StartupParameter {
  /** Decoded as latin1, so that no byte changes. */
  readonly name: string;
  readonly value: Buffer;
}

/** A startup packet. */
export interface StartupPacket {
  readonly kind: 'startup';
  /** Major in the upper, minor in the lower 16 bits. */
  readonly version: number;
  /** In the order of the packet, repetitions included. */
  readonly parameters: readonly StartupParameter[];
}

/** A request to cancel the query of another connection. */
export interface CancelRequest {
  readonly kind: 'cancel';
  /** The whole packet, length included, as it goes to the backend. */
  readonly packet: Buffer;
}

/** What the first packet of a connection can be. */
export type FirstPacket =
  | StartupPacket
  | CancelRequest
  | { readonly kind: 'ssl' }
  | { readonly kind: 'gss' };

/**
 * Reads the body of a first packet, without its length word.
 *
 * @throws PgError 0A000 for another major version, 08P01 for a packet that breaks its layout
 *   (manual 54.7, StartupMessage) or has too many parameters
 */
export function parseFirstPacket(body: Buffer): FirstPacket {
  if (body.length < 4) throw malformed('invalid length of startup packet');
  const code = body.readUInt32BE(0);
  switch (code) {
    case SSL_REQUEST:
      return lengthOf(body, 4, { kind: 'ssl' });
    case GSSENC_REQUEST:
      return lengthOf(body, 4, { kind: 'gss' });
    case CANCEL_REQUEST:
      return parseCancel(body);
  }
  if (code >>> 16 !== 3) {
    throw new PgError({
      code: 'unsupported_protocol',
      message:
        `unsupported frontend protocol ${code >>> 16}.${code & 0xffff}: ` +
        'server supports 3.0 to 3.0',
    });
  }
  return { kind: 'startup', version: code, parameters: parseParameters(body.subarray(4)) };
}

function parseCancel(body: Buffer): CancelRequest {
  const key = body.length - 8;
  if (key < 4 || key > CANCEL_KEY_LIMIT) throw malformed('invalid length of cancel request');
  return { kind: 'cancel', packet: Buffer.concat([lengthWord(body.length), body]) };
}

function parseParameters(bytes: Buffer): StartupParameter[] {
  const parameters: StartupParameter[] = [];
  let at = 0;
  while (at < bytes.length && bytes[at] !== 0) {
    const nameEnd = bytes.indexOf(0, at);
    const valueEnd = nameEnd < 0 ? -1 : bytes.indexOf(0, nameEnd + 1);
    if (valueEnd < 0)
      throw malformed('invalid startup packet layout: expected terminator as last byte');
    if (parameters.length === PARAMETER_LIMIT) throw tooManyParameters();
    parameters.push({
      name: bytes.toString('latin1', at, nameEnd),
      value: bytes.subarray(nameEnd + 1, valueEnd),
    });
    at = valueEnd + 1;
  }
  if (at !== bytes.length - 1)
    throw malformed('invalid startup packet layout: expected terminator as last byte');
  return parameters;
}

function tooManyParameters(): PgError {
  return new PgError({
    code: 'too_many_parameters',
    message: 'too many parameters in startup packet',
    reason: `the startup packet has more than ${PARAMETER_LIMIT} parameters`,
  });
}

function lengthOf<T>(body: Buffer, length: number, packet: T): T {
  if (body.length !== length) throw malformed('invalid length of startup packet');
  return packet;
}

function malformed(message: string): PgError {
  return new PgError({ code: 'malformed_startup', message });
}

/**
 * A CancelRequest, length included.
 *
 * @param key the body of BackendKeyData
 */
export function formatCancel(key: Buffer): Buffer {
  const body = Buffer.concat([int32(CANCEL_REQUEST), key]);
  return Buffer.concat([lengthWord(body.length), body]);
}

function lengthWord(bodyLength: number): Buffer {
  return int32(bodyLength + 4);
}

/**
 * A startup packet for the backend. It is formatted here because `serialize.startup` of pg-protocol
 * adds a `client_encoding` that the client did not ask for.
 */
export function formatStartup(version: number, parameters: readonly StartupParameter[]): Buffer {
  let length = 9;
  for (const { name, value } of parameters) length += name.length + value.length + 2;
  // Filled with zeros, which the NULs are.
  const packet = Buffer.alloc(length);
  packet.writeUInt32BE(length, 0);
  packet.writeUInt32BE(version, 4);
  let at = 8;
  for (const { name, value } of parameters) {
    at += packet.write(name, at, 'latin1') + 1;
    at += value.copy(packet, at) + 1;
  }
  return packet;
}

/** What the parameters of a startup packet say about the login. */
export interface LoginParameters {
  /** As sent; undefined or empty when the client left it out. */
  readonly user: Buffer | undefined;
  readonly database: Buffer | undefined;
  /** Whether the last `crdb:jwt_auth_enabled` is true: in the options, or as a parameter. */
  readonly tokenLogin: boolean;
  /** What seems to be a misspelt `crdb:jwt_auth_enabled`, as sent; undefined if that is there. */
  readonly misspelt: string | undefined;
  /** Whether the last `pgsso:device_login` is true: in the options, or as a parameter. */
  readonly deviceLogin: boolean;
  /** Whether the session would begin as another role than the user that logs in. */
  readonly namesRole: boolean;
  /** Whether the session would be a walsender, as `replication` asks for (manual 54.4). */
  readonly replication: boolean;
  /** The `_pq_.` protocol options, none of which is understood here (manual 54.2.1). */
  readonly protocolOptions: readonly string[];
  /**
   * The parameters for the backend without `user` and `database`, unchanged and in order. What is
   * for the front-end alone is not among them.
   */
  readonly others: readonly StartupParameter[];
}

/**
 * Parameters that never go to a backend. The two of `crdb:` are for CockroachDB's own proxy: a
 * session revival token is a login of its own, and a remote address would be the client's claim.
 * All that begin with `_pq_.` are about the client's connection.
 */
const WITHHELD = ['crdb:session_revival_token_base64', 'crdb:remote_addr', '_pq_.'] as const;

/** Parameters with which a session begins as another role than the user that logs in. */
const ROLES: readonly string[] = ['role', 'session_authorization'];

function isWithheld(name: string): boolean {
  return WITHHELD.some((withheld) =>
    withheld.endsWith('.') ? name.startsWith(withheld) : name === withheld,
  );
}

/**
 * Reads the parameters of a startup packet. The last value of a repeated name counts, as in the
 * server. `user`, `database` and `options` are recognised in any case of letters, as CockroachDB
 * does: otherwise a second `USER` would log in another user than the one that was checked.
 *
 * `crdb:jwt_auth_enabled` and `pgsso:device_login` may also be parameters of their own, for
 * drivers that send settings so (asyncpg's `server_settings`). They then count more than the
 * options, as the server's process_startup_options has it.
 *
 * @throws PgError 22023 or 08P01 for a JWT option that cannot be read, 22023 for a `replication`
 *   that is not plainly on or off; 08P01 for too many words in `options`
 */
export function readParameters(parameters: readonly StartupParameter[]): LoginParameters {
  const last = (wanted: string): Buffer | undefined =>
    parameters.findLast(({ name }) => name.toLowerCase() === wanted)?.value;
  const text = last('options')?.toString('latin1') ?? '';
  const options = readOptions(text, WITHHELD, ROLES);
  const { forwarded } = options;
  const own = last(JWT_OPTION);
  const ownDevice = last(DEVICE_OPTION);
  const others = parameters.filter(
    ({ name }) => !isDecisive(name.toLowerCase()) && !isWithheld(name.toLowerCase()),
  );
  return {
    user: last('user'),
    database: last('database'),
    tokenLogin: own === undefined ? (options.enabled ?? false) : parseOptionValue(own, JWT_OPTION),
    misspelt:
      own === undefined && options.enabled === undefined
        ? (others.map(({ name }) => name).find(resemblesJwtOption) ?? options.misspelt)
        : undefined,
    deviceLogin:
      ownDevice === undefined
        ? (options.device ?? false)
        : parseOptionValue(ownDevice, DEVICE_OPTION),
    namesRole:
      options.namesSetting || others.some(({ name }) => ROLES.includes(name.toLowerCase())),
    replication: readReplication(parameters),
    protocolOptions: parameters
      .map(({ name }) => name)
      .filter((name) => name.toLowerCase().startsWith('_pq_.')),
    others:
      forwarded === ''
        ? others
        : [...others, { name: 'options', value: Buffer.from(forwarded, 'latin1') }],
  };
}

/** Parameters that are read here, and not passed on as they are. */
const DECISIVE: ReadonlySet<string> = new Set([
  'user',
  'database',
  'options',
  JWT_OPTION,
  DEVICE_OPTION,
]);

function isDecisive(name: string): boolean {
  return DECISIVE.has(name);
}

/**
 * Whether `replication` is on, in whatever letters its name is. The rules go by it, so it must mean
 * the same to every backend. The server also takes the beginnings of words, such as `f`, and of two
 * values the last one: those are refused.
 *
 * @throws PgError 22023
 */
function readReplication(parameters: readonly StartupParameter[]): boolean {
  const asked = parameters.filter(({ name }) => name.toLowerCase() === 'replication');
  const meanings = new Set(asked.map(({ value }) => isReplication(value)));
  if (meanings.size > 1) {
    throw invalidReplication('the parameter "replication" is given with values that contradict');
  }
  return meanings.has(true);
}

const REPLICATION_ON: ReadonlySet<string> = new Set(['on', 'true', 'yes', '1', 'database']);
const REPLICATION_OFF: ReadonlySet<string> = new Set(['off', 'false', 'no', '0', '']);

function isReplication(value: Buffer): boolean {
  const word = value.toString('latin1').toLowerCase();
  if (REPLICATION_ON.has(word)) return true;
  if (REPLICATION_OFF.has(word)) return false;
  const shown = formatText(value.toString());
  throw invalidReplication(`invalid value for parameter "replication": "${shown}"`);
}

/** With the server's hint. */
function invalidReplication(message: string): PgError {
  return new PgError({
    code: 'invalid_replication',
    message,
    hint: 'Valid values are: "false", 0, "true", 1, "database".',
  });
}

/** The parameters of the startup packet for the backend, with this user. */
export function backendParameters(login: LoginParameters, user: Buffer): StartupParameter[] {
  const database =
    login.database === undefined ? [] : [{ name: 'database', value: login.database }];
  return [{ name: 'user', value: user }, ...database, ...login.others];
}
