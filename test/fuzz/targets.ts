/**
 * The parsers that are fuzzed, as a table: each reads text from outside. A new parser is a row here
 * and, for what was found, a folder of the corpus with its name.
 */
import { explainLogin } from '../../src/auth/explain.ts';
import { CheckFailure } from '../../src/auth/refusals.ts';
import { parseToken } from '../../src/auth/token.ts';
import { findPassword, parsePasswordFile } from '../../src/backend/passfile.ts';
import { parseBackendUrl } from '../../src/backend/url-parser.ts';
import { parseQueryText } from '../../src/console/statements/grammar.ts';
import { PgError } from '../../src/lib/errors.ts';
import { parseJsonObject, readJson } from '../../src/lib/json.ts';
import { isInNetworks, parseNetworks } from '../../src/lib/network.ts';
import { formatList, formatText } from '../../src/lib/text.ts';
import { authRuleWarnings } from '../../src/settings/auth-rule-warnings.ts';
import { parseAuthRules } from '../../src/settings/auth-rules.ts';
import { parsePublishedKeys } from '../../src/settings/jwks.ts';
import { findSetting, parseSetting } from '../../src/settings/lookup.ts';
import { parseIdentityRules, parseRoleRules } from '../../src/settings/maps.ts';
import { parseSettings } from '../../src/settings/store/file-format.ts';
import {
  bearerToken,
  parseBearerMessage,
  parseInitialResponse,
} from '../../src/wire/oauthbearer.ts';
import { parseFirstPacket, readParameters } from '../../src/wire/startup.ts';
import { authenticatorOf, CLAIMS, KEY, requestOf, settingsOf } from '../auth/login.ts';
import { assembleToken, encode, publicJwk, signNothing, signWith } from '../support/tokens.ts';
import type { Grammar } from './generator.ts';

/** The errors that a parser documents. A plain `Error` does not stand for its subclasses. */
type DocumentedError = typeof Error | typeof PgError | typeof CheckFailure;

/** One row. */
export interface Target extends Grammar {
  /** Also the folder of its corpus. */
  readonly name: string;
  readonly errors: readonly DocumentedError[];
  /** How long one input may take, in milliseconds. */
  readonly boundMs: number;
  /**
   * Prepares an input and returns what is timed. A promise is awaited. What the preparation throws
   * counts as a refusal too.
   */
  prepare(text: string): () => unknown;
}

/** The time that a stranger may take from all sessions. */
const BOUND_MS = 5;

/**
 * What only an operator or the data directory can say. An expression of a map takes about a
 * millisecond to compile (settings/maps.ts).
 */
const OPERATOR_BOUND_MS = 50;

/** Matching a text of 50 characters, by the budget of a map (settings/maps.ts). */
const MATCH_BOUND_MS = 100;

const JWT = 'crdb:jwt_auth_enabled';
const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

/** The separator of the parts of an input that has two. */
const PART = '\0';

function parts(text: string): readonly [string, string] {
  const at = text.indexOf(PART);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

const claims = JSON.stringify({ ...CLAIMS, groups: ['engineering', 'db-admins'] });
const header = JSON.stringify({ alg: 'ES256', kid: KEY.kid, typ: 'JWT' });
const jsonWords = [
  ...['{', '}', '[', ']', ',', ':', '"', '""', '\\u0069', '\\ud800', '\\"', '1e400', '-0', 'null'],
  ...['true', '"sub":', '"iss":', '"aud":', '"exp":', '"groups":', '"kid":', '"alg":', '[[[['],
  ...['"__proto__":', '"crit":["b64"],', '"a":1,', '\ufeff'],
];
const authenticator = authenticatorOf();
const loginSettings = settingsOf({
  'server.jwt_authentication.authorization.enabled': true,
  'server.identity_map.configuration': parseIdentityRules(
    `${CLAIMS['iss']} /^(.*)@example\\.com$ \\1\n${CLAIMS['iss']} /^(.*)$ \\1`,
  ),
});
const goodToken = requestOf({}).token;
const never = new AbortController().signal;

const mapWords = [
  ...[
    '\n',
    ' ',
    '\t',
    '#',
    '/',
    '\\1',
    '/^',
    '$',
    '(.*)',
    '([9-0]*)',
    '(?i)',
    '(?:',
    '[[:alpha:]]',
  ],
  ...['{1000}', '{1,1000}', '.*', '|', '\\Q', '\\E', '\\pL', '[^', '(a|b)*', '(((((', '\\x20'],
];

const statements = [
  "SET CLUSTER SETTING server.jwt_authentication.audience = 'databases'",
  'SHOW CLUSTER SETTING pgsso.clock_tolerance; SHOW SESSIONS',
  'EXPLAIN LOGIN \'e.y.J\' FOR USER "Alice" DATABASE pgsso',
  "CREATE API KEY ci FOR USER deploy WITH (expires = '30 days')",
  "SELECT variable AS v FROM [SHOW CLUSTER SETTINGS] WHERE value LIKE '%a_b' AND origin = $1",
  'SELECT nspname FROM pg_catalog.pg_namespace ORDER BY 1',
  'CANCEL SESSION 17 -- the last one\n; SELECT version() /* nested /* comment */ */',
  "BEGIN; SET application_name TO E'a\\u00e9\\'b'; SHOW STATS; COMMIT",
  'RESET CLUSTER SETTING server.identity_map.configuration; SELECT $1, $tag$ text $tag$',
];

const keySet = { keys: [publicJwk(KEY), { kty: 'oct', kid: 'secret', k: 'AAAA' }] };
const settingsFile = JSON.stringify({
  format: 2,
  settings: {
    'server.jwt_authentication.audience': { value: 'a', user: 'u', at: '2026-01-01T00:00:00Z' },
  },
  apiKeys: {
    ci: {
      user: 'deploy',
      sha256: 'a'.repeat(64),
      createdBy: 'root',
      created: '2026-01-01T00:00:00.000Z',
      expires: null,
    },
  },
  history: [{ name: 'x', value: null, user: 'u', at: '2026-01-01T00:00:00Z' }],
});

export const targets: readonly Target[] = [
  {
    name: 'options',
    errors: [PgError],
    boundMs: BOUND_MS,
    longest: 9990,
    seeds: [
      `--${JWT}=true -c geqo=off -csearch_path=a\\ b`,
      `-c ${JWT}=t --role=x`,
      `--crdb%3Ajwt_auth_enabled%3Dtrue -c search_path=a%20b`,
      '-ecrole=x -c a=b+--crdb:session_revival_token_base64=x',
    ],
    words: [
      '-c ',
      '--',
      '-e',
      '=',
      '%',
      '%3D',
      ' %',
      '+',
      '\\ ',
      '\\',
      JWT,
      'pgsso:device_login',
      'role',
      'true',
      '_pq_.',
    ],
    prepare: (text) => {
      const value = latin1(text);
      return () => readParameters([{ name: 'options', value }]);
    },
  },
  {
    name: 'startup',
    errors: [PgError],
    boundMs: BOUND_MS,
    longest: 10_000,
    seeds: [
      `\0\x03\0\0user\0alice\0database\0app\0options\0--${JWT}=true\0\0`,
      '\0\x03\0\x02user\0a\0_pq_.x\x001\0replication\0database\0\0',
      '\x04\xd2\x16\x2f',
      '\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02',
    ],
    words: [
      '\0',
      'user\0',
      'USER\0x\0',
      'options\0',
      'role\0x\0',
      '_pq_.a\0b\0',
      '\0\x03\0\0',
      '%3D',
    ],
    prepare: (text) => {
      const body = latin1(text);
      return () => {
        const packet = parseFirstPacket(body);
        if (packet.kind === 'startup') readParameters(packet.parameters);
      };
    },
  },
  {
    // The first message of OAUTHBEARER, with the choice of the mechanism.
    name: 'oauthbearer',
    errors: [PgError],
    boundMs: BOUND_MS,
    longest: 65_535,
    seeds: [
      'OAUTHBEARER\0\0\0\0\x1bn,,\x01auth=Bearer abc.d_e==\x01\x01',
      'OAUTHBEARER\0\xff\xff\xff\xff',
      'n,,\x01host=db\x01port=1\x01auth=\x01\x01',
    ],
    words: ['\x01', '\0', 'n,,', 'y,,', 'p=', 'a=', 'auth=', 'Bearer ', 'bearer  ', '=', 'host='],
    prepare: (text) => {
      const body = latin1(text);
      return () => {
        bearerToken(text);
        if (text.startsWith('n')) return bearerToken(parseBearerMessage(body));
        const message = parseInitialResponse(body);
        return message && bearerToken(parseBearerMessage(message));
      };
    },
  },
  {
    name: 'token',
    errors: [CheckFailure],
    boundMs: BOUND_MS,
    longest: 65_535,
    seeds: [goodToken, assembleToken(header, claims, signNothing)],
    words: ['.', '..', '=', '-', '_', encode('{"alg":"none"}'), encode('{'), encode(header)],
    prepare: (text) => () => parseToken(text),
  },
  {
    // The same with a header and a payload that are encoded properly.
    name: 'token-json',
    errors: [CheckFailure],
    boundMs: BOUND_MS,
    longest: 48_000,
    seeds: [`${header}${PART}${claims}`],
    words: [PART, ...jsonWords],
    prepare: (text) => {
      const token = assembleToken(...parts(text), () => Buffer.alloc(64));
      return () => parseToken(token);
    },
  },
  {
    // What an issuer may sign: all checks of a login.
    name: 'claims',
    errors: [PgError],
    boundMs: BOUND_MS,
    longest: 48_000,
    seeds: [claims, JSON.stringify({ ...CLAIMS, sub: ['a@example.com', 'İ'], groups: ['é'] })],
    words: jsonWords,
    prepare: (text) => {
      const token = assembleToken(header, text, signWith(KEY));
      const request = { token, user: 'alice', namesRole: false };
      return () => authenticator.authenticate(request, loginSettings, never);
    },
  },
  {
    // The user that a client, or EXPLAIN LOGIN, asks for.
    name: 'user',
    errors: [],
    boundMs: BOUND_MS,
    longest: 65_535,
    seeds: ['alice', 'ALICE', 'İstanbul', 'é\u0301'],
    words: ['\u0301', 'a\u0301\u0323', 'İ', 'pg_', 'root', '\u{1d15e}', '\u1100\u1161'],
    prepare: (text) => {
      const request = { token: goodToken, user: text, namesRole: false };
      return () => explainLogin(authenticator, request, loginSettings, never);
    },
  },
  {
    // How text of others is shown.
    name: 'shown-text',
    errors: [],
    boundMs: BOUND_MS,
    longest: 65_535,
    seeds: ['alice', 'a\x01b', 'İ\u202e\ufeff'],
    words: ['\x01', '\u0301', '\ud800', '\u{1f600}', '\u2028', 'a'],
    prepare: (text) => () => [formatText(text), formatList(text.split(' '))],
  },
  {
    name: 'json',
    errors: [Error],
    boundMs: BOUND_MS,
    longest: 65_535,
    seeds: [claims, header, '{"a":{"b":[1,2,{"c":null}]},"\\u0061b":"\\\\"}', '{}'],
    words: jsonWords,
    prepare: (text) => {
      const bytes = Buffer.from(text);
      return () => {
        readJson(text);
        parseJsonObject(bytes);
      };
    },
  },
  {
    name: 'console',
    errors: [PgError],
    boundMs: OPERATOR_BOUND_MS,
    longest: 16_000,
    seeds: statements,
    words: [
      ...[';', "'", '"', "E'", '$$', '$a$', '$1', '--', '/*', '*/', '\\', '\\u', '.', '='],
      ...['SET', 'SHOW', 'CLUSTER SETTING', 'FOR USER', 'SELECT', '1m30s', ',', '(', ')'],
    ],
    prepare: (text) => () => parseQueryText(text),
  },
  {
    name: 'identity-map',
    errors: [PgError],
    boundMs: OPERATOR_BOUND_MS,
    longest: 8000,
    seeds: [
      'https://idp.example /^(.*)@example\\.com$ \\1\nhttps://idp.example ops operator # rule',
      'i /^([0-9]*)$ id_\\1',
    ],
    words: mapWords,
    prepare: (text) => () => parseIdentityRules(text),
  },
  {
    name: 'role-map',
    errors: [PgError],
    boundMs: OPERATOR_BOUND_MS,
    longest: 8000,
    seeds: ['engineering developers\n/^db-(.*)$ \\1\n', '/^domain\\x20admins$ pg_monitor # all'],
    words: mapWords,
    prepare: (text) => () => parseRoleRules(text),
  },
  {
    // A principal of the usual length against the rules of a map.
    name: 'map-match',
    errors: [PgError],
    boundMs: MATCH_BOUND_MS,
    longest: 4000,
    seeds: [
      `bob@example.com${PART}i /^(.*)@example\\.com$ \\1`,
      `aaaaaaaaaaaaaaaaaaaaaaaaaa${PART}i /^(a+)+$ \\1\ni /(a|aa)*b \\1`,
    ],
    words: [PART, ...mapWords],
    prepare: (text) => {
      const [principal, map] = parts(text);
      const rules = parseIdentityRules(map).rulesFor('i');
      return () => rules.map((rule) => rule.match(principal.slice(0, 50)));
    },
  },
  {
    name: 'settings-file',
    errors: [Error, PgError],
    boundMs: OPERATOR_BOUND_MS,
    longest: 65_535,
    seeds: [settingsFile],
    words: [...jsonWords, '"settings":{', '"value":"', '"format":1', '"history":[', '"apiKeys":{'],
    prepare: (text) => () => parseSettings(text),
  },
  {
    // The name of a setting, and its value.
    name: 'setting',
    errors: [PgError],
    boundMs: OPERATOR_BOUND_MS,
    longest: 8000,
    seeds: [
      `pgsso.clock_tolerance${PART}1 day 02:00:00.5`,
      `server.jwt_authentication.enabled${PART}on`,
      `server.jwt_authentication.jwks${PART}${JSON.stringify(keySet)}`,
      `server.jwt_authentication.audience${PART}["a","b"]`,
      `server.jwt_authentication.issuers.configuration${PART}{"issuer_jwks_map":{}}`,
      `security.provisioning.jwt.pattern${PART}^(a|b)[0-9]+$`,
    ],
    words: [PART, '1h', 'm', ' ', '-', ':', ...jsonWords],
    prepare: (text) => {
      const [name, value] = parts(text);
      return () => parseSetting(findSetting(name), value);
    },
  },
  {
    // Few keys: how many a set may have is a matter of the fetch.
    name: 'key-set',
    errors: [Error],
    boundMs: BOUND_MS,
    longest: 4000,
    seeds: [JSON.stringify(keySet), '{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"1"}]}'],
    words: [...jsonWords, '"kty":"EC"', '"n":"', '"e":"AQAB"', '"use":"enc",', '"crv":"P-256",'],
    prepare: (text) => {
      const json: unknown = readJsonOrNothing(text);
      return () => parsePublishedKeys(json);
    },
  },
  {
    name: 'auth-rules',
    errors: [PgError],
    boundMs: OPERATOR_BOUND_MS,
    longest: 4000,
    seeds: [
      'hostssl sales "a b",/^svc_ 10.0.0.0/8 jwt scope="openid db" fold=no',
      'host all all ::/0 jwt claims="{""tid"":""1""}"\nhost all all all reject',
    ],
    words: [
      'hostssl ',
      ' all',
      ' /^',
      '(a|b)*',
      ',',
      '"',
      '""',
      '#',
      '\\\n',
      '\n',
      ' jwt',
      ' map=',
    ],
    prepare: (text) => {
      const login = { address: '10.1.2.3', tls: true, database: 'sales', user: 'alice' };
      return () => {
        const rules = parseAuthRules(text);
        rules.find({ ...login, replication: false });
        authRuleWarnings(rules);
      };
    },
  },
  {
    name: 'networks',
    errors: [Error],
    boundMs: OPERATOR_BOUND_MS,
    longest: 8000,
    seeds: ['10.0.0.0/8, 2001:db8::/32', '127.0.0.1 ::1', '::ffff:10.1.2.3/96'],
    words: [
      '/',
      ',',
      ' ',
      '::',
      '10.1.2.3',
      '/32',
      '/128',
      '0x7f.1',
      '%eth0',
      '2001:db8::',
      '[::1]',
    ],
    prepare: (text) => () => isInNetworks('2001:db8::1', parseNetworks(text)),
  },
  {
    name: 'backend-url',
    errors: [PgError],
    boundMs: OPERATOR_BOUND_MS,
    longest: 8000,
    seeds: [
      'postgres://a.example:5432,b.example/app?sslmode=verify-full&target_session_attrs=primary',
      'postgresql:///app?host=/run/postgresql&port=5433',
      'postgres://:secret@[::1]:5432/?sslmode=require&require_auth=scram-sha-256,md5',
    ],
    words: [
      '://',
      '@',
      ':',
      ',',
      '/',
      '?',
      '&',
      '=',
      '%',
      '%2F',
      '%00',
      '[',
      ']',
      'host=',
      'sslmode=',
    ],
    prepare: (text) => () => parseBackendUrl(text, 'environment'),
  },
  {
    name: 'password-file',
    errors: [],
    boundMs: OPERATOR_BOUND_MS,
    longest: 65_535,
    seeds: ['db.example:5432:app:alice:se\\:cret\n*:*:*:bob:b\n', '# comment\nlocalhost:*:*:*:x'],
    words: [':', '*', '\\', '\\:', '\\\\', '\n', '\r\n', '#', 'a:b:c:d:'],
    prepare: (text) => () =>
      findPassword(parsePasswordFile(text), {
        host: 'db.example',
        port: 5432,
        database: 'app',
        user: 'nobody',
      }),
  },
];

function readJsonOrNothing(text: string): unknown {
  const reading = readJson(text);
  return reading.valid ? reading.value : undefined;
}
