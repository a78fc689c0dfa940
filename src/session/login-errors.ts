/** The refusals that are the session's own, and neither the decision's nor the backend's. */
import { PgError } from '../errors.ts';

/** The server's own answer when authentication_timeout runs out. */
export function overdue(limit: number): PgError {
  return new PgError({
    code: 'login_timeout',
    sqlstate: '57014',
    message: 'canceling authentication due to timeout',
    reason: `the login was not finished within ${limit} ms, --login-timeout`,
  });
}

/** What a server says of a wrong password: psql asks for another one then. */
export function emptyPassword(user: string): PgError {
  return new PgError({
    code: 'empty_password',
    sqlstate: '28P01',
    message: `password authentication failed for user "${user}"`,
    reason: 'the client sent an empty password where a token was asked for',
  });
}

export function nativeLoginsDenied(): PgError {
  return new PgError({
    code: 'native_logins_denied',
    sqlstate: '28000',
    message: 'logins without a token are not allowed here',
    hint: 'Add options=--crdb:jwt_auth_enabled=true and give a token as the password.',
    reason: '--native-logins is deny',
  });
}

/** As the server has it; a token may do without a user, a native login may not. */
export function noUser(): PgError {
  return new PgError({
    code: 'missing_user',
    sqlstate: '28000',
    message: 'no PostgreSQL user name specified in startup packet',
  });
}
