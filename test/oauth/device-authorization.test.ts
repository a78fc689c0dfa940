/** The device authorization grant: what is sent, what of the answers is taken, and when it ends. */
import t from 'tap';
import { type FetchJson, HttpFailure, type JsonRequest } from '../../src/http/json-client.ts';
import { Discovery } from '../../src/keys/discovery.ts';
import { DeviceAuthorization, SignInFailure } from '../../src/oauth/device-authorization.ts';
import type { SettingName } from '../../src/settings/definitions.ts';
import { buildSnapshot } from '../../src/settings/snapshot.ts';

const ISSUER = 'https://id.example';
const DOCUMENT = {
  issuer: ISSUER,
  jwks_uri: `${ISSUER}/jwks`,
  token_endpoint: `${ISSUER}/token`,
  device_authorization_endpoint: `${ISSUER}/device`,
};
const CODE = {
  device_code: 'secret',
  user_code: 'ABCD-EFGH',
  verification_uri: `${ISSUER}/activate`,
  expires_in: 100,
};

type Answer = object | HttpFailure;
const refused = (oauthError: string): HttpFailure =>
  new HttpFailure(`status 400, error ${oauthError}`, { status: 400, oauthError });

/** An issuer that gives these answers, on a clock that moves only while something sleeps. */
function issuerWith(
  { code = CODE, document = DOCUMENT }: { code?: object; document?: object },
  answers: readonly Answer[],
  settings: Partial<Record<SettingName, string>> = {},
) {
  let now = 0;
  const slept: number[] = [];
  const sent: { url: string; form: string; authorization: string | undefined }[] = [];
  const left = [...answers];
  const fetchJson: FetchJson = async (url, request: JsonRequest) => {
    if (url.endsWith('openid-configuration')) return { body: document, headers: {} };
    sent.push({
      url,
      form: decodeURIComponent(String(request.form)),
      authorization: request.authorization,
    });
    const answer = url.endsWith('/device')
      ? code
      : (left.shift() ?? refused('authorization_pending'));
    if (answer instanceof HttpFailure) throw answer;
    return { body: answer, headers: {} };
  };
  const monotonic = (): number => now;
  const discovery = new Discovery(fetchJson, { now: monotonic, monotonic });
  const device = new DeviceAuthorization({
    fetchJson,
    discovery,
    monotonic,
    sleep: async (ms, signal) => {
      signal.throwIfAborted();
      now += ms;
      slept.push(ms / 1000);
    },
  });
  const texts = {
    'pgsso.device_login.issuer': ISSUER,
    'pgsso.device_login.client_id': 'pgsso',
    ...settings,
  };
  const processDefaults = new Map(Object.entries(texts) as [SettingName, string][]);
  const { values } = buildSnapshot({ stored: new Map(), processDefaults, previous: undefined });
  const { signal } = new AbortController();
  const signIn = async (): Promise<string> =>
    (await device.begin(values, signal)).confirmed(signal);
  return { signIn, begin: () => device.begin(values, signal), slept, sent };
}

t.test('a public client names itself in the form, a confidential one proves itself', async (t) => {
  const open = issuerWith({}, [{ access_token: 'a', id_token: 'i' }]);
  t.equal(await open.signIn(), 'a');
  t.strictSame(open.sent, [
    { url: `${ISSUER}/device`, form: 'client_id=pgsso&scope=openid', authorization: undefined },
    {
      url: `${ISSUER}/token`,
      form:
        'client_id=pgsso&grant_type=urn:ietf:params:oauth:grant-type:device_code' +
        '&device_code=secret',
      authorization: undefined,
    },
  ]);
  const closed = issuerWith({}, [{ access_token: 'a', id_token: 'i' }], {
    'pgsso.device_login.client_secret': 's:1',
    'pgsso.device_login.use_token': 'id_token',
    'pgsso.device_login.scope': 'openid db',
  });
  t.equal(await closed.signIn(), 'i');
  const authorization = `Basic ${Buffer.from('pgsso:s%3A1').toString('base64')}`;
  t.match(closed.sent, [
    { form: 'client_id=pgsso&scope=openid+db', authorization },
    { authorization },
  ]);
});

t.test('the issuer says how often it is asked, and when it is over', async (t) => {
  const token = { access_token: 'a' };
  const rows: readonly [
    when: string,
    code: object,
    answers: readonly Answer[],
    slept: readonly number[],
    outcome: string,
  ][] = [
    [
      'five seconds without an interval',
      {},
      [refused('authorization_pending'), token],
      [5, 5],
      'a',
    ],
    ['its own interval', { interval: 2 }, [token], [2], 'a'],
    ['never without a pause', { interval: 0 }, [token], [1], 'a'],
    ['never less than once a minute', { interval: 1e9, expires_in: 600 }, [token], [60], 'a'],
    [
      'slow_down, for good',
      {},
      [refused('slow_down'), refused('slow_down'), token],
      [5, 10, 15],
      'a',
    ],
    [
      'a lost answer is no outcome',
      {},
      [new HttpFailure('reset'), new HttpFailure('status 502', { status: 502 }), token],
      [5, 10, 15],
      'a',
    ],
    ['declined', {}, [refused('access_denied')], [5], 'declined'],
    ['expired there', {}, [refused('expired_token')], [5], 'expired'],
    ['another refusal', {}, [refused('invalid_client')], [5], 'failed'],
    ['no token in the answer', {}, [{ token_type: 'Bearer' }], [5], 'failed'],
    ['expired here', { expires_in: 12 }, [], [5, 5, 2], 'expired'],
    ['ten minutes at most', { expires_in: 1e6, interval: 300 }, [], Array(10).fill(60), 'expired'],
  ];
  for (const [when, change, answers, slept, outcome] of rows) {
    const issuer = issuerWith({ code: { ...CODE, ...change } }, answers);
    const ended = await issuer.signIn().catch((error: SignInFailure) => error.outcome);
    t.strictSame([ended, issuer.slept], [outcome, slept], when);
  }
});

t.test('what would be shown is checked first', async (t) => {
  const complete = `${ISSUER}/activate?user_code=ABCD-EFGH`;
  t.match(
    await issuerWith({ code: { ...CODE, verification_uri_complete: complete } }, []).begin(),
    { userCode: 'ABCD-EFGH', address: `${ISSUER}/activate`, completeAddress: complete },
  );
  const rows: readonly [object, RegExp][] = [
    [{ device_code: undefined }, /no device_code/],
    [{ user_code: 'A B' }, /no visible text/],
    [{ user_code: 'A\nlog in at evil.example' }, /no visible text/],
    [{ user_code: 'A'.repeat(65) }, /no visible text/],
    [{ user_code: 7 }, /no visible text/],
    [{ expires_in: -1 }, /no expires_in/],
    [{ expires_in: '100' }, /no expires_in/],
    [{ verification_uri: 'http://id.example/activate' }, /less safe/],
    [{ verification_uri: 'javascript:alert(1)' }, /no address/],
    [{ verification_uri: `${ISSUER}/a b` }, /no address/],
    [{ verification_uri: undefined }, /no address/],
    [{ verification_uri: `${ISSUER}/${'a'.repeat(2048)}` }, /no address/],
    [{ verification_uri_complete: 'http://id.example/' }, /less safe/],
  ];
  for (const [change, message] of rows) {
    const failure = await issuerWith({ code: { ...CODE, ...change } }, [])
      .begin()
      .catch((e) => e);
    t.ok(failure instanceof SignInFailure);
    t.match(failure, { outcome: 'failed', message }, JSON.stringify(change).slice(0, 80));
  }
  const without = { ...DOCUMENT, device_authorization_endpoint: undefined };
  t.match(
    await issuerWith({ document: without }, [])
      .begin()
      .catch((e) => e),
    {
      outcome: 'failed',
      message: 'the issuer has no device authorization endpoint',
    },
  );
});
