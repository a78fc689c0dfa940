/**
 * The table of settings, one row for each. SHOW, validation, the manual and what a login reads all
 * come from this table. Names, defaults and error texts are those of CockroachDB's cluster
 * settings. Settings that begin with `pgsso.` exist only here.
 */

import { errorText, type PgError } from '../lib/errors.ts';
import { type Network, parseNetworks } from '../lib/network.ts';
import { parseAuthRules } from './auth-rules.ts';
import {
  parseAudiences,
  parseCertificates,
  parseClaim,
  parseIssuerAddress,
  parseIssuers,
} from './issuers.ts';
import { parseKeySet } from './jwks.ts';
import { parseIdentityRules, parseRoleRules } from './maps.ts';
import { parseProvisioningPattern } from './pattern.ts';
import {
  formatDuration,
  invalidSetting,
  parseBoolean,
  parseDuration,
  parseInteger,
} from './values.ts';

/** The result of parsing a setting's text. */
export interface Parsed<T> {
  readonly value: T;
  /** The canonical form, which SHOW prints and the store holds: `15s` for `00:00:15`. */
  readonly text: string;
}

/** One row of the table. */
export interface Definition<T> {
  /** `setting_type` of SHOW: boolean, string, duration, integer. */
  readonly type: 'b' | 's' | 'd' | 'i';
  /** Other names that SET accepts. SHOW does not print them. */
  readonly aliases: readonly string[];
  /** The default in canonical form. */
  readonly default: string;
  readonly description: string;
  /** Whether only users who may change it see the value. Error texts never show it. */
  readonly sensitive: boolean;
  /** Whether it is a credential, which never stands on a command line. */
  readonly secret: boolean;
  /**
   * Parses and checks a text.
   *
   * @param name of the setting, for the error of a number that is too large or too small
   * @throws PgError 22023
   */
  parse(text: string, name: string): Parsed<T>;
}

/** Networks of a list. Each refusal is compared with all of them, in a tenth of a millisecond. */
const NETWORK_LIMIT = 1000;

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;

/** The table, in the order of the manual. */
export const definitions = {
  'server.jwt_authentication.enabled': boolean({
    description:
      'whether a JSON web token is taken as the password of a SQL login that asks for it',
  }),
  'server.jwt_authentication.jwks': structured({
    default: '{"keys":[]}',
    description:
      'the public keys that verify tokens: one JSON web key or a JWK set; ignored while keys ' +
      'are fetched automatically',
    parse: parseKeySet,
  }),
  'server.jwt_authentication.issuers.configuration': structured({
    aliases: ['server.jwt_authentication.issuers'],
    description:
      'whose tokens are taken: one issuer, a JSON array of issuers, or {"issuer_jwks_map": ' +
      '{…}} from issuers to the URIs of their key sets',
    parse: parseIssuers,
  }),
  'server.jwt_authentication.audience': structured({
    description:
      'the audiences of which a token must name at least one: one audience or a JSON array',
    parse: parseAudiences,
  }),
  'server.jwt_authentication.claim': structured({
    description:
      'the claim that names the principal; empty for the subject (sub). A path such as ' +
      'realm_access.user or a JSON Pointer such as /kubernetes.io/serviceaccount/uid reaches ' +
      'into nested claims',
    parse: parseClaim,
  }),
  'server.jwt_authentication.api_key_claim': string({
    description:
      'the claim in which a token may bring an API key of CREATE API KEY, which decides the ' +
      'user before the principal does; empty for none',
  }),
  'server.jwt_authentication.jwks_auto_fetch.enabled': boolean({
    description:
      'whether the keys are fetched from the issuer, by its discovery document or the ' +
      'configured URI',
  }),
  'server.jwt_authentication.issuers.custom_ca': structured({
    aliases: ['server.jwt_authentication.issuer_custom_ca'],
    sensitive: true,
    description:
      "the certificate authorities, in PEM, that the issuers' servers are verified with; " +
      'empty for those of the system',
    parse: parseCertificates,
  }),
  'server.jwt_authentication.client.timeout': duration({
    default: '15s',
    maximum: DAY,
    description: 'how long one request to an issuer may take',
  }),
  'server.jwt_authentication.authorization.enabled': boolean({
    description:
      "whether the user's roles follow the groups that the identity provider names at each login",
  }),
  'server.jwt_authentication.group_claim': structured({
    default: 'groups',
    description:
      "the claim that holds the user's groups; a path such as realm_access.roles or a JSON " +
      'Pointer reaches into nested claims',
    parse: parseClaim,
  }),
  'server.jwt_authentication.userinfo_group_key': structured({
    default: 'groups',
    description:
      "the member of the userinfo endpoint's answer that holds the user's groups when the " +
      'token names none',
    parse: parseClaim,
  }),
  'server.oauthbearer_authentication.enabled': boolean({
    description:
      'whether clients with SASL OAUTHBEARER, as libpq 18 has it, may log in where a line of ' +
      'server.host_based_authentication.configuration has the method oauth',
  }),
  'server.oauthbearer_authentication.issuers': structured({
    description:
      'whose tokens are taken by OAUTHBEARER, and where clients without one get it: the first ' +
      'one; empty for server.jwt_authentication.issuers.configuration',
    parse: parseIssuers,
  }),
  'server.oauthbearer_authentication.audience': structured({
    description:
      'the audiences of which a token by OAUTHBEARER must name at least one; empty for ' +
      'server.jwt_authentication.audience',
    parse: parseAudiences,
  }),
  'server.oauthbearer_authentication.jwks': structured({
    default: '{"keys":[]}',
    description:
      'the public keys that verify tokens by OAUTHBEARER; without a key, and while ' +
      'server.oauthbearer_authentication.jwks_auto_fetch.enabled is false, the keys are those ' +
      'of server.jwt_authentication, fetched or not',
    parse: parseKeySet,
  }),
  'server.oauthbearer_authentication.jwks_auto_fetch.enabled': boolean({
    description: 'whether the keys that verify tokens by OAUTHBEARER are fetched from the issuer',
  }),
  'server.oauthbearer_authentication.claim': structured({
    description:
      'the claim that names the principal in a token by OAUTHBEARER; empty for ' +
      'server.jwt_authentication.claim',
    parse: parseClaim,
  }),
  'server.oauthbearer_authentication.scope': string({
    description:
      'the scope that clients of OAUTHBEARER are told to ask for; empty for openid; the option ' +
      'scope of a rule counts instead',
  }),
  'security.provisioning.jwt.enabled': boolean({
    description: 'whether a user who logs in with a valid token and does not exist is created',
  }),
  'server.identity_map.configuration': structured({
    description:
      'which SQL users an external identity may be, one rule a line: issuer, identity or ' +
      '/expression, SQL user',
    parse: parseIdentityRules,
  }),
  'server.host_based_authentication.configuration': structured({
    description:
      "how clients may log in, one rule a line as in PostgreSQL's pg_hba.conf: type, database, " +
      'user, address, method (native, jwt, oauth, device or reject), options; empty for ' +
      'host all all all native',
    parse: parseAuthRules,
  }),
  'server.auth_log.sql_sessions.enabled': boolean({
    default: 'true',
    description:
      'whether accepted logins and the ends of sessions are logged; refused logins always are',
  }),
  'pgsso.clock_tolerance': duration({
    default: '5s',
    maximum: MINUTE,
    description:
      "how far an issuer's clock may be ahead when the dates nbf and iat of a token are " +
      'checked; never applied to exp',
  }),
  'pgsso.role_map.configuration': structured({
    description:
      'which roles the groups of the identity providers stand for, one rule a line: issuer, ' +
      'group or /expression, role; empty if each group of the only issuer is the role of its ' +
      'own name',
    parse: parseRoleRules,
  }),
  'pgsso.provisioning.pattern': structured({
    description:
      'a regular expression that the names of users who may be created at their first login ' +
      'match; empty for every name',
    parse: parseProvisioningPattern,
  }),
  'pgsso.jwks_max_age': duration({
    default: '24h0m0s',
    maximum: 30 * DAY,
    description:
      "how old an issuer's last good keys may become while it cannot be reached; 0 to use " +
      'them only while they are fresh',
  }),
  'pgsso.allow_insecure_http': boolean({
    description:
      'whether identity providers on other hosts may be asked over http without TLS: never ' +
      'where anybody else is on the network',
  }),
  'pgsso.client_credentials.issuer': structured({
    description:
      "the issuer at which an OAuth client's id and secret, given as user and password, are " +
      'exchanged for a token; empty to take tokens only',
    parse: parseIssuerAddress,
  }),
  'pgsso.client_credentials.audience': string({
    description:
      'the audience that a token is asked for with client credentials; empty to leave it to ' +
      'the issuer',
  }),
  'pgsso.client_credentials.scope': string({
    description:
      'the scope that a token is asked for with client credentials; empty to leave it to the ' +
      'issuer',
  }),
  'pgsso.device_login.issuer': structured({
    description:
      'the issuer at which people sign in who log in without a token, by the method device of a ' +
      'rule or the startup option --pgsso:device_login=true; empty to turn such logins off',
    parse: parseIssuerAddress,
  }),
  'pgsso.device_login.client_id': string({
    description: 'the id that pgsso has at that issuer, for the device authorization grant',
  }),
  'pgsso.device_login.client_secret': secret({
    description: 'the secret of that id; empty for a public client, which needs none',
  }),
  'pgsso.device_login.scope': string({
    default: 'openid',
    description: 'the scope that is asked for when somebody signs in',
  }),
  'pgsso.device_login.use_token': structured({
    default: 'access_token',
    description: 'which token of the sign-in is checked: access_token or id_token',
    parse: parseTokenName,
  }),
  'pgsso.device_login.limit': integer({
    default: '100',
    description:
      'how many logins of a process may wait at once for somebody to sign in; half of them may ' +
      'come from one address',
  }),
  'pgsso.throttle.address_refusals': integer({
    default: '10',
    description:
      'how many logins of one address may be refused within the window before its further ' +
      'refusals are told later and later; 0 for any number',
  }),
  'pgsso.throttle.user_refusals': integer({
    default: '60',
    description: 'the same for the logins of one user, from all addresses together',
  }),
  'pgsso.throttle.window': duration({
    default: '1m0s',
    minimum: SECOND,
    maximum: DAY,
    description: 'the time within which refusals are counted',
  }),
  'pgsso.throttle.first_delay': duration({
    default: '500ms',
    maximum: MINUTE,
    description: 'how much later the first of these refusals is told; it doubles with each one',
  }),
  'pgsso.throttle.longest_delay': duration({
    default: '8s',
    maximum: MINUTE,
    description: 'the longest that a refusal is held back',
  }),
  'pgsso.throttle.exempt': structured({
    description:
      'the networks whose refusals are never held back, such as 10.0.0.0/8, separated by commas',
    parse: parseExemptNetworks,
  }),
} as const satisfies Record<string, Definition<unknown>>;

/** The name of a setting, as SHOW prints it. An alias is not one. */
export type SettingName = keyof typeof definitions;

/** The type of a setting's parsed value. */
export type SettingValue<N extends SettingName> = ReturnType<
  (typeof definitions)[N]['parse']
>['value'];

/** The names of all settings, in the order of the table. */
export const settingNames: readonly SettingName[] = Object.freeze(
  Object.keys(definitions) as SettingName[],
);

/** What a row gives; the functions below add the rest. */
interface Row {
  readonly default?: string;
  readonly description: string;
  readonly aliases?: readonly string[];
  readonly sensitive?: boolean;
  readonly secret?: boolean;
}

function string(row: Row): Definition<string> {
  return structured({ ...row, parse: (text) => text });
}

/** A credential. */
function secret(row: Row): Definition<string> {
  return string({ ...row, sensitive: true, secret: true });
}

function structured<T>({
  parse,
  ...row
}: Row & { readonly parse: (text: string) => T }): Definition<T> {
  return {
    ...common(row),
    type: 's',
    default: row.default ?? '',
    parse: (text) => ({ value: parse(text), text }),
  };
}

function boolean(row: Row): Definition<boolean> {
  return {
    ...common(row),
    type: 'b',
    default: row.default ?? 'false',
    parse(text) {
      const value = parseBoolean(text);
      return { value, text: String(value) };
    },
  };
}

function integer(row: Row & { readonly default: string }): Definition<number> {
  return {
    ...common(row),
    type: 'i',
    default: row.default,
    parse(text, name) {
      const value = parseInteger(text);
      if (value < 0) throw outOfRange(name, `a negative value: ${value}`);
      return { value, text: String(value) };
    },
  };
}

function duration({
  minimum = 0,
  maximum,
  ...row
}: Row & {
  readonly default: string;
  readonly minimum?: number;
  readonly maximum: number;
}): Definition<number> {
  return {
    ...common(row),
    type: 'd',
    default: row.default,
    parse(given, name) {
      const value = parseDuration(given);
      const text = formatDuration(value);
      if (value < 0) throw outOfRange(name, `a negative duration: ${text}`);
      if (value < minimum) throw outOfRange(name, `less than ${formatDuration(minimum)}: ${text}`);
      if (value > maximum) throw outOfRange(name, `more than ${formatDuration(maximum)}: ${text}`);
      return { value, text };
    },
  };
}

/** CockroachDB's words. */
function outOfRange(name: string, what: string): PgError {
  return invalidSetting(`invalid value for ${name}: cannot be set to ${what}`);
}

function common({ description, aliases = [], sensitive = false, secret = false }: Row) {
  return { description, aliases, sensitive, secret };
}

function parseTokenName(text: string): 'access_token' | 'id_token' {
  if (text === 'access_token' || text === 'id_token') return text;
  throw invalidSetting('must be access_token or id_token');
}

function parseExemptNetworks(text: string): readonly Network[] {
  let networks: readonly Network[];
  try {
    networks = parseNetworks(text);
  } catch (error) {
    throw invalidSetting(errorText(error));
  }
  if (networks.length > NETWORK_LIMIT)
    throw invalidSetting(`there are more than ${NETWORK_LIMIT} networks`);
  return Object.freeze(networks);
}
