/**
 * The methods with which the front-end logs in at a backend (`--backend-auth`). A method answers
 * the authentication requests of the backend. It also insists on them: a backend that does not ask
 * the front-end for its credential does not ask other clients either.
 */

import { createHash } from 'node:crypto';
import type { SecureContext } from 'node:tls';
import { serialize } from 'pg-protocol';
import { formatText } from '../lib/text.ts';
import { AUTHENTICATION } from '../wire/constants.ts';
import { formatMessage } from '../wire/messages.ts';
import {
  type AuthenticationRequest,
  type BackendConnection,
  expectRequest,
  readRequest,
  requestName,
  write,
} from './connection.ts';
import { notAdmitted } from './errors.ts';
import type { PasswordKey } from './passfile.ts';
import { performScram } from './scram.ts';
import type { BackendAuth, PasswordMethod } from './url.ts';

/** A login at a backend after its startup packet was sent. */
export interface BackendLogin {
  readonly connection: BackendConnection;
  readonly user: string;
  readonly database: string;
  readonly signal: AbortSignal;
}

/** A method to log in, with what it needs. */
export interface Credentials {
  /** The name of the method in `--backend-auth`. */
  readonly method: BackendAuth;
  /**
   * How to speak TLS for this user, if the backend recognises the front-end by a certificate.
   * Otherwise the context of the target is used.
   */
  secureContext?(user: string): SecureContext;
  /** Reads its files again. Throws if that fails; what was read before then stays in use. */
  reload?(): Promise<void>;
  /**
   * Answers the backend until it sends AuthenticationOk.
   *
   * @returns the AuthenticationOk
   * @throws PgError 28000 if the backend asks for another credential than this, or for none;
   *   otherwise as readRequest
   */
  authenticate(login: BackendLogin): Promise<Buffer>;
}

/** Sends no credential: the backend trusts the socket or address of the front-end. */
export const trust: Credentials = {
  method: 'trust',
  async authenticate({ connection, user, signal }) {
    const { code, bytes } = await readRequest(connection, signal);
    if (code === AUTHENTICATION.ok) return bytes;
    throw notAdmitted(
      user,
      `${connection.label} asks for a credential (${requestName(code)}), ` +
        'and --backend-auth is trust',
    );
  },
};

/** The requests that a password answers, with their names in `require_auth`. */
const methodsByCode: ReadonlyMap<number, PasswordMethod> = new Map([
  [AUTHENTICATION.cleartextPassword, 'password'],
  [AUTHENTICATION.md5Password, 'md5'],
  [AUTHENTICATION.sasl, 'scram-sha-256'],
]);

/**
 * Sends a password for each user.
 *
 * @param requireAuth what the backend may ask for. As in libpq, it has to ask for one of them
 * @param findPassword the password for a login; undefined or empty if there is none
 */
export function passwordCredentials(
  requireAuth: ReadonlySet<PasswordMethod>,
  findPassword: (key: PasswordKey) => Buffer | undefined,
): Credentials {
  return {
    method: 'password',
    async authenticate(login) {
      const { connection, user, database, signal } = login;
      const { host, port } = connection.host;
      const request = await readRequest(connection, signal);
      checkRequest(login, request.code, requireAuth);
      const password = findPassword({ host, port, database, user });
      if (!password?.length)
        throw notAdmitted(
          user,
          `there is no password for ${connection.label}, ` +
            `database ${formatText(database)}, user ${formatText(user)}`,
        );
      await answerRequest(login, request, password);
      return (await expectRequest(connection, AUTHENTICATION.ok, signal)).bytes;
    },
  };
}

function checkRequest(
  { connection, user }: BackendLogin,
  code: number,
  requireAuth: ReadonlySet<PasswordMethod>,
): void {
  const { label, confidential } = connection;
  if (code === AUTHENTICATION.ok) {
    throw notAdmitted(
      user,
      `${label} asked for no credential, although --backend-auth is password: ` +
        'whoever reaches it gets in as anybody; see its pg_hba.conf',
    );
  }
  const method = methodsByCode.get(code);
  if (method === undefined || !requireAuth.has(method)) {
    throw notAdmitted(
      user,
      `${label} asks for ${method ?? requestName(code)}; ` +
        `require_auth is ${[...requireAuth].join(',')}`,
    );
  }
  if (method === 'password' && !confidential) {
    throw notAdmitted(user, `${label} asks for the password in clear, and TLS was not verified`);
  }
}

async function answerRequest(
  { connection, user, signal }: BackendLogin,
  request: AuthenticationRequest,
  password: Buffer,
): Promise<void> {
  switch (request.code) {
    case AUTHENTICATION.sasl:
      return performScram(connection, request, password, signal);
    case AUTHENTICATION.md5Password:
      return write(
        connection,
        serialize.password(md5Password(password, user, request.data)),
        signal,
      );
    default:
      // serialize.password takes text, and a password may be in any encoding.
      return write(connection, formatMessage('p', password, Buffer.from([0])), signal);
  }
}

/**
 * `md5` and md5(md5(password + user) + salt), each in hexadecimal (manual 54.2.1,
 * AuthenticationMD5Password).
 */
function md5Password(password: Buffer, user: string, salt: Buffer): string {
  const md5 = (first: string | Buffer, second: string | Buffer): string =>
    createHash('md5').update(first).update(second).digest('hex');
  return `md5${md5(md5(password, user), salt)}`;
}
