/** How many logins may wait for one route, and what happens while its hosts are away. */

import { spawn } from 'node:child_process';
import { once, setMaxListeners } from 'node:events';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { BackendRefusal, unreachable } from '../../src/backend/errors.ts';
import { RouteAdmission } from '../../src/backend/route-admission.ts';
import type { PgError } from '../../src/lib/errors.ts';
import { startFrontEnd, token } from '../support/front-end.ts';
import { password, RawClient, tokenStartup } from '../support/raw-client.ts';
import { authentication, backendError, greeting, startFake } from './fake-backend.ts';

const signal = new AbortController().signal;
setMaxListeners(0, signal);
const share = { name: '--route sales', limit: 100 };
const away = (): PgError => unreachable(['db:5432: no connection'], 1, undefined);

/** A login whose end the test decides. */
function pending(): {
  readonly login: () => Promise<string>;
  readonly begun: () => number;
  succeed(): void;
  fail(error: Error): void;
} {
  let begun = 0;
  let [succeed, fail] = [(_: string): void => undefined, (_: Error): void => undefined];
  const outcome = new Promise<string>((resolve, reject) => {
    succeed = resolve;
    fail = reject;
  });
  outcome.catch(() => undefined);
  return {
    login: () => {
      begun++;
      return outcome;
    },
    begun: () => begun,
    succeed: () => succeed('session'),
    fail: (error) => fail(error),
  };
}

t.test('a route has its share of the unfinished logins', async (t) => {
  const admission = new RouteAdmission({ name: '--route sales', limit: 2 });
  const [one, two] = [pending(), pending()];
  const first = admission.admit(signal, one.login);
  const second = admission.admit(signal, two.login);
  await t.rejects(
    admission.admit(signal, async () => t.fail('tried')),
    {
      code: 'route_busy',
      sqlstate: '53300',
      message: 'sorry, too many clients already',
      reason: /^--route sales: 2 unfinished logins/,
      fault: 'backend',
    },
  );
  one.succeed();
  t.equal(await first, 'session');
  t.equal(await admission.admit(signal, async () => 'third'), 'third');
  two.fail(new Error('whatever'));
  await t.rejects(second, { message: 'whatever' });
});

t.test('after all hosts failed, one login at a time tries them', async (t) => {
  let now = 0;
  const admission = new RouteAdmission(share, () => now);
  const notTried = {
    code: 'backend_unreachable',
    sqlstate: '08001',
    reason: 'not tried: db:5432: no connection',
  };
  await t.rejects(
    admission.admit(signal, () => Promise.reject(away())),
    { code: notTried.code },
  );
  const probe = pending();
  const probing = admission.admit(signal, probe.login);
  t.equal(probe.begun(), 1, 'the first login tries');
  now = 300;
  const tried = async (): Promise<boolean> => t.fail('tried');
  await t.rejects(admission.admit(signal, tried), notTried);
  now = 5000;
  const second = pending();
  const alsoProbing = admission.admit(signal, second.login);
  t.equal(second.begun(), 1, 'a probe without an answer is not waited for');
  now = 5300;
  await t.rejects(admission.admit(signal, tried), notTried);
  second.succeed();
  t.equal(await alsoProbing, 'session');
  t.equal(await admission.admit(signal, async () => 'free'), 'free');
  probe.fail(away());
  await t.rejects(probing, { code: notTried.code });
});

t.test('who comes while a host that is back answers its probe is not refused', async (t) => {
  const admission = new RouteAdmission(share);
  await t.rejects(admission.admit(signal, () => Promise.reject(away())));
  const probe = pending();
  const probing = admission.admit(signal, probe.login);
  const others = Array.from({ length: 20 }, () => admission.admit(signal, async () => 'in'));
  probe.succeed();
  t.equal(await probing, 'session');
  t.strictSame(new Set(await Promise.all(others)), new Set(['in']));
});

t.test('a login that waits for a probe ends with its signal', async (t) => {
  const admission = new RouteAdmission(share);
  await t.rejects(admission.admit(signal, () => Promise.reject(away())));
  const probe = pending();
  const probing = admission.admit(signal, probe.login);
  const abort = new AbortController();
  const waiting = admission.admit(abort.signal, async () => t.fail('tried'));
  abort.abort(new Error('the client left'));
  await t.rejects(waiting, { message: 'the client left' });
  probe.fail(new Error('its client left too'));
  await t.rejects(probing);
  t.equal(await admission.admit(signal, async () => 'the next probe'), 'the next probe');
});

t.test('the pause begins with one second and doubles up to five with each round', async (t) => {
  let now = 0;
  const admission = new RouteAdmission(share, () => now);
  const fail = (): Promise<never> => Promise.reject(away());
  /** Whether two logins can try the hosts at the same time. */
  const isFree = async (): Promise<boolean> => {
    const [one, two] = [pending(), pending()];
    const both = [admission.admit(signal, one.login), admission.admit(signal, two.login)];
    now += 250;
    for (const { fail } of [one, two]) fail(new Error('neutral'));
    await Promise.allSettled(both);
    now -= 250;
    return two.begun() === 1;
  };
  const pauses: number[] = [];
  for (let round = 0; round < 5; round++) {
    now += 10;
    await t.rejects(admission.admit(signal, fail));
    const failedAt = now;
    while (!(await isFree())) now += 500;
    pauses.push(now - failedAt);
  }
  t.strictSame(pauses, [1000, 2000, 4000, 5000, 5000]);
});

t.test('a refusal by the backend shows that a host is there', async (t) => {
  const admission = new RouteAdmission(share);
  const refusal = new BackendRefusal(backendError({ C: '3D000', M: 'no such database' }), 'db');
  await t.rejects(admission.admit(signal, () => Promise.reject(away())));
  await t.rejects(
    admission.admit(signal, () => Promise.reject(refusal)),
    { code: 'backend_refusal' },
  );
  const [one, two] = [pending(), pending()];
  const both = [one, two].map(({ login }) => admission.admit(signal, login));
  t.equal(two.begun(), 1, 'no outage any more');
  one.succeed();
  two.succeed();
  await Promise.all(both);
});

t.test('one frozen backend does not lock out the other routes', async (t) => {
  const frozen = await startFake((peer) => peer.closed());
  const healthy = await startFake(async (peer) => {
    await peer.packet();
    await peer.send(authentication(0), greeting);
    await peer.closed();
  });
  t.teardown(() => Promise.all([frozen.close(), healthy.close()]));
  const url = (port: number): string => `postgres://127.0.0.1:${port}/?sslmode=disable`;
  const frontEnd = await startFrontEnd(undefined, {
    routes: [`frozen=${url(frozen.port)}`, `healthy=${url(healthy.port)}`],
    maxLogins: 40,
  });
  t.teardown(() => frontEnd.close());
  const begin = async (database: string): Promise<RawClient> => {
    const client = await RawClient.connect(frontEnd.port);
    client.send(tokenStartup({ user: 'alice', database }), password(token('alice')));
    return client;
  };
  const stuck = await Promise.all(Array.from({ length: 30 }, () => begin('frozen')));
  const errors: string[] = [];
  for (const client of stuck)
    client.error().then(
      ({ sqlstate }) => errors.push(sqlstate),
      () => undefined,
    );
  for (let login = 0; login < 5; login++) {
    const client = await begin('healthy');
    t.match(await client.until(0x5a), { types: /Z$/ }, 'a login to the healthy route');
    client.close();
  }
  t.match(await frontEnd.event({ code: 'route_busy' }), {
    database: 'frozen',
    reason: /^--route frozen: 10 unfinished logins wait/,
  });
  for (let tries = 0; errors.length < 20 && tries < 500; tries++)
    await new Promise((resolve) => setTimeout(resolve, 10));
  t.strictSame(errors, new Array(20).fill('53300'), 'all above the share hear why');
  for (const client of stuck) client.close();
});

t.test('a process without descriptors blames itself and not the backend', async (t) => {
  const script = fileURLToPath(new URL('./without-descriptors.js', import.meta.url));
  const child = spawn('sh', ['-c', 'ulimit -n 64; exec "$0" "$1"', process.execPath, script]);
  const output: Buffer[] = [];
  child.stdout.on('data', (chunk) => output.push(chunk));
  child.stderr.on('data', (chunk) => output.push(chunk));
  await once(child, 'close');
  const text = Buffer.concat(output).toString();
  t.match(text, /"code":"out_of_descriptors"/);
  t.match(text, /"sqlstate":"53000"/);
  t.match(text, /"fault":"us"/);
  t.match(text, /ulimit -n, or LimitNOFILE/);
  t.match(text, /"failedLately":false/, 'the host is not marked');
});
