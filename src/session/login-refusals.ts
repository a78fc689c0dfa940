/** Refusals of a login that do not depend on what its token says. */
import { PgError } from '../lib/errors.ts';

/** The server's answer to a wrong password. psql then asks for another one. */
export function emptyPassword(user: string): PgError {
  return new PgError({
    code: 'empty_password',
    message: `password authentication failed for user "${user}"`,
    reason: 'the client sent an empty password where a token was asked for',
  });
}

export function nativeLoginsDenied(): PgError {
  return new PgError({
    code: 'native_logins_denied',
    message: 'logins without a token are not allowed here',
    hint: 'Add options=--crdb:jwt_auth_enabled=true and give a token as the password.',
    reason: '--native-logins is deny',
  });
}

/**
 * A role with REPLICATION can copy the whole cluster, every database and every password hash
 * included. A token is meant for a session in a database.
 */
export function replicationDenied(): PgError {
  return new PgError({
    code: 'replication_denied',
    message: 'a login with a token may not ask for replication',
    reason: 'the startup message has the parameter replication; --replication is deny',
  });
}

/** The server's own refusal. A token login may do without a user, a native login may not. */
export function noUser(): PgError {
  return new PgError({
    code: 'missing_user',
    message: 'no PostgreSQL user name specified in startup packet',
  });
}

/** The decision rests on the rules of the moment when the token came. */
export function rulesChanged(): PgError {
  return new PgError({
    code: 'rules_changed',
    message: 'the rules for this login have changed meanwhile',
    hint: 'Log in again.',
  });
}
