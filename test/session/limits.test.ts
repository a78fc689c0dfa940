/** What bounds logins, sessions and cancel requests. */

import t from 'tap';
import { Limiter } from '../../src/lib/limiter.ts';
import { createLog, RepeatedEvent } from '../../src/observe/log.ts';
import { CancelKeys, forwardCancel } from '../../src/session/cancel.ts';
import { Limits } from '../../src/session/limits.ts';
import { openTarget } from '../backend/fake-backend.ts';

function memoryLog(): {
  log: ReturnType<typeof createLog>;
  events: () => Record<string, unknown>[];
} {
  const lines: string[] = [];
  const log = createLog('json', 'debug', { write: (line) => lines.push(line) });
  return { log, events: () => lines.map((line) => JSON.parse(line)) };
}

function limitsOf({ maxLogins = 10, maxSessions = 10, log = memoryLog().log } = {}): Limits {
  return new Limits({ maxLogins, maxSessions }, log, {
    loginDropped: () => undefined,
    cancelDropped: () => undefined,
  });
}

t.test('the oldest login without a password makes room for a new one', async (t) => {
  const limits = limitsOf({ maxLogins: 2 });
  const dropped: string[] = [];
  const first = limits.enterLogin('10.0.0.1', () => dropped.push('first'));
  limits.enterLogin('10.0.0.1', () => dropped.push('second'));
  first?.keep();
  t.ok(limits.enterLogin('10.0.0.1', () => dropped.push('third')));
  t.strictSame(dropped, ['second']);
});

t.test('logins with a password are never dropped: the newcomer is turned away', async (t) => {
  const limits = limitsOf({ maxLogins: 1 });
  const first = limits.enterLogin('10.0.0.1', () => t.fail('dropped'));
  first?.keep();
  t.equal(
    limits.enterLogin('10.0.0.1', () => undefined),
    undefined,
  );
  first?.release();
  first?.release();
  t.ok(limits.enterLogin('10.0.0.1', () => undefined));
});

t.test('keep after the login was dropped changes nothing', async (t) => {
  const limits = limitsOf({ maxLogins: 1 });
  const dropped: string[] = [];
  const first = limits.enterLogin('10.0.0.1', () => undefined);
  const second = limits.enterLogin('10.0.0.1', () => dropped.push('second'));
  first?.keep();
  first?.release();
  const third = limits.enterLogin('10.0.0.1', () => undefined);
  t.strictSame(dropped, ['second'], 'the second one had the only place');
  second?.release();
  t.ok(third);
});

t.test('sessions above the limit are refused with 53300, the log names the option', async (t) => {
  const limits = limitsOf({ maxSessions: 1 });
  const first = await limits.enterSession();
  await t.rejects(limits.enterSession(), {
    name: 'PgError',
    sqlstate: '53300',
    reason: /--max-sessions is 1/,
  });
  first.release();
  first.release();
  const again = await limits.enterSession();
  await t.rejects(limits.enterSession(), { name: 'PgError', sqlstate: '53300' });
  again.release();
});

t.test('native logins to a frozen route stood before those to a healthy one', async (t) => {
  const limits = limitsOf();
  const places = new AbortController();
  const target = (text: string) => openTarget(`postgres://${text}/?sslmode=disable`);
  const [frozen, healthy, other] = await Promise.all(
    ['10.1.0.1,10.1.0.2', '10.2.0.1', '10.1.0.2:5432,10.1.0.1'].map(target),
  );
  const held: unknown[] = [];
  const enter = (backend = frozen): void => {
    if (!backend) throw new Error('no backend');
    limits
      .enterNative(backend, '192.0.2.1', places.signal, () => undefined)
      .then((permit) => held.push([backend.servers, permit]))
      .catch(() => undefined);
  };
  for (let login = 0; login < 50; login++) enter();
  enter(other);
  await new Promise(setImmediate);
  t.equal(held.length, 50, 'the same hosts in another order are the same backend');
  // It waited until 50 logins had made room, two seconds each round: 8.1 s behind 200.
  enter(healthy);
  await new Promise(setImmediate);
  t.match(held.slice(50), [['10.2.0.1:5432', Object]]);
  places.abort();
});

t.test('32 cancel requests are forwarded at once, more are dropped and counted', async (t) => {
  const { log, events } = memoryLog();
  let forwarded = 0;
  let finish = (): void => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let dropped = 0;
  const cancel = async () => {
    forwarded++;
    await finished;
    return [{ host: 'db:5432', failure: undefined }];
  };
  const limits = new Limits({ maxLogins: 1, maxSessions: 1 }, log, {
    loginDropped: () => undefined,
    cancelDropped: () => dropped++,
  });
  const cancelFailed = new RepeatedEvent(log, 'cancel', 'not delivered');
  const cancelKeys = new CancelKeys();
  const services = { limits, log, routes: { cancel }, cancelKeys, cancelFailed };
  const signal = new AbortController().signal;
  const forward = (_: unknown, at: number) =>
    forwardCancel(Buffer.alloc(16), 'client', `10.0.0.${at % 4}`, services, signal);
  const all = Array.from({ length: 40 }, forward);
  await new Promise(setImmediate);
  t.equal(forwarded, 32);
  finish();
  await Promise.all(all);
  t.match(
    events().filter(({ event }) => event === 'cancel_dropped'),
    [{ count: 1 }],
  );
  t.equal(dropped, 8, 'each for the metrics');
  await forward(undefined, 0);
  t.equal(forwarded, 33, 'room again');
});

t.test('cancel requests for a host that is down wrote a line of the log each', async (t) => {
  const { log, events } = memoryLog();
  const none = { loginDropped: () => undefined, cancelDropped: () => undefined };
  const services = {
    limits: new Limits({ maxLogins: 1, maxSessions: 1 }, log, none),
    log,
    routes: { cancel: async () => [{ host: 'db:5432', failure: 'connection refused' }] },
    cancelKeys: new CancelKeys(),
    cancelFailed: new RepeatedEvent(log, 'cancel', 'cancel request not delivered'),
  };
  const { signal } = new AbortController();
  for (let at = 0; at < 1000; at++)
    await forwardCancel(Buffer.alloc(16), 'client', `10.0.${at % 50}.1`, services, signal);
  const lines = events().filter(({ event }) => event === 'cancel');
  t.match(lines[0], { count: 1, client: 'client', backend: 'db:5432', reason: /refused/ });
  t.ok(lines.length < 10, `${lines.length} lines`);
});

t.test(
  'an event that repeats is logged at once and then once a second, with its count',
  async (t) => {
    const { log, events } = memoryLog();
    t.context = t.intercept(globalThis, 'setTimeout', {
      value: (call: () => void) => ({ unref: () => timers.push(call) }),
    });
    const timers: (() => void)[] = [];
    const event = new RepeatedEvent(log, 'flood', 'text', () => undefined);
    for (let i = 0; i < 5; i++) event.happened();
    t.match(events(), [{ count: 1 }]);
    timers.shift()?.();
    t.match(events(), [{ count: 1 }, { count: 4 }]);
  },
);

t.test(
  'secrets that are logged by mistake are redacted, and a terminal is not obeyed',
  async (t) => {
    const lines: string[] = [];
    const stream = { write: (line: string) => lines.push(line) };
    createLog('json', 'info', stream).info({ password: 'hunter2', nested: { token: 'eyJ' } }, 'x');
    t.notMatch(lines[0], /hunter2|eyJ/);
    createLog('pretty', 'info', stream).info({ user: 'a\u001b[2J\u009b\u202eb' }, 'x');
    t.notMatch(lines[1], /\p{Cf}|[^\P{Cc}\n]/u);
    t.match(lines[1], /x user=/);
  },
);

t.test(
  'native logins above the limit wait in line; who does not answer makes room when his time is up',
  async (t) => {
    // The gate's own timer keeps no process alive.
    const alive = setInterval(() => undefined, 1000);
    t.teardown(() => clearInterval(alive));
    const gate = new Limiter({ limit: 2, patience: 20 });
    const { signal } = new AbortController();
    const dropped: string[] = [];
    const first = await gate.wait('', signal, () => dropped.push('first'));
    const second = await gate.wait('', signal, () => {
      dropped.push('second');
      second.release();
    });
    first.keep();
    const third = await gate.wait('', signal, () => dropped.push('third'));
    t.strictSame(dropped, ['second'], 'the first one has answered');
    const waiting = gate.wait('', signal, () => undefined);
    first.release();
    first.release();
    const fourth = await waiting;
    fourth.release();
    third.release();
    second.release();
    t.strictSame(dropped, ['second']);
  },
);

t.test('a native login that is given up in line takes no place', async (t) => {
  const gate = new Limiter({ limit: 1, patience: 60_000 });
  const holder = await gate.wait('', new AbortController().signal, () => undefined);
  const abort = new AbortController();
  const waiting = gate.wait('', abort.signal, () => undefined);
  abort.abort(new Error('gone'));
  await t.rejects(waiting, { message: 'gone' });
  holder.release();
  const next = await gate.wait('', new AbortController().signal, () => undefined);
  next.release();
});
