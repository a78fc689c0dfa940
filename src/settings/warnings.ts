/**
 * Warnings about valid settings that let in no token, or more users than the operator may expect.
 * They are sent as a WARNING of SET, logged at each start, and sent with SHOW ISSUERS. CockroachDB
 * does not warn of them.
 */
import { RULES_SETTING } from './auth-rule-syntax.ts';
import { authRuleWarnings } from './auth-rule-warnings.ts';
import { DEFAULT_RULE, type RuleMethod } from './auth-rules.ts';
import type { SettingName } from './definitions.ts';
import { nameInForce, waysToLogIn } from './oauthbearer.ts';
import { isAnchored } from './pattern.ts';
import type { LoginSettings, SettingValues } from './snapshot.ts';
import { quote } from './values.ts';

/** How a rule of the role map is written. */
const ROLE_RULE = 'Write one rule a line: issuer, group or /expression, role';

/** Lines that a warning names. */
const LISTED_LINES = 10;

/** One or two sentences for each problem that the operator should look at. */
export function settingWarnings(values: SettingValues): readonly string[] {
  const lockedOut = waysToLogIn(values)
    .filter((way) => way['server.jwt_authentication.enabled'])
    .flatMap(missingSettings);
  return [
    ...[...new Set(lockedOut)].map((name) => `${name} is empty: no token is let in`),
    ...doubtfulSettings(values),
  ];
}

/** The empty settings without which no token is accepted. */
export function missingSettings(values: LoginSettings): readonly SettingName[] {
  const fetched = values['server.jwt_authentication.jwks_auto_fetch.enabled'];
  const empty: readonly [SettingName, boolean][] = [
    [
      'server.jwt_authentication.issuers.configuration',
      values['server.jwt_authentication.issuers.configuration'].issuers.length === 0,
    ],
    [
      'server.jwt_authentication.audience',
      values['server.jwt_authentication.audience'].length === 0,
    ],
    [
      'server.jwt_authentication.jwks',
      !fetched && values['server.jwt_authentication.jwks'].length === 0,
    ],
  ];
  return empty.filter(([, isEmpty]) => isEmpty).map(([name]) => name);
}

/** Warnings of settings that let in more users than the operator may expect. */
export function doubtfulSettings(values: SettingValues): readonly string[] {
  const ways = waysToLogIn(values);
  return [
    ...new Set(ways.flatMap(warnOfSharedKeys)),
    ...new Set(ways.flatMap(warnOfUnmappedIssuers)),
    ...warnOfUnusedMethods(values),
    ...warnOfDeviceLogin(values),
    ...warnOfRoleMap(values),
    ...warnOfLooseExpressions(values),
    ...authRuleWarnings(values['server.host_based_authentication.configuration']),
    ...warnOfDeniedLines(values),
  ];
}

function warnOfSharedKeys(values: LoginSettings): string[] {
  const { issuers } = values['server.jwt_authentication.issuers.configuration'];
  const fetched = values['server.jwt_authentication.jwks_auto_fetch.enabled'];
  if (issuers.length < 2 || fetched || values['server.jwt_authentication.jwks'].length === 0)
    return [];
  return [
    `there are ${issuers.length} issuers and one set of keys in ` +
      `${nameInForce(values, 'server.jwt_authentication.jwks')}: ` +
      'whoever holds the private part of any of these keys can sign for each issuer',
  ];
}

function warnOfUnmappedIssuers(values: LoginSettings): string[] {
  const { issuers } = values['server.jwt_authentication.issuers.configuration'];
  const map = values['server.identity_map.configuration'];
  if (issuers.length < 2) return [];
  return issuers
    .filter((issuer) => map.rulesFor(issuer).length === 0)
    .map(
      (issuer) =>
        `issuer ${quote(issuer)} has no rule in server.identity_map.configuration: ` +
        'its tokens can name any user',
    );
}

/** Lines whose method is turned off: whoever they match is refused. */
function warnOfUnusedMethods(values: SettingValues): string[] {
  const { rules } = values[RULES_SETTING];
  const unused = new Map<RuleMethod, string>([
    ...(values['server.oauthbearer_authentication.enabled']
      ? []
      : [['oauth', 'server.oauthbearer_authentication.enabled is false'] as const]),
    ...(values['pgsso.device_login.issuer'] === ''
      ? [['device', 'pgsso.device_login.issuer is empty'] as const]
      : []),
  ]);
  return rules.flatMap(({ line, method }) => {
    const why = unused.get(method);
    if (why === undefined) return [];
    const where = `line ${line} of ${RULES_SETTING}`;
    return [`${where} has the method ${method}, and ${why}: it lets nobody in`];
  });
}

/** People would sign in, and their tokens be refused. */
function warnOfDeviceLogin(values: SettingValues): string[] {
  const issuer = values['pgsso.device_login.issuer'];
  if (issuer === '') return [];
  const { issuers } = values['server.jwt_authentication.issuers.configuration'];
  return [
    ...(issuers.includes(issuer)
      ? []
      : [
          'pgsso.device_login.issuer is not among ' +
            'server.jwt_authentication.issuers.configuration: its tokens are refused',
        ]),
    ...(values['pgsso.device_login.client_id'] === ''
      ? ['pgsso.device_login.client_id is empty: the issuer gives no codes without one']
      : []),
  ];
}

function warnOfRoleMap(values: SettingValues): string[] {
  const ways = waysToLogIn(values).map(
    (way) => way['server.jwt_authentication.issuers.configuration'].issuers,
  );
  const issuers = ways.flat();
  const most = Math.max(...ways.map(({ length }) => length));
  const follows = values['server.jwt_authentication.authorization.enabled'];
  const rules = values['pgsso.role_map.configuration'];
  if (rules.length === 0) {
    if (most < 2 || !follows) return [];
    return [
      `pgsso.role_map.configuration is empty and there are ${most} issuers: ` +
        `no group stands for a role. ${ROLE_RULE}`,
    ];
  }
  const general = rules.filter(({ issuer }) => issuer === undefined);
  const foreign = rules.filter(
    ({ issuer }) => issuer !== undefined && issuers.length > 0 && !issuers.includes(issuer),
  );
  return [
    ...(general.length > 0
      ? [
          `${listLines(general)} of pgsso.role_map.configuration ` +
            `${general.length === 1 ? 'is' : 'are'} without an issuer: ` +
            `the groups there stand for roles whichever issuer names them. ${ROLE_RULE}`,
        ]
      : []),
    ...foreign.map(
      ({ issuer = '', line }) =>
        `line ${line} of pgsso.role_map.configuration is for ${quote(issuer)}, ` +
        'which is not an issuer: it has no effect',
    ),
  ];
}

/** Where rules are: `line 2`, `lines 2, 3`. */
function listLines(rules: readonly { readonly line: number }[]): string {
  const numbers = rules.slice(0, LISTED_LINES).map(({ line }) => line);
  const more = rules.length > LISTED_LINES ? ', …' : '';
  return rules.length === 1 ? `line ${numbers}` : `lines ${numbers.join(', ')}${more}`;
}

/** Without rules every login is native, which is then what the option is for. */
function warnOfDeniedLines(values: SettingValues): string[] {
  const { rules } = values['server.host_based_authentication.configuration'];
  const lines = rules.filter((rule) => rule.method === 'native' && rule !== DEFAULT_RULE);
  if (values.nativeLogins !== 'deny' || lines.length === 0) return [];
  return [
    `${listLines(lines)} of ${RULES_SETTING} ${lines.length === 1 ? 'is' : 'are'} native, ` +
      'and --native-logins is deny: only logins with a token pass there',
  ];
}

function warnOfLooseExpressions(values: SettingValues): string[] {
  const identities = values['server.identity_map.configuration'].rules;
  const roles = values['pgsso.role_map.configuration'];
  const provisioning = values['pgsso.provisioning.pattern'];
  return [
    ...identities
      .filter(isLoose)
      .map(({ line }) =>
        loose(`the expression on line ${line} of server.identity_map.configuration`),
      ),
    ...roles
      .filter(isLoose)
      .map(({ line }) => loose(`the expression on line ${line} of pgsso.role_map.configuration`)),
    ...(provisioning && isLoose({ pattern: provisioning.source })
      ? [loose('pgsso.provisioning.pattern')]
      : []),
  ];
}

function isLoose({ pattern }: { readonly pattern?: string }): boolean {
  return pattern !== undefined && !isAnchored(pattern);
}

function loose(what: string): string {
  return (
    `${what} is not anchored at both ends with ^ and $: ` +
    'it also matches what merely contains what it describes'
  );
}
