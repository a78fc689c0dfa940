/** Logins by OAUTHBEARER are decided as those by password, on settings of their own. */
import fc from 'fast-check';
import t from 'tap';
import { explainLogin } from '../../src/auth/explain.ts';
import { VerifiedTokens } from '../../src/auth/verified-tokens.ts';
import { parseAuthRules } from '../../src/settings/auth-rules.ts';
import { advertisedScope, bearerSettings, waysToLogIn } from '../../src/settings/oauthbearer.ts';
import type { LoginSettings } from '../../src/settings/snapshot.ts';
import { testKey } from '../support/tokens.ts';
import {
  authenticatorOf,
  ISSUER,
  KEY,
  NOW,
  requestOf,
  settingsOf,
  verificationKey,
} from './login.ts';

const { signal } = new AbortController();
const OTHER = verificationKey(testKey('ES256', 'other'));
const bearer = 'server.oauthbearer_authentication';
const jwt = 'server.jwt_authentication';

t.test('each setting that is empty leaves its sibling in force', async (t) => {
  const rows: readonly [Partial<LoginSettings>, object][] = [
    [{}, { keys: [verificationKey(KEY)], fetches: false, claim: '', audience: ['pgsso', ''] }],
    [{ [`${bearer}.claim`]: 'upn', [`${jwt}.claim`]: 'email' }, { claim: 'upn' }],
    [{ [`${jwt}.claim`]: 'email' }, { claim: 'email' }],
    [{ [`${bearer}.audience`]: ['sql'] }, { audience: ['sql'] }],
    [{ [`${bearer}.issuers`]: { issuers: ['b'], jwksUris: undefined } }, { issuers: ['b'] }],
    [
      { [`${bearer}.jwks`]: [OTHER], [`${jwt}.jwks_auto_fetch.enabled`]: true },
      { keys: [OTHER], fetches: false },
    ],
    [{ [`${bearer}.jwks_auto_fetch.enabled`]: true }, { keys: [], fetches: true }],
    [{ [`${jwt}.jwks_auto_fetch.enabled`]: true }, { fetches: true }],
  ];
  for (const [change, expected] of rows) {
    const values = bearerSettings(settingsOf(change));
    t.match(
      {
        keys: values[`${jwt}.jwks`],
        fetches: values[`${jwt}.jwks_auto_fetch.enabled`],
        claim: values[`${jwt}.claim`],
        audience: values[`${jwt}.audience`],
        issuers: values[`${jwt}.issuers.configuration`].issuers,
      },
      expected,
      JSON.stringify(Object.keys(change)),
    );
  }
  const values = settingsOf({ [`${bearer}.enabled`]: true });
  t.equal(bearerSettings(values), bearerSettings(values), 'made once for each snapshot');
  t.strictSame(waysToLogIn(values), [values, bearerSettings(values)]);
  t.strictSame(waysToLogIn(settingsOf()).length, 1, 'one way while it is off');
});

t.test('the scope of the line comes before that of the setting', async (t) => {
  const values = settingsOf({ [`${bearer}.scope`]: 'openid profile' });
  t.equal(advertisedScope(values, ['db', 'openid']), 'db openid');
  t.equal(advertisedScope(values, []), 'openid profile');
  t.equal(advertisedScope(settingsOf(), []), 'openid');
});

t.test('the same token gets the same decision by password and by OAUTHBEARER', async () => {
  const decide = async (values: LoginSettings, claims: object, user: string): Promise<unknown> =>
    authenticatorOf()
      .authenticate({ ...requestOf({ claims: { ...claims } }), user }, values, signal)
      .catch(({ code, message, detail, reason }) => ({ code, message, detail, reason }));
  const claims = fc.record(
    {
      sub: fc.constantFrom('alice', 'bob', 'root', ''),
      aud: fc.constantFrom('pgsso', 'x'),
      iss: fc.constantFrom(ISSUER, 'https://stranger.example'),
      exp: fc.constantFrom(NOW / 1000 + 60, NOW / 1000 - 60),
    },
    { requiredKeys: [] },
  );
  await fc.assert(
    fc.asyncProperty(claims, fc.constantFrom('alice', 'Bob', 'root'), async (changed, user) => {
      const values = settingsOf({ [`${bearer}.enabled`]: true });
      const [byPassword, byBearer] = await Promise.all(
        waysToLogIn(values).map((way) => decide(way, changed, user)),
      );
      return JSON.stringify(byPassword) === JSON.stringify(byBearer);
    }),
    { numRuns: 100 },
  );
});

t.test(
  'a token that was verified is known for each way to log in with the same keys',
  async (t) => {
    const verified = new VerifiedTokens(() => NOW);
    const known: boolean[] = [];
    const authenticator = authenticatorOf({
      verified,
      events: { verified: (before) => void known.push(before) },
    });
    const same = settingsOf({ [`${bearer}.enabled`]: true });
    const request = requestOf({});
    await authenticator.authenticate(request, same, signal);
    await authenticator.authenticate(request, bearerSettings(same), signal);
    await authenticator.authenticate(request, same, signal);
    const other = settingsOf({ [`${bearer}.enabled`]: true, [`${bearer}.jwks`]: [OTHER] });
    await authenticator.authenticate(request, other, signal);
    const refused = authenticator.authenticate(request, bearerSettings(other), signal);
    await t.rejects(refused, { code: 'invalid_token' }, 'not with other keys');
    t.strictSame(known.slice(0, 4), [false, true, true, false]);
  },
);

t.test('an explanation of a login on an oauth line names the settings in force', async (t) => {
  const rules = parseAuthRules('hostssl all all all oauth\nhost all all all jwt');
  const values = settingsOf({ [`${bearer}.audience`]: ['sql'] });
  const explain = (settings: LoginSettings, tls: boolean) =>
    explainLogin(authenticatorOf(), requestOf({}), settings, signal, {
      rules,
      query: { address: '10.1.2.3', tls, database: undefined, replication: false },
    });
  const off = await explain(values, true);
  t.match(off.refusal, {
    code: 'oauthbearer_not_enabled',
    message: 'OAUTHBEARER authentication: not enabled',
  });
  t.match(off.checks.slice(0, 2), [
    { check: 'rule', result: 'passed', found: 'line 1: hostssl all all all oauth' },
    { check: 'enabled', result: 'failed', decidedBy: `${bearer}.enabled` },
  ]);
  const on = await explain({ ...values, [`${bearer}.enabled`]: true }, true);
  t.match(
    on.checks.find(({ result }) => result === 'failed'),
    { check: 'audience', expected: 'one of [sql]', decidedBy: `${bearer}.audience` },
  );
  t.match((await explain(values, false)).identity, { user: 'alice' }, 'by password on line 2');
});
