/**
 * Logs in at the pgsso whose sessions `pgsso connect` hands out: over verified TLS, with the option
 * and a token. A refusal is the server's own. No credential but the token is ever sent, and it is
 * sent only to a server that asks for it.
 */
import { logInAtSomeHost } from '../backend/connect.ts';
import {
  type BackendSession,
  expectRequest,
  readGreeting,
  readRequest,
  requestName,
  write,
} from '../backend/connection.ts';
import { BackendTarget } from '../backend/target.ts';
import { type BackendUrl, formatHost, isConfidential } from '../backend/url.ts';
import { parseBackendUrl } from '../backend/url-parser.ts';
import { errorText, PgError, UsageError } from '../lib/errors.ts';
import { isLoopback } from '../lib/network.ts';
import { AUTHENTICATION } from '../wire/constants.ts';
import { formatMessage } from '../wire/messages.ts';
import { JWT_OPTION } from '../wire/options.ts';
import type { LoginParameters, StartupParameter } from '../wire/startup.ts';

/** Where sessions come from. */
export interface Upstream {
  readonly target: BackendTarget;
  /** The database of a client that names none. */
  readonly database: string | undefined;
}

/**
 * Reads the URL.
 *
 * @throws UsageError for a URL that cannot be right; PgError F0000 for a file that cannot be read
 */
export async function openUpstream(text: string): Promise<Upstream> {
  const url = parse(text);
  return { target: await BackendTarget.open(url), database: url.database };
}

/**
 * The startup parameters for the server: the client's own, with user, database and option.
 *
 * @param user the one that was given; otherwise it is the client's
 */
export function upstreamParameters(
  login: LoginParameters,
  user: string | undefined,
  database: string | undefined,
): StartupParameter[] {
  const text = (name: string, value: Buffer | string | undefined): StartupParameter[] =>
    value === undefined || value.length === 0 ? [] : [{ name, value: Buffer.from(value) }];
  const options = login.others.find(({ name }) => name === 'options')?.value;
  const jwtOption = Buffer.from(`--${JWT_OPTION}=true`);
  return [
    ...text('user', user ?? login.user),
    ...text('database', login.database?.length ? login.database : database),
    ...login.others.filter(({ name }) => name !== 'options'),
    {
      name: 'options',
      value: options ? Buffer.concat([options, Buffer.from(' '), jwtOption]) : jwtOption,
    },
  ];
}

/**
 * Logs in with a token.
 *
 * @throws BackendRefusal with the server's own words; PgError if it cannot be reached or does not
 *   ask for a token; the signal's reason
 */
export async function logInUpstream(
  { target }: Upstream,
  parameters: readonly StartupParameter[],
  token: string,
  signal: AbortSignal,
): Promise<BackendSession> {
  const { secureContext, url } = target;
  const options = {
    target,
    parameters,
    secureContext,
    limit: url.connectTimeout,
    mayRepeat: () => true,
    signal,
  };
  return logInAtSomeHost(options, async (connection, within) => {
    const { code } = await readRequest(connection, within);
    // Another request is for a password: the server does not know the option.
    if (code !== AUTHENTICATION.cleartextPassword) throw notAsked(connection.label, code);
    await write(connection, formatMessage('p', Buffer.from(`${token}\0`)), within);
    const { bytes } = await expectRequest(connection, AUTHENTICATION.ok, within);
    return readGreeting(connection, bytes, within);
  });
}

function parse(text: string): BackendUrl {
  let url: BackendUrl;
  try {
    url = parseBackendUrl(text, 'flag');
  } catch (error) {
    throw new UsageError(`--url: ${errorText(error)}`);
  }
  const { credentials, hosts } = url;
  if (Object.values(credentials).some((value) => value !== undefined))
    throw new UsageError('--url: the token is the only credential; leave out the others');
  const open = hosts.find((host) => !isConfidential(host) && !isLoopback(host.host));
  if (open)
    throw new UsageError(
      `--url: sslmode=${open.sslMode} would give the token to whoever answers for ` +
        `${formatHost(open)}; leave sslmode out`,
    );
  return url;
}

function notAsked(label: string, code: number): PgError {
  return new PgError({
    code: 'backend_did_not_admit',
    message: `${label} does not ask for a token`,
    detail: `It asks for ${requestName(code)}.`,
    hint: 'Give the address of pgsso, not of the database behind it.',
    fault: 'us',
  });
}
