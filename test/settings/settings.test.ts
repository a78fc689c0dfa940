/** The table of settings, the search for a name, snapshots, warnings and process defaults. */

import t from 'tap';
import { PgError, UsageError } from '../../src/lib/errors.ts';
import { isInNetworks } from '../../src/lib/network.ts';
import { definitions, type SettingName, settingNames } from '../../src/settings/definitions.ts';
import { findSetting, knownNames, parseSetting } from '../../src/settings/lookup.ts';
import { readProcessDefaults, variableName } from '../../src/settings/process-defaults.ts';
import { buildSnapshot, type SettingsSnapshot } from '../../src/settings/snapshot.ts';
import { settingWarnings } from '../../src/settings/warnings.ts';
import { keySetText, testKey } from '../support/tokens.ts';

const ISSUERS = 'server.jwt_authentication.issuers.configuration';
const JWKS = 'server.jwt_authentication.jwks';
const MAP = 'server.identity_map.configuration';
const ROLES = 'pgsso.role_map.configuration';
const GROUPS = 'server.jwt_authentication.authorization.enabled';
const AUTO_FETCH = 'server.jwt_authentication.jwks_auto_fetch.enabled';
const ENABLED = 'server.jwt_authentication.enabled';
const AUDIENCE = 'server.jwt_authentication.audience';
const RULES = 'server.host_based_authentication.configuration';
const BEARER_AREA = 'server.oauthbearer_authentication';
const BEARER = `${BEARER_AREA}.enabled` as const;
const DEVICE = 'pgsso.device_login.issuer';
const TOLERANCE = 'pgsso.clock_tolerance';

/** Settings with which tokens are let in, once a way to log in is turned on. */
const USABLE = {
  [ISSUERS]: 'a',
  [AUDIENCE]: 'x',
  [JWKS]: keySetText(testKey('ES256')),
} as const;

type Texts = Partial<Record<SettingName, string>>;

function snapshotOf(
  texts: Texts,
  previous?: SettingsSnapshot,
  processDefaults: Texts = {},
): SettingsSnapshot {
  const stored = settingNames.flatMap((name) => {
    const text = texts[name];
    return text === undefined ? [] : [[name, { text, user: 'root', at: 1 }] as const];
  });
  const defaults = settingNames.flatMap((name) => {
    const text = processDefaults[name];
    return text === undefined ? [] : [[name, text] as const];
  });
  return buildSnapshot({ stored: new Map(stored), processDefaults: new Map(defaults), previous });
}

function refusalOf(read: () => unknown): PgError {
  try {
    read();
  } catch (error) {
    if (error instanceof PgError) return error;
    throw error;
  }
  throw new Error('it was taken');
}

function usageErrorOf(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error('it was taken');
}

t.test('the table has every setting of the contract, with its default', async (t) => {
  t.strictSame(
    Object.fromEntries(
      settingNames.map((name) => [name, [definitions[name].type, definitions[name].default]]),
    ),
    {
      'server.jwt_authentication.enabled': ['b', 'false'],
      'server.jwt_authentication.jwks': ['s', '{"keys":[]}'],
      'server.jwt_authentication.issuers.configuration': ['s', ''],
      'server.jwt_authentication.audience': ['s', ''],
      'server.jwt_authentication.claim': ['s', ''],
      'server.jwt_authentication.api_key_claim': ['s', ''],
      'server.jwt_authentication.jwks_auto_fetch.enabled': ['b', 'false'],
      'server.jwt_authentication.issuers.custom_ca': ['s', ''],
      'server.jwt_authentication.client.timeout': ['d', '15s'],
      'server.jwt_authentication.authorization.enabled': ['b', 'false'],
      'server.jwt_authentication.group_claim': ['s', 'groups'],
      'server.jwt_authentication.userinfo_group_key': ['s', 'groups'],
      'server.oauthbearer_authentication.enabled': ['b', 'false'],
      'server.oauthbearer_authentication.issuers': ['s', ''],
      'server.oauthbearer_authentication.audience': ['s', ''],
      'server.oauthbearer_authentication.jwks': ['s', '{"keys":[]}'],
      'server.oauthbearer_authentication.jwks_auto_fetch.enabled': ['b', 'false'],
      'server.oauthbearer_authentication.claim': ['s', ''],
      'server.oauthbearer_authentication.scope': ['s', ''],
      'security.provisioning.jwt.enabled': ['b', 'false'],
      'server.identity_map.configuration': ['s', ''],
      'server.host_based_authentication.configuration': ['s', ''],
      'server.auth_log.sql_sessions.enabled': ['b', 'true'],
      'pgsso.clock_tolerance': ['d', '5s'],
      'pgsso.role_map.configuration': ['s', ''],
      'pgsso.provisioning.pattern': ['s', ''],
      'pgsso.jwks_max_age': ['d', '24h0m0s'],
      'pgsso.allow_insecure_http': ['b', 'false'],
      'pgsso.client_credentials.issuer': ['s', ''],
      'pgsso.client_credentials.audience': ['s', ''],
      'pgsso.client_credentials.scope': ['s', ''],
      'pgsso.device_login.issuer': ['s', ''],
      'pgsso.device_login.client_id': ['s', ''],
      'pgsso.device_login.client_secret': ['s', ''],
      'pgsso.device_login.scope': ['s', 'openid'],
      'pgsso.device_login.use_token': ['s', 'access_token'],
      'pgsso.device_login.limit': ['i', '100'],
      'pgsso.throttle.address_refusals': ['i', '10'],
      'pgsso.throttle.user_refusals': ['i', '60'],
      'pgsso.throttle.window': ['d', '1m0s'],
      'pgsso.throttle.first_delay': ['d', '500ms'],
      'pgsso.throttle.longest_delay': ['d', '8s'],
      'pgsso.throttle.exempt': ['s', ''],
    },
  );
  for (const name of settingNames)
    t.equal(parseSetting(name, definitions[name].default).text, definitions[name].default, name);
  t.same(
    settingNames.filter((name) => definitions[name].sensitive),
    ['server.jwt_authentication.issuers.custom_ca', 'pgsso.device_login.client_secret'],
  );
});

t.test('a name is found in any case, and by its alias', async (t) => {
  t.equal(findSetting('SERVER.jwt_authentication.ENABLED'), 'server.jwt_authentication.enabled');
  t.equal(findSetting('server.jwt_authentication.issuers'), ISSUERS);
  t.equal(
    findSetting('server.jwt_authentication.issuer_custom_ca'),
    'server.jwt_authentication.issuers.custom_ca',
  );
});

t.test('an unknown name is refused with the nearest one', async (t) => {
  const unknown = refusalOf(() => findSetting('server.jwt_authentication.audiance'));
  t.equal(unknown.sqlstate, '42704');
  t.equal(unknown.message, "unknown cluster setting 'server.jwt_authentication.audiance'");
  t.match(unknown.hint, 'server.jwt_authentication.audience');
  for (const name of ['', '__proto__', 'constructor', 'x'.repeat(1e6)]) {
    const { sqlstate, message } = refusalOf(() => findSetting(name));
    t.equal(sqlstate, '42704');
    t.ok(message.length < 200, 'and the message stays short');
  }
});

t.test('an invalid value is refused with 22023', async (t) => {
  const table: [SettingName, string, RegExp, string?][] = [
    ['server.jwt_authentication.enabled', 'maybe', /could not parse "maybe" as type bool/],
    [
      'server.jwt_authentication.client.timeout',
      '-1ms',
      /^invalid value for server\.jwt_auth[a-z.]+timeout: cannot be set to a negative dur.*: -1ms$/,
    ],
    [
      'server.jwt_authentication.client.timeout',
      '25h',
      /: cannot be set to more than 24h0m0s: 25h0m0s$/,
    ],
    ['pgsso.clock_tolerance', 'soon', /^could not parse "soon" as type interval: expected whole/],
    ['server.jwt_authentication.jwks', '', /^JWT authentication JWKS not a valid JWKS: it is not/],
    ['server.jwt_authentication.claim', '/a~2', /^the JSON Pointer "\/a~2" has more than 10 mem/],
    ['server.jwt_authentication.claim', '/a'.repeat(11), /more than 10 members/],
    ['server.jwt_authentication.group_claim', '/~', /JSON Pointer/],
    ['server.oauthbearer_authentication.claim', '/~', /JSON Pointer/],
    ['server.jwt_authentication.userinfo_group_key', '/~', /JSON Pointer/],
    [
      'pgsso.clock_tolerance',
      '61s',
      /^invalid value for pgsso\.[a-z._]+: cannot be set to more than 1m0s: 1m1s$/,
    ],
    ['pgsso.role_map.configuration', 'one', /unable to parse line 1/],
    [
      'pgsso.provisioning.pattern',
      '[9-0]',
      /invalid character class range/,
      '0-9 was probably meant',
    ],
    [
      'pgsso.throttle.address_refusals',
      'ten',
      /^could not parse "ten" as type int: expected a who/,
    ],
    ['pgsso.throttle.address_refusals', '', /could not parse "" as type int/],
    ['pgsso.throttle.address_refusals', '1.5', /could not parse "1.5" as type int/],
    ['pgsso.throttle.address_refusals', '1e3', /could not parse "1e3" as type int/],
    ['pgsso.throttle.address_refusals', '0x10', /could not parse "0x10" as type int/],
    ['pgsso.throttle.address_refusals', '1234567890', /as type int/],
    [
      'pgsso.throttle.user_refusals',
      '-1',
      /^invalid value for pgsso\.[a-z._]+: cannot be set to a negative value: -1$/,
    ],
    [
      'pgsso.throttle.first_delay',
      '-1ms',
      /^invalid value for pgsso\.[a-z._]+: cannot be set to a negative duration: -1ms$/,
    ],
    [
      'pgsso.throttle.longest_delay',
      '61s',
      /^invalid value for pgsso\.[a-z._]+: cannot be set to more than 1m0s: 1m1s$/,
    ],
    [
      'pgsso.throttle.window',
      '0',
      /^invalid value for pgsso\.[a-z._]+: cannot be set to less than 1s: 0s$/,
    ],
    ['pgsso.throttle.exempt', '10.0.0.0/33', /10\.0\.0\.0\/33/],
    ['pgsso.throttle.exempt', 'example.com', /example\.com/],
    ['pgsso.throttle.exempt', '10.0.0.1 '.repeat(1001), /more than 1000 networks/],
    ['pgsso.throttle.exempt', '1'.repeat(100_000), /^.{0,400}$/],
    ['server.jwt_authentication.claim', 'x'.repeat(1024 * 1024 + 1), /longer than/],
  ];
  for (const [name, text, message, hint] of table) {
    const refusal = refusalOf(() => parseSetting(name, text));
    t.equal(refusal.sqlstate, '22023', name);
    t.match(refusal.message, message, name);
    t.match(refusal.reason, name, 'the log learns which setting it was');
    if (hint !== undefined) t.match(refusal.hint, hint);
  }
  t.same(parseSetting('server.jwt_authentication.client.timeout', '0'), { value: 0, text: '0s' });
});

t.test('integers and networks of the throttle have a canonical form', async (t) => {
  const count = 'pgsso.throttle.address_refusals';
  for (const text of ['7', ' 7 ', '+7', '007'])
    t.same(parseSetting(count, text), { value: 7, text: '7' }, text);
  t.same(parseSetting(count, '-0').text, '0', 'SHOW prints no negative zero');
  const { value } = parseSetting('pgsso.throttle.exempt', '10.0.0.0/8, 2001:db8::/32,192.0.2.1');
  const table: [string, boolean][] = [
    ['10.255.0.1', true],
    ['::ffff:10.1.2.3', true],
    ['11.0.0.1', false],
    ['2001:db8::1', true],
    ['192.0.2.1', true],
    ['192.0.2.2', false],
  ];
  for (const [address, isIn] of table) t.equal(isInNetworks(address, value), isIn, address);
  t.same(parseSetting('pgsso.throttle.exempt', '').value, []);
});

t.test(
  'a stored value wins over the process default, which wins over the default of the table',
  async (t) => {
    const { values, states } = snapshotOf({ [TOLERANCE]: '7s' }, undefined, {
      [TOLERANCE]: '6s',
      [AUTO_FETCH]: 'true',
    });
    t.equal(values[TOLERANCE], 7000);
    t.same(states[TOLERANCE], {
      text: '7s',
      defaultText: '6s',
      origin: 'override',
    });
    t.equal(values[AUTO_FETCH], true);
    t.same(states[AUTO_FETCH], {
      text: 'true',
      defaultText: 'true',
      origin: 'default',
    });
    t.equal(values['server.jwt_authentication.client.timeout'], 15_000);
  },
);

t.test('a change of one setting parses no other again, and raises the version', async (t) => {
  const before = snapshotOf({ [MAP]: 'iss /^(.*)$ \\1', [JWKS]: keySetText(testKey('ES256')) });
  const after = snapshotOf(
    { [MAP]: 'iss /^(.*)$ \\1', [JWKS]: keySetText(testKey('EdDSA')) },
    before,
  );
  t.equal(after.values[MAP], before.values[MAP], 'the same object');
  t.not(after.values[JWKS], before.values[JWKS]);
  t.same([before.version, after.version], [1, 2]);
});

t.test('a snapshot cannot be changed', async (t) => {
  const { values, states } = snapshotOf({
    [MAP]: 'iss a b',
    [ISSUERS]: '["a"]',
    [JWKS]: keySetText(testKey('ES256')),
  });
  const parts = [
    values,
    states,
    ...Object.values(states),
    ...Object.values(values),
    values[ISSUERS].issuers,
    values[MAP].rules,
    ...values[MAP].rules,
    values[MAP].rulesFor('iss'),
    ...values[JWKS],
    ...values[JWKS].map(({ algorithms }) => algorithms),
  ];
  for (const part of parts) t.ok(Object.isFrozen(part));
});

t.test('settings that let in more users than they seem to are warned of', async (t) => {
  const two = '["a", "b"]';
  const keys = keySetText(testKey('ES256'));
  const mapped = 'a x y\nb x y';
  const GROUPS_OF_TWO = { [GROUPS]: 'true', [ISSUERS]: two, [MAP]: mapped };
  const table: [string, Texts, RegExp[]][] = [
    ['nothing set', {}, []],
    [
      'switched on without what a token needs',
      { [ENABLED]: 'true' },
      [/issuers\.configuration is empty: no token is let in/, /audience is empty/, /jwks is empty/],
    ],
    [
      'switched on with fetched keys',
      { [ENABLED]: 'true', [ISSUERS]: 'a', [AUDIENCE]: 'b', [AUTO_FETCH]: 'true' },
      [],
    ],
    ['one issuer', { [ISSUERS]: 'a', [JWKS]: keys }, []],
    [
      'two issuers that share keys',
      { [ISSUERS]: two, [JWKS]: keys, [MAP]: mapped },
      [/2 issuers and one set of keys/],
    ],
    [
      'two issuers whose keys are fetched',
      { [ISSUERS]: two, [JWKS]: keys, [MAP]: mapped, [AUTO_FETCH]: 'true' },
      [],
    ],
    ['one of two without a rule', { [ISSUERS]: two, [MAP]: 'a x y' }, [/issuer "b" has no rule/]],
    [
      'roles that follow the groups of two issuers, without a map',
      { ...GROUPS_OF_TWO },
      [/role_map\.configuration is empty and there are 2 issuers: no group stands for a role\./],
    ],
    ['the same with one issuer', { [GROUPS]: 'true', [ISSUERS]: 'a' }, []],
    [
      'the same with one issuer, and two of OAUTHBEARER',
      {
        ...{ [GROUPS]: 'true', [ISSUERS]: 'a', [MAP]: mapped },
        'server.oauthbearer_authentication.enabled': 'true',
        'server.oauthbearer_authentication.issuers': two,
      },
      [/audience is empty/, /jwks is empty/, /map.configuration is empty and there are 2 issuers/],
    ],
    ['a role map by issuer', { ...GROUPS_OF_TWO, [ROLES]: 'a g r\nb g r' }, []],
    [
      'a role map of two columns',
      { ...GROUPS_OF_TWO, [ROLES]: 'g r\n# none\ng s' },
      [/^lines 1, 3 of .* are without an issuer: .*Write one rule a line: issuer, group/],
    ],
    [
      'a role map of both forms',
      { ...GROUPS_OF_TWO, [ROLES]: 'a g r\ng s' },
      [/^line 2 of .* is without an issuer/],
    ],
    [
      'a space in a group of the role map',
      { ...GROUPS_OF_TWO, [ROLES]: 'domain admins r' },
      [/^line 1 of .* is for "domain", which is not an issuer: it has no effect$/],
    ],
    [
      'oauth lines while OAUTHBEARER is off',
      { [RULES]: 'hostssl all all all oauth' },
      [/^line 1 of .* has the method oauth, and .*\.enabled is false: it lets nobody in$/],
    ],
    [
      'oauth lines without TLS',
      { [RULES]: 'host all all all oauth', [BEARER]: 'true', ...USABLE },
      [/^line 1 of .* takes tokens from any address without TLS/],
    ],
    [
      'OAUTHBEARER without an audience',
      { [BEARER]: 'true', ...USABLE, [AUDIENCE]: '' },
      [/^server\.jwt_authentication\.audience is empty: no token is let in$/],
    ],
    [
      'OAUTHBEARER with a key for two issuers',
      {
        [BEARER]: 'true',
        ...USABLE,
        [`${BEARER_AREA}.issuers`]: '["a","b"]',
        [MAP]: 'a x y\nb x y',
      },
      [/^there are 2 issuers and one set of keys in server\.jwt_authentication\.jwks/],
    ],
    [
      'OAUTHBEARER with a key of its own for two issuers, of which one has no rule',
      {
        [BEARER]: 'true',
        ...USABLE,
        [`${BEARER_AREA}.issuers`]: '["a","b"]',
        [`${BEARER_AREA}.jwks`]: keySetText(testKey('ES256')),
        [MAP]: 'a x y',
      },
      [
        /^there are 2 issuers and one set of keys in server\.oauthbearer_authentication\.jwks/,
        /^issuer "b" has no rule/,
      ],
    ],
    [
      'device lines without an issuer for them',
      { [RULES]: 'hostssl all all all device' },
      [/^line 1 of .* has the method device, and pgsso\.device_login\.issuer is empty: it lets/],
    ],
    [
      'device logins whose tokens are refused',
      { [DEVICE]: 'https://a.example', [ISSUERS]: 'https://b.example' },
      [/^pgsso\.device_login\.issuer is not among .*refused$/, /client_id is empty/],
    ],
    [
      'device lines without TLS',
      {
        [RULES]: 'host all all all device',
        [DEVICE]: 'https://a.example',
        'pgsso.device_login.client_id': 'pgsso',
        [ISSUERS]: 'https://a.example',
      },
      [/^line 1 of .* takes tokens from any address without TLS/],
    ],
    ['a loose expression', { [MAP]: 'a x y\na /^x y' }, [/line 2 .* not anchored/]],
  ];
  for (const [name, texts, expected] of table) {
    const warnings = settingWarnings(snapshotOf(texts).values);
    t.equal(warnings.length, expected.length, name);
    t.match(warnings, expected, name);
  }
});

t.test(
  'process defaults come from flags and the environment, and the later flag wins',
  async (t) => {
    const environment = {
      PGSSO_SET_PGSSO_CLOCK_TOLERANCE: '1s',
      PGSSO_SET_SERVER_JWT_AUTHENTICATION_AUDIENCE: 'a=b',
      PGSSO_LISTEN: 'x',
    };
    t.same(
      [
        ...readProcessDefaults(
          ['PGSSO.clock_tolerance=2s', 'pgsso.clock_tolerance=00:00:03'],
          environment,
        ),
      ],
      [
        [TOLERANCE, '3s'],
        ['server.jwt_authentication.audience', 'a=b'],
      ],
    );
    t.same(
      [...readProcessDefaults([], { PGSSO_SET_SERVER_JWT_AUTHENTICATION_ISSUERS: 'a' })],
      [[ISSUERS, 'a']],
      'by an alias',
    );
  },
);

t.test('the error of a bad default names the option or the variable, in one line', async (t) => {
  const table: [readonly string[], Record<string, string>, RegExp][] = [
    [['nonsense'], {}, /^--set: give NAME=VALUE$/],
    [
      ['pgsso.device_login.client_secret=s3cret'],
      {},
      /^--set pgsso\.device_login\.client_secret: .* PGSSO_SET_PGSSO_DEVICE_LOGIN_CLIENT_SECRET/,
    ],
    [['pgsso.device_login.use_token=refresh_token'], {}, /must be access_token or id_token$/],
    [
      ['pgsso.clock=1s'],
      {},
      /^--set: unknown cluster setting 'pgsso\.clock' \(.*pgsso\.clock_tolerance.*\)$/,
    ],
    [['pgsso.clock_tolerance=soon'], {}, /^--set pgsso\.clock_tolerance: could not parse "soon"/],
    [[], { PGSSO_SET_PGSSO_CLOCK: '1s' }, /^PGSSO_SET_PGSSO_CLOCK: there is no such setting/],
    [[], { PGSSO_SET_pgsso_clock_tolerance: '1s' }, /there is no such setting/],
    [
      [],
      { PGSSO_SET_PGSSO_CLOCK_TOLERANCE: '' },
      /^PGSSO_SET_PGSSO_CLOCK_TOLERANCE: could not parse/,
    ],
    [
      [],
      {
        PGSSO_SET_SERVER_JWT_AUTHENTICATION_ISSUERS: 'a',
        PGSSO_SET_SERVER_JWT_AUTHENTICATION_ISSUERS_CONFIGURATION: 'b',
      },
      /another variable/,
    ],
  ];
  for (const [flags, environment, message] of table) {
    const refusal = usageErrorOf(() => readProcessDefaults(flags, environment));
    t.match(refusal, message);
    t.notMatch(refusal, '\n');
  }
  const secret = 'server.jwt_authentication.issuers.custom_ca=hidden';
  t.notMatch(
    usageErrorOf(() => readProcessDefaults([secret], {})),
    'hidden',
    'a sensitive value is not repeated',
  );
});

t.test('no two settings share a variable', async (t) => {
  const names = Array.from(knownNames, ([known]) => variableName(known));
  t.equal(new Set(names).size, names.length);
});
