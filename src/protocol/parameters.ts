/**
 * What the parameters of a startup packet say about the login, and what of them goes on to the backend. The names that decide
 * (`user`, `database`, `options`) are read in any case of letters: CockroachDB does so, and a second `USER` that slipped past
 * would be another user than the one that was checked.
 */
import { dropOptions, optionNames, takeJwtOption } from './options.ts';
import type { StartupParameter } from './startup.ts';

/** A startup packet, understood. */
export interface LoginParameters {
  /** As sent; undefined or empty when the client left it out. */
  readonly user: Buffer | undefined;
  readonly database: Buffer | undefined;
  /** Whether the options carry `crdb:jwt_auth_enabled` with a true value. */
  readonly tokenLogin: boolean;
  /** Whether the session would begin as another role than the one that logged in. */
  readonly namesRole: boolean;
  /** The `_pq_.` protocol options, none of which is understood here (manual 54.2.1). */
  readonly protocolOptions: readonly string[];
  /** For the backend: everything but `user` and `database`, unchanged and in order, without what was meant for the front-end. */
  readonly others: readonly StartupParameter[];
}

/**
 * Names that never reach a backend. A session revival token is a login of its own, and a remote address is to be told by the front-end
 * alone (both are CockroachDB's own proxy's); `_pq_.` options belong to the connection to the client.
 */
function isWithheld(name: string): boolean {
  return name === 'crdb:session_revival_token_base64' || name === 'crdb:remote_addr' || name.startsWith('_pq_.');
}

/**
 * Reads the parameters of a startup packet. Of a name that is repeated the last value counts, as in the server.
 *
 * @throws PgError 22023 or 08P01 for a JWT option that cannot be read
 */
export function readParameters(parameters: readonly StartupParameter[]): LoginParameters {
  const last = (wanted: string): Buffer | undefined => parameters.findLast(({ name }) => name.toLowerCase() === wanted)?.value;
  const options = takeJwtOption(last('options')?.toString('latin1') ?? '');
  const forwarded = dropOptions(options.rest, isWithheld);
  const others = parameters.filter(({ name }) => !isDecisive(name.toLowerCase()) && !isWithheld(name.toLowerCase()));
  const names = new Set([...others.map(({ name }) => name.toLowerCase()), ...optionNames(forwarded)]);
  return {
    user: last('user'),
    database: last('database'),
    tokenLogin: options.enabled ?? false,
    namesRole: names.has('role') || names.has('session_authorization'),
    protocolOptions: parameters.map(({ name }) => name).filter((name) => name.toLowerCase().startsWith('_pq_.')),
    others: forwarded === '' ? others : [...others, { name: 'options', value: Buffer.from(forwarded, 'latin1') }],
  };
}

function isDecisive(name: string): boolean {
  return name === 'user' || name === 'database' || name === 'options';
}

/** The parameters of the backend's startup packet for this user. */
export function backendParameters(login: LoginParameters, user: Buffer): StartupParameter[] {
  const database = login.database === undefined ? [] : [{ name: 'database', value: login.database }];
  return [{ name: 'user', value: user }, ...database, ...login.others];
}
