/**
 * Session variables that drivers read and set. They have no effect in the console; it stores them
 * so that a driver reads back what it has set. A name that PostgreSQL does not have is refused, so
 * that a SET without the words CLUSTER SETTING does not seem to work.
 */
import { PgError } from '../lib/errors.ts';
import { quote } from '../settings/values.ts';

/**
 * The version that clients see, which CockroachDB reports too. Tools expect no features of newer
 * servers then, and none of them finds the server too old.
 */
export const SERVER_VERSION = '13.0';

/** The variables that can be set, with their defaults. */
const settable: Readonly<Record<string, string>> = {
  application_name: '',
  bytea_output: 'hex',
  client_encoding: 'UTF8',
  client_min_messages: 'notice',
  datestyle: 'ISO, MDY',
  default_transaction_deferrable: 'off',
  default_transaction_isolation: 'serializable',
  default_transaction_read_only: 'off',
  extra_float_digits: '1',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  intervalstyle: 'postgres',
  jit: 'off',
  lock_timeout: '0',
  options: '',
  row_security: 'on',
  search_path: '"$user", public',
  standard_conforming_strings: 'on',
  statement_timeout: '0',
  synchronous_commit: 'on',
  timezone: 'UTC',
  transaction_deferrable: 'off',
  transaction_isolation: 'serializable',
  transaction_read_only: 'off',
  xmloption: 'content',
};

/** Characters of a value, since a client chooses it. */
const VALUE_LIMIT = 1000;

/** The variables of one session. */
export interface SessionVariables {
  /** @throws PgError 42704 for an unknown name */
  get(name: string): string;
  /**
   * @throws PgError 42704 for an unknown name, 55P02 for a fixed variable, 22023 for a value that
   *   is too long or an encoding other than UTF-8
   */
  set(name: string, value: string): void;
  /** @throws PgError 42704 for an unknown name */
  reset(name: string): void;
  resetAll(): void;
}

/**
 * Makes the variables of a new session.
 *
 * @param version the version of pgsso
 */
export function sessionVariables(user: string, version: string): SessionVariables {
  const fixed: Readonly<Record<string, string>> = {
    in_hot_standby: 'off',
    integer_datetimes: 'on',
    is_superuser: 'off',
    lc_collate: 'C.UTF-8',
    lc_ctype: 'C.UTF-8',
    max_identifier_length: '63',
    server_encoding: 'UTF8',
    server_version: `${SERVER_VERSION} (pgsso ${version})`,
    server_version_num: '130000',
    session_authorization: user,
  };
  const values = new Map(Object.entries(settable));
  return {
    get(name) {
      const value = values.get(name) ?? (Object.hasOwn(fixed, name) ? fixed[name] : undefined);
      if (value === undefined) throw unknown(name);
      return value;
    },
    set(name, value) {
      if (Object.hasOwn(fixed, name)) throw notSettable(name);
      if (!values.has(name)) throw unknown(name);
      if (
        value.length > VALUE_LIMIT ||
        (name === 'client_encoding' && !/^(utf-?8|unicode)$/i.test(value))
      ) {
        throw badValue(name, value);
      }
      values.set(name, name === 'client_encoding' ? 'UTF8' : value);
    },
    reset(name) {
      const value = Object.hasOwn(settable, name) ? settable[name] : undefined;
      if (value !== undefined) values.set(name, value);
      else if (!Object.hasOwn(fixed, name)) throw unknown(name);
    },
    resetAll() {
      for (const [name, value] of Object.entries(settable)) values.set(name, value);
    },
  };
}

/** The variables that are reported when a session starts (manual 54.2.7). */
export const REPORTED = [
  'application_name',
  'client_encoding',
  'datestyle',
  'default_transaction_read_only',
  'in_hot_standby',
  'integer_datetimes',
  'intervalstyle',
  'is_superuser',
  'server_encoding',
  'server_version',
  'session_authorization',
  'standard_conforming_strings',
  'timezone',
] as const;

/** Spelling in ParameterStatus of the names that are not in lower case. */
export const REPORTED_SPELLING: Readonly<Record<string, string>> = {
  datestyle: 'DateStyle',
  intervalstyle: 'IntervalStyle',
  timezone: 'TimeZone',
};

function unknown(name: string): PgError {
  return new PgError({
    code: 'unknown_variable',
    message: `unrecognized configuration parameter ${quote(name)}`,
    hint: name.includes('.') ? 'The settings of pgsso need the words CLUSTER SETTING.' : undefined,
  });
}

function notSettable(name: string): PgError {
  return new PgError({
    code: 'fixed_variable',
    message: `parameter "${name}" cannot be changed`,
  });
}

function badValue(name: string, value: string): PgError {
  return new PgError({
    code: 'invalid_variable_value',
    message: `invalid value for parameter "${name}": ${quote(value)}`,
  });
}
