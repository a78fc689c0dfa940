/**
 * The ways of the front-end to log in at the backend as the user that was decided on
 * (`--backend-auth`). A way answers the backend's authentication requests, and holds the backend to
 * them: one that lets the front-end in without what it should have asked for lets in everybody
 * beside it.
 */

import { createHash } from 'node:crypto';
import type { SecureContext } from 'node:tls';
import { AUTHENTICATION } from '../wire/constants.ts';
import { notAdmitted } from './errors.ts';
import {
  type AuthenticationRequest,
  answer,
  type BackendLeg,
  expectRequest,
  readRequest,
  requestName,
} from './leg.ts';
import type { PasswordKey } from './passfile.ts';
import { performScram } from './scram.ts';
import type { BackendAuth, PasswordMethod } from './url.ts';

/** One login at the backend, its startup packet sent. */
export interface BackendLogin {
  readonly leg: BackendLeg;
  readonly user: string;
  readonly database: string;
  readonly signal: AbortSignal;
}

/** A way to log in. */
export interface Credentials {
  /** Its name in `--backend-auth`. */
  readonly method: BackendAuth;
  /**
   * How to speak TLS as this user, when that is what the backend knows the front-end by; without
   * it, as the target says.
   */
  secureContext?(user: string): SecureContext;
  /** Reads files again; what cannot be read is thrown, and what was read before stays in use. */
  reload?(): Promise<void>;
  /**
   * Answers the backend until it sends AuthenticationOk.
   *
   * @returns that message
   * @throws PgError 28000 when the backend asks for what there is not, or does not ask for what it
   *   should; as readRequest
   */
  authenticate(login: BackendLogin): Promise<Buffer>;
}

/** Nothing is sent: the backend knows the front-end by its socket or address. */
export const trust: Credentials = {
  method: 'trust',
  async authenticate({ leg, user, signal }) {
    const { code, bytes } = await readRequest(leg, signal);
    if (code === AUTHENTICATION.ok) return bytes;
    throw notAdmitted(
      user,
      `${leg.label} asks for a credential (${requestName(code)}), and --backend-auth is trust`,
    );
  },
};

/** The `require_auth` names of the requests that a password answers. */
const methodsByCode: ReadonlyMap<number, PasswordMethod> = new Map([
  [AUTHENTICATION.cleartextPassword, 'password'],
  [AUTHENTICATION.md5Password, 'md5'],
  [AUTHENTICATION.sasl, 'scram-sha-256'],
]);

/**
 * A password for each user.
 *
 * @param requireAuth what the backend may ask for; as with libpq, it has to ask for one of them
 * @param findPassword the password for a login; undefined or empty when there is none
 */
export function passwordCredentials(
  requireAuth: ReadonlySet<PasswordMethod>,
  findPassword: (key: PasswordKey) => Buffer | undefined,
): Credentials {
  return {
    method: 'password',
    async authenticate(login) {
      const { leg, user, database, signal } = login;
      const { host, port } = leg.host;
      const request = await readRequest(leg, signal);
      checkRequest(login, request.code, requireAuth);
      const password = findPassword({ host, port, database, user });
      if (!password?.length)
        throw notAdmitted(
          user,
          `there is no password for ${leg.label}, database ${database}, user ${user}`,
        );
      await answerRequest(login, request, password);
      return (await expectRequest(leg, AUTHENTICATION.ok, signal)).bytes;
    },
  };
}

function checkRequest(
  { leg, user }: BackendLogin,
  code: number,
  requireAuth: ReadonlySet<PasswordMethod>,
): void {
  if (code === AUTHENTICATION.ok) {
    throw notAdmitted(
      user,
      `${leg.label} asked for no credential, although --backend-auth is password: whoever reaches it gets in as anybody; see its pg_hba.conf`,
    );
  }
  const method = methodsByCode.get(code);
  if (method === undefined || !requireAuth.has(method)) {
    throw notAdmitted(
      user,
      `${leg.label} asks for ${method ?? requestName(code)}; require_auth is ${[...requireAuth].join(',')}`,
    );
  }
  if (method === 'password' && !leg.confidential) {
    throw notAdmitted(
      user,
      `${leg.label} asks for the password in clear, and TLS was not verified`,
    );
  }
}

async function answerRequest(
  { leg, user, signal }: BackendLogin,
  request: AuthenticationRequest,
  password: Buffer,
): Promise<void> {
  switch (request.code) {
    case AUTHENTICATION.sasl:
      return performScram(leg, request, password, signal);
    case AUTHENTICATION.md5Password:
      return answer(leg, cstring(md5Password(password, user, request.data)), signal);
    default:
      return answer(leg, cstring(password), signal);
  }
}

/**
 * `md5` and md5(md5(password + user) + salt), both in hexadecimal (manual 54.2.1,
 * AuthenticationMD5Password).
 */
function md5Password(password: Buffer, user: string, salt: Buffer): Buffer {
  const md5 = (...parts: (string | Buffer)[]): string =>
    parts.reduce((hash, part) => hash.update(part), createHash('md5')).digest('hex');
  return Buffer.from(`md5${md5(md5(password, user), salt)}`);
}

function cstring(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.from([0])]);
}
