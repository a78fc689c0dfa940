/** Sign-in from a plain psql: with a real OpenID provider, and by clients that behave badly. */
import { spawn, spawnSync } from 'node:child_process';
import root from 'tap';
import { parseErrorFields } from '../../src/wire/messages.ts';
import { type FrontEnd, startFrontEnd, token } from '../support/front-end.ts';
import { runStatements } from '../support/manual.ts';
import { type PeopleProvider, SERVICE, startPeopleProvider } from '../support/people-provider.ts';
import { startPostgres } from '../support/postgres.ts';
import { follow } from '../support/psql18.ts';
import { password, query, RawClient, startup, tokenStartup } from '../support/raw-client.ts';
import { browse } from '../support/sign-in.ts';

const AUDIENCE = 'https://db.example';
const RULES = 'server.host_based_authentication.configuration';
const OPTION = '--pgsso:device_login=true';

const database = await startPostgres({
  hba: ['local all alice trust', 'local all bob scram-sha-256'],
  initSql: ['CREATE ROLE alice LOGIN', "CREATE ROLE bob LOGIN PASSWORD 'secret'"],
});
root.teardown(() => database.close());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
const provider = await startPeopleProvider({ audience: AUDIENCE });
root.teardown(() => provider.stop());

type Test = { teardown(done: () => Promise<void>): void };

async function startWith(
  test: Test,
  settings: Record<string, string> = {},
  options: Partial<Parameters<typeof startFrontEnd>[1]> = {},
  { issuer }: Pick<PeopleProvider, 'issuer'> = provider,
): Promise<FrontEnd> {
  const frontEnd = await startFrontEnd(backend, {
    metricsListen: { host: '127.0.0.1', port: 0 },
    environment: { PGSSO_SET_PGSSO_DEVICE_LOGIN_CLIENT_SECRET: SERVICE.secret },
    ...options,
    settings: {
      [RULES]: 'host all all all device',
      'server.jwt_authentication.issuers.configuration': issuer,
      'server.jwt_authentication.audience': AUDIENCE,
      'server.jwt_authentication.jwks_auto_fetch.enabled': 'true',
      'pgsso.device_login.issuer': issuer,
      'pgsso.device_login.client_id': SERVICE.id,
      'pgsso.throttle.exempt': '127.0.0.0/8',
      ...settings,
    },
  });
  test.teardown(() => frontEnd.close());
  return frontEnd;
}

/** The metrics of a front-end, one line each. */
async function metricsOf({ metricsPort }: FrontEnd): Promise<string> {
  return (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
}

/** Waits until so many logins wait. */
async function waiting(frontEnd: FrontEnd, count: number): Promise<void> {
  while (!(await metricsOf(frontEnd)).includes(`pgsso_device_logins_waiting ${count}\n`))
    await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Connects and reads up to the notice. */
async function asked(port: number, user = 'alice', address?: string) {
  const client = await RawClient.connect(port, address);
  client.send(startup({ user, database: 'postgres' }));
  const { types, last } = await client.until(0x4e);
  if (!last) throw new Error(`no notice but ${types}`);
  const { severity, code, message = '', detail, ...notice } = parseErrorFields(last.body);
  const [link = ''] = /http\S+/.exec(message) ?? [];
  return { client, types, severity, code, message, detail, hint: notice.hint, link };
}

const missing = (program: string): string | false =>
  spawnSync(program, ['--version']).error ? `no ${program}` : false;

root.test(
  'a psql of any version signs in at its terminal, and a forged user is refused',
  { skip: missing('psql') || missing('script') },
  async (t) => {
    const frontEnd = await startWith(t);
    const psql = (user: string) => {
      const conninfo = `host=127.0.0.1 port=${frontEnd.port} dbname=postgres user=${user}`;
      const options = "-XAt -P pager=off -c 'SELECT session_user'";
      const command = `psql ${options} '${conninfo} sslmode=disable'`;
      return follow(spawn('script', ['-qec', command, '/dev/null'], { stdio: 'pipe' }));
    };
    const alice = psql('alice');
    const notice = /NOTICE: {2}Open (\S+) and confirm the code (\S+) to log in as (\w+)\s/;
    const [, link = '', code = '', user] = await alice.printed(notice);
    t.equal(user, 'alice');
    t.match(link, code);
    await alice.printed(/DETAIL: {2}The login is from 127\.0\.0\.1:\d+ and waits for 10 min/);
    await alice.printed(/HINT: {2}Never open such a link that somebody else sent to you/);
    await browse(link, 'alice');
    t.equal(await alice.ended, 0, alice.output());
    t.match(alice.output(), /^alice\r?$/m);
    t.match(await frontEnd.event({ outcome: 'accepted' }), {
      method: 'token',
      mechanism: 'device',
      user: 'alice',
      issuer: provider.issuer,
    });
    t.notMatch(JSON.stringify(frontEnd.events), code, 'the code is not logged');

    const bob = psql('bob');
    const [, other = ''] = await bob.printed(notice);
    await browse(other, 'alice');
    t.equal(await bob.ended, 2);
    t.match(bob.output(), /FATAL: {2}JWT authentication: invalid principal/);
    t.match(bob.output(), /DETAIL: {2}token issued for \[alice\] and login was for bob/);
  },
);

root.test(
  'AuthenticationOk comes first and once, and the login needs neither place nor time',
  async (t) => {
    const frontEnd = await startWith(
      t,
      {},
      { maxLogins: 1, loginTimeout: 1000, admins: ['alice'] },
    );
    const first = await asked(frontEnd.port);
    t.match(first, {
      types: 'RN',
      severity: 'NOTICE',
      code: '00000',
      message: `Open ${first.link} and confirm the code `,
    });
    await waiting(frontEnd, 1);
    const other = await RawClient.connect(frontEnd.port);
    other.send(tokenStartup({ user: 'alice' }), password('x'));
    t.match(
      await other.error(),
      { message: 'JWT authentication: invalid token' },
      'the only place is free',
    );
    await new Promise((resolve) => setTimeout(resolve, 1100));
    first.client.send(query('SELECT session_user'));
    await browse(first.link, 'alice');
    t.match((await first.client.until(0x5a)).types, /^S+KZ$/, 'no second AuthenticationOk');
    t.match((await first.client.until(0x5a)).types, /^TDCZ$/, 'what was sent ahead is not lost');
    first.client.close();
    const { durationMs, waitedMs } = await frontEnd.event({ outcome: 'accepted' });
    t.ok(
      Number(waitedMs) > 1000 && Number(durationMs) < Number(waitedMs),
      'its time is not the login’s',
    );

    const operator = await RawClient.connect(frontEnd.port);
    operator.send(startup({ user: 'alice', database: 'pgsso' }));
    const { last } = await operator.until(0x4e);
    const [link = ''] =
      /http\S+/.exec(parseErrorFields(last?.body ?? Buffer.alloc(0)).message ?? '') ?? [];
    await browse(link, 'alice');
    t.match((await operator.until(0x5a)).types, /^S+KZ$/, 'the console greets once, too');
    operator.send(query('SHOW STATS'));
    const rows: string[] = [];
    for (
      let row = await operator.message();
      row && row.type !== 0x5a;
      row = await operator.message()
    )
      rows.push(row.body.toString('latin1'));
    t.match(rows.join('\n'), 'device_logins.waiting\0\0\0\x010');
    t.match(rows.join('\n'), 'device_logins.completed\0\0\0\x012');
    operator.close();
  },
);

root.test('the startup option asks for it on other lines, and is not passed on', async (t) => {
  const frontEnd = await startWith(t, { [RULES]: 'host all bob all native\nhost all all all jwt' });
  for (const parameters of [
    { user: 'alice', options: `-c geqo=off ${OPTION}` },
    { user: 'alice', options: '--pgsso%3ADevice-Login%3Dtrue' },
    { user: 'alice', 'pgsso:device_login': '1' },
  ]) {
    const client = await RawClient.connect(frontEnd.port);
    client.send(startup({ database: 'postgres', ...parameters }));
    const { types, last } = await client.until(0x4e);
    t.equal(types, 'RN', JSON.stringify(parameters));
    const [link = ''] =
      /http\S+/.exec(parseErrorFields(last?.body ?? Buffer.alloc(0)).message ?? '') ?? [];
    await browse(link, 'alice');
    t.match((await client.until(0x5a)).types, /^S+KZ$/);
    client.close();
  }
  const native = await RawClient.connect(frontEnd.port);
  native.send(startup({ user: 'bob', database: 'postgres', options: OPTION }));
  t.equal((await native.until(0x4e)).types, 'RN', 'on a native line');
  native.close();
  const withToken = await RawClient.connect(frontEnd.port);
  withToken.send(
    tokenStartup({ user: 'alice', options: `${OPTION} --crdb:jwt_auth_enabled=true` }),
  );
  t.match((await withToken.message())?.body, Buffer.from([0, 0, 0, 3]), 'the JWT option wins');
  withToken.close();
});

root.test('nobody signs in: declined, too late, left, replaced', async (t) => {
  const short = await startPeopleProvider({
    audience: AUDIENCE,
    codeLifetime: 1,
  });
  t.teardown(() => short.stop());
  const frontEnd = await startWith(t);
  const hurried = await startWith(t, {}, {}, short);

  const declined = await asked(frontEnd.port);
  await browse(declined.link, 'alice', 'decline');
  t.strictSame(await declined.client.error(), {
    severity: 'FATAL',
    sqlstate: '28000',
    message: 'JWT authentication: sign-in was declined',
  });
  t.match(await frontEnd.event({ code: 'device_login_declined' }), { fault: 'client' });

  const late = await asked(hurried.port);
  t.match(late.detail, /waits for 1 seconds/);
  t.match(await late.client.error(), {
    sqlstate: '28000',
    message: 'JWT authentication: sign-in was not completed in time',
  });

  for (const leave of [
    ({ client }: Awaited<ReturnType<typeof asked>>) => client.close(),
    ({ client }: Awaited<ReturnType<typeof asked>>) => client.channel.socket.end(),
    ({ client }: Awaited<ReturnType<typeof asked>>) => client.send(Buffer.from('X\0\0\0\x04')),
    // Behind bytes that belong to the session, too: its place was held for ten minutes.
    ({ client }: Awaited<ReturnType<typeof asked>>) => {
      client.send(query('SELECT 1'));
      client.channel.socket.end();
    },
  ]) {
    const gone = await asked(frontEnd.port);
    await waiting(frontEnd, 1);
    leave(gone);
    await waiting(frontEnd, 0);
    gone.client.close();
  }
  t.match(await frontEnd.event({ outcome: 'abandoned' }), { mechanism: 'device' });

  const talker = await asked(frontEnd.port);
  talker.client.send(Buffer.alloc(100_000, 'Q'));
  t.match(await talker.client.error(), { sqlstate: '08P01', message: /^too much was sent/ });
  talker.client.close();

  const older = await asked(frontEnd.port);
  const stranger = await asked(frontEnd.port, 'alice', '127.0.0.2');
  const newer = await asked(frontEnd.port);
  t.strictSame(await older.client.error(), {
    severity: 'FATAL',
    sqlstate: '28000',
    message: 'JWT authentication: sign-in was replaced by a newer one',
  });
  await waiting(frontEnd, 2);
  await browse(newer.link, 'alice');
  t.match((await newer.client.until(0x5a)).types, /^S+KZ$/);
  for (const { client } of [stranger, newer]) client.close();
  await waiting(frontEnd, 0);
  const metrics = await metricsOf(frontEnd);
  for (const outcome of ['declined', 'abandoned', 'completed', 'ended'])
    t.match(metrics, new RegExp(`pgsso_device_logins_total\\{outcome="${outcome}"\\} [1-9]`));
});

root.test('those that wait are bounded, and a flood of one address ends its own', async (t) => {
  const frontEnd = await startWith(t, { 'pgsso.device_login.limit': '4' });
  const quiet = await asked(frontEnd.port, 'alice', '127.0.0.9');
  const flood = [];
  for (const user of ['a', 'b', 'c', 'd', 'e'])
    flood.push(await asked(frontEnd.port, user, '127.0.0.2'));
  for (const { client } of flood.slice(0, 3))
    t.match(await client.error(), { sqlstate: '53300', message: 'too many sign-ins are waiting' });
  await waiting(frontEnd, 3);
  await browse(quiet.link, 'alice');
  t.match((await quiet.client.until(0x5a)).types, /^S+KZ$/, 'another address is not disturbed');
  for (const { client } of [quiet, ...flood]) client.close();
  await waiting(frontEnd, 0);
});

root.test('one address begins ten sign-ins a minute', async (t) => {
  const frontEnd = await startWith(t, {
    'pgsso.throttle.exempt': '',
    'pgsso.throttle.address_refusals': '0',
  });
  const before = provider.requests.get('/device/auth') ?? 0;
  for (let index = 0; index < 10; index++) (await asked(frontEnd.port, `u${index}`)).client.close();
  const client = await RawClient.connect(frontEnd.port);
  client.send(startup({ user: 'alice', database: 'postgres' }));
  t.match(await client.error(), {
    sqlstate: '53300',
    message: 'too many sign-ins from this address',
  });
  t.equal(provider.requests.get('/device/auth'), before + 10, 'the issuer is not asked');
});

root.test(
  'what is not configured, or turned off, is refused before anything is asked',
  async (t) => {
    const none = await startWith(t, { 'pgsso.device_login.issuer': '' });
    const off = await startWith(t, { 'server.jwt_authentication.enabled': 'false' });
    const wrong = await startWith(t, { 'pgsso.device_login.client_id': 'stranger' });
    for (const [frontEnd, error] of [
      [
        none,
        {
          message: 'device login is not configured',
          hint: 'Set pgsso.device_login.issuer and pgsso.device_login.client_id.',
        },
      ],
      [off, { message: 'JWT authentication: not enabled' }],
      [wrong, { message: 'JWT authentication: sign-in failed' }],
    ] as const) {
      const client = await RawClient.connect(frontEnd.port);
      client.send(startup({ user: 'alice', database: 'postgres' }));
      t.strictSame(await client.error(), { severity: 'FATAL', sqlstate: '28000', ...error });
    }
    t.match(await wrong.event({ code: 'device_login_failed' }), {
      fault: 'identity provider',
      reason: /\/device\/auth: status 40[01], error invalid_client; pgsso\.device_login\.issuer$/,
    });
    const client = await RawClient.connect(none.port);
    client.send(tokenStartup({ user: 'alice' }), password(token('alice')));
    t.match(await client.error(), { message: 'JWT authentication: invalid issuer' }, 'a token is');
  },
);

root.test('a shutdown ends those that wait, and tells them', async (t) => {
  const frontEnd = await startWith(t);
  const { client } = await asked(frontEnd.port);
  await waiting(frontEnd, 1);
  const drained = frontEnd.drain();
  t.match(await client.error(), { sqlstate: '57P03' });
  await drained;
});

root.test('the statements of docs/device-login.md run at the console', async (t) => {
  const frontEnd = await startWith(t);
  t.not(await runStatements('device-login.md', frontEnd), 0);
});
