/** What bounds logins, sessions and cancel requests. */

import t from 'tap';
import { createLog, RepeatedEvent } from '../../src/observe/log.ts';
import { Cancels, LoginSlots, NativeGate, SessionLimit } from '../../src/session/limits.ts';

function memoryLog(): {
  log: ReturnType<typeof createLog>;
  events: () => Record<string, unknown>[];
} {
  const lines: string[] = [];
  const log = createLog('json', 'debug', { write: (line) => lines.push(line) });
  return { log, events: () => lines.map((line) => JSON.parse(line)) };
}

function slots(limit: number): LoginSlots {
  return new LoginSlots(
    limit,
    new RepeatedEvent(memoryLog().log, 'logins_dropped', '', () => undefined),
  );
}

t.test('the oldest login without a password makes room for a new one', async (t) => {
  const two = slots(2);
  const dropped: string[] = [];
  const first = two.enter(() => dropped.push('first'));
  two.enter(() => dropped.push('second'));
  first?.keep();
  t.ok(two.enter(() => dropped.push('third')));
  t.strictSame(dropped, ['second']);
  t.equal(two.size, 2);
});

t.test('logins with a password are never dropped: the newcomer is turned away', async (t) => {
  const one = slots(1);
  const first = one.enter(() => t.fail('dropped'));
  first?.keep();
  t.equal(
    one.enter(() => undefined),
    undefined,
  );
  first?.release();
  first?.release();
  t.equal(one.size, 0);
  t.ok(one.enter(() => undefined));
});

t.test('keep after the login was dropped changes nothing', async (t) => {
  const one = slots(1);
  const first = one.enter(() => undefined);
  const second = one.enter(() => undefined);
  first?.keep();
  first?.release();
  t.equal(one.size, 1);
  second?.release();
  t.equal(one.size, 0);
});

t.test('sessions above the limit are refused with 53300, the log names the option', async (t) => {
  const limit = new SessionLimit(1);
  const leave = limit.take();
  t.throws(() => limit.take(), {
    name: 'PgError',
    sqlstate: '53300',
    reason: /--max-sessions is 1/,
  });
  leave();
  leave();
  const again = limit.take();
  t.throws(() => limit.take(), { name: 'PgError', sqlstate: '53300' });
  again();
});

t.test('32 cancel requests are forwarded at once, more are dropped and counted', async (t) => {
  const { log, events } = memoryLog();
  let forwarded = 0;
  let finish = (): void => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let dropped = 0;
  const forward = async () => {
    forwarded++;
    await finished;
    return [{ host: 'db:5432', failure: undefined }];
  };
  const cancels = new Cancels(log, forward, () => dropped++);
  const signal = new AbortController().signal;
  const all = Array.from({ length: 40 }, () => cancels.forward(Buffer.alloc(16), 'client', signal));
  t.equal(forwarded, 32);
  finish();
  await Promise.all(all);
  t.match(
    events().filter(({ event }) => event === 'cancel_dropped'),
    [{ count: 1 }],
  );
  t.equal(dropped, 8, 'each for the metrics');
  await cancels.forward(Buffer.alloc(16), 'client', signal);
  t.equal(forwarded, 33, 'room again');
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
    const gate = new NativeGate(2, 20);
    const { signal } = new AbortController();
    const dropped: string[] = [];
    const first = await gate.enter(() => dropped.push('first'), signal);
    const second = await gate.enter(() => {
      dropped.push('second');
      second.leave();
    }, signal);
    first.keep();
    const third = await gate.enter(() => dropped.push('third'), signal);
    t.strictSame(dropped, ['second'], 'the first one has answered');
    const waiting = gate.enter(() => undefined, signal);
    first.leave();
    first.leave();
    const fourth = await waiting;
    fourth.leave();
    third.leave();
    second.leave();
    t.strictSame(dropped, ['second']);
  },
);

t.test('a native login that is given up in line takes no place', async (t) => {
  const gate = new NativeGate(1, 60_000);
  const holder = await gate.enter(() => undefined, new AbortController().signal);
  const abort = new AbortController();
  const waiting = gate.enter(() => undefined, abort.signal);
  abort.abort(new Error('gone'));
  await t.rejects(waiting, { message: 'gone' });
  holder.leave();
  const next = await gate.enter(() => undefined, new AbortController().signal);
  next.leave();
});
