/** Rules at a login: which line counts, what its options take, and that no name avoids a reject. */
import fc from 'fast-check';
import t from 'tap';
import type { Identity, LoginRequest } from '../../src/auth/identity.ts';
import { findRule, ruleInForce } from '../../src/auth/rules.ts';
import { PgError } from '../../src/lib/errors.ts';
import { parseAuthRules, type RuleQuery } from '../../src/settings/auth-rules.ts';
import { parseIdentityRules } from '../../src/settings/maps.ts';
import type { Members } from '../support/tokens.ts';
import { authenticatorOf, ISSUER, requestOf, settingsOf } from './login.ts';

interface RuleLogin {
  readonly rules: string;
  readonly user?: string | undefined;
  readonly database?: string;
  readonly claims?: Members;
  readonly settings?: Parameters<typeof settingsOf>[0];
}

/** A token login by rules, as a session makes it. */
async function logIn({
  rules: text,
  claims = {},
  settings,
  ...given
}: RuleLogin): Promise<Identity> {
  const rules = parseAuthRules(text);
  const user = 'user' in given ? given.user : 'alice';
  const query: RuleQuery = {
    address: '10.1.2.3',
    tls: true,
    database: given.database ?? 'sales',
    user,
    replication: false,
  };
  const rule = ruleInForce(rules, query, findRule(rules, query));
  const request: LoginRequest = { ...requestOf({ user, claims }), rule };
  const { signal } = new AbortController();
  return authenticatorOf().authenticate(request, settingsOf(settings), signal);
}

async function refusal(login: RuleLogin): Promise<PgError> {
  const error = await logIn(login).then(
    () => undefined,
    (thrown) => thrown,
  );
  if (error instanceof PgError) return error;
  throw error ?? new Error('the login was let in');
}

const NO_ENTRY =
  'no server.host_based_authentication.configuration entry for host "10.1.2.3", user "alice"';

t.test('no line, and a reject, are told in the words of CockroachDB', async (t) => {
  const missing = await refusal({ rules: 'host all bob all jwt' });
  t.match(missing, { sqlstate: '28000', code: 'no_rule', message: NO_ENTRY });
  const rejected = await refusal({ rules: 'host all all all reject\nhost all all all jwt' });
  t.match(rejected, { sqlstate: '28000', code: 'rejected_by_rule', message: NO_ENTRY });
  t.match(rejected.reason, /line 1: host all all all reject/);
  t.equal(rejected.detail, undefined);
});

const options: readonly {
  readonly when: string;
  readonly option: string;
  readonly passes: Members;
  readonly fails: Members;
  readonly message: string;
  readonly detail?: string;
}[] = [
  {
    when: 'issuer takes some of the configured issuers',
    option: `issuer=${ISSUER}`,
    passes: {},
    fails: { iss: 'https://other.example' },
    message: 'JWT authentication: invalid issuer',
    detail: 'token issued by https://other.example',
  },
  {
    when: 'audience stands in place of the setting',
    option: 'jwt_audiences="sales,reports"',
    passes: { aud: ['reports'] },
    fails: { aud: 'pgsso' },
    message: 'JWT authentication: invalid audience',
    detail: 'token issued with an audience of [pgsso]',
  },
  {
    when: 'claim names the principal',
    option: 'jwt_matching_claim_key=preferred_username',
    passes: { sub: 'x', preferred_username: 'alice' },
    fails: { sub: 'alice', preferred_username: 'bob' },
    message: 'JWT authentication: invalid principal',
    detail: 'token issued for [bob] and login was for alice',
  },
  {
    when: 'scope is in the claim scope',
    option: 'scope="openid db"',
    passes: { scope: 'db openid profile' },
    fails: { scope: 'openid' },
    message: 'JWT authentication: insufficient scope',
    detail: 'token issued with a scope of [openid]',
  },
  {
    when: 'scope is in the claim scp, text or list',
    option: 'scope=db',
    passes: { scp: ['db'] },
    fails: { scp: 'database' },
    message: 'JWT authentication: insufficient scope',
    detail: 'token issued with a scope of [database]',
  },
  {
    when: 'claims equal those of the token',
    option: 'claims="{""tid"":""42"",""idtyp"":""app""}"',
    passes: { tid: '42', idtyp: 'app' },
    fails: { tid: 42, idtyp: 'app' },
    message: 'JWT authentication: claim not accepted',
  },
  {
    when: 'claims are contained in a list of the token',
    option: 'claims="{""roles"":""writer""}"',
    passes: { roles: ['reader', 'writer'] },
    fails: { roles: ['writers'] },
    message: 'JWT authentication: claim not accepted',
  },
  {
    when: 'groups must name one of the token',
    option: 'groups="DBAs,ops"',
    passes: { groups: ['dbas'] },
    fails: { groups: ['dev'] },
    message: 'JWT authentication: claim not accepted',
  },
];
for (const { when, option, passes, fails, message, detail } of options) {
  t.test(when, async (t) => {
    const rules = `host all all all jwt ${option}`;
    t.match(await logIn({ rules, claims: passes }), { user: 'alice' });
    const error = await refusal({ rules, claims: fails });
    t.match(error, { sqlstate: '28000', message });
    t.equal(error.detail, detail);
  });
}

t.test('map names a map of the identity map in place of the issuer', async (t) => {
  const map = parseIdentityRules('people /^(.*)@example\\.com$ \\1');
  const settings = { 'server.identity_map.configuration': map };
  const claims = { sub: 'alice@example.com' };
  const rules = 'host all all all jwt map=people';
  t.match(await logIn({ rules, claims, settings }), { user: 'alice' });
  const error = await refusal({ rules: 'host all all all jwt map=nobody', claims, settings });
  t.match(error, { message: 'JWT authentication: invalid principal' });
});

t.test('with fold=no SQL names are compared and passed on exactly', async (t) => {
  const rules = 'host all all all jwt fold=no';
  const claims = { sub: 'Alice@Example.com' };
  const user = 'Alice@Example.com';
  t.match(await logIn({ rules, claims, user }), { user });
  t.match(await refusal({ rules, claims, user: 'alice@example.com' }), {
    message: 'JWT authentication: invalid principal',
  });
  const reserved = await refusal({ rules, claims: { sub: 'Postgres' }, user: 'Postgres' });
  t.match(reserved, { message: 'JWT authentication: invalid identity' });
});

t.test('with fold=no the names of the identity map keep their letters, too', async (t) => {
  const map = 'm /^(.*)@example\\.com$ \\1\nm 0a1b-2c3d Data-Team';
  const settings = { 'server.identity_map.configuration': parseIdentityRules(map) };
  const rows: readonly [option: string, claims: Members, user: string, isLetIn: boolean][] = [
    ['', { sub: 'Alice@example.com' }, 'Alice', true],
    ['', { sub: 'Alice@example.com' }, 'alice', false],
    ['claim=oid', { oid: '0a1b-2c3d' }, 'Data-Team', true],
    ['claim=oid', { oid: '0a1b-2c3d' }, 'data-team', false],
    [
      'claim=oid claims="{""tid"":""42"",""idtyp"":""app""}"',
      { oid: '0a1b-2c3d', tid: '42', idtyp: 'app' },
      'Data-Team',
      true,
    ],
    [
      'claim=oid claims="{""tid"":""42"",""idtyp"":""app""}"',
      { oid: '0a1b-2c3d', tid: '42', idtyp: 'user' },
      'Data-Team',
      false,
    ],
  ];
  for (const [option, claims, user, isLetIn] of rows) {
    const rules = `host all all all jwt fold=no map=m ${option}`;
    const outcome = await logIn({ rules, claims, user, settings }).catch((error) => error.code);
    const wanted = isLetIn ? { user } : /^(user_not_in_token|claim_not_accepted)$/;
    t.match(outcome, wanted, `${option} ${user}`);
  }
});

t.test('once a token has told the user, the line of that user counts', async (t) => {
  const rules = [
    'host all alice all jwt audience=special',
    'host all bob all reject',
    'host all carol all native',
    'host all all all jwt',
  ].join('\n');
  const absent = { rules, user: undefined };
  t.match(await logIn({ ...absent, claims: { sub: 'dora' } }), { user: 'dora' });
  t.match(await logIn({ ...absent, claims: { aud: 'special' } }), { user: 'alice' });
  t.match(await refusal(absent), { message: 'JWT authentication: invalid audience' });
  t.match(await refusal({ ...absent, claims: { sub: 'bob' } }), { code: 'rejected_by_rule' });
  const carol = await refusal({ ...absent, claims: { sub: 'carol' } });
  t.match(carol, { code: 'no_rule' });
  t.match(carol.reason, /line 3 \(native\) stands for that user, not line 4/);
  t.match(carol.message, /user ""$/, 'the client learns only what it sent');
});

t.test('another line whose claim or map leads to another user is refused', async (t) => {
  const rules = 'host all alice all jwt claim=email\nhost all all all jwt';
  const claims = { sub: 'alice', email: 'bob' };
  t.match(await refusal({ rules, user: undefined, claims }), {
    message: 'JWT authentication: invalid principal',
  });
});

t.test('no way of writing or leaving out a name avoids a reject', async () => {
  const rules = 'host all alice all reject\nhost all all all jwt';
  const spelling = fc.oneof(
    fc.constant(undefined),
    fc.constant(''),
    fc
      .array(fc.boolean(), { minLength: 5, maxLength: 5 })
      .map((upper) =>
        [...'alice'].map((letter, at) => (upper[at] ? letter.toUpperCase() : letter)).join(''),
      ),
    fc.string({ maxLength: 70 }),
  );
  const subject = fc.constantFrom('alice', 'ALICE', 'Alice');
  await fc.assert(
    fc.asyncProperty(spelling, subject, async (user, sub) => {
      const error = await logIn({ rules, user, claims: { sub } }).then(
        () => undefined,
        (thrown) => thrown,
      );
      return error instanceof PgError && error.sqlstate === '28000';
    }),
    { numRuns: 60 },
  );
});
