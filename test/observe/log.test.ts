/** What strangers can make the log write, and what happens when nobody reads it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { PgError } from '../../src/lib/errors.ts';
import { Audit } from '../../src/observe/audit.ts';
import { createLog } from '../../src/observe/log.ts';
import { LogStream } from '../../src/observe/log-stream.ts';
import { Metrics } from '../../src/observe/metrics.ts';

type Event = Partial<
  Readonly<Record<'event' | 'user' | 'nested' | 'msg' | 'stack' | 'error' | 'endless', unknown>>
> & { readonly count?: number };

function memoryLog() {
  const lines: string[] = [];
  const log = createLog('json', 'debug', { write: (line) => lines.push(line) });
  return { log, lines, events: (): Event[] => lines.map((line) => JSON.parse(line)) };
}

function refusal(text = ''): PgError {
  const what = `invalid value for option "crdb:jwt_auth_enabled": "${text}"`;
  return new PgError({ code: 'invalid_option_value', message: what, detail: what, reason: what });
}

t.test('a field of control characters is escaped and cut at 1,024 characters', async (t) => {
  const { log, lines, events } = memoryLog();
  const hostile = '\u0001'.repeat(9900);
  log.info({ event: 'login', user: hostile, nested: { keys: [hostile] } }, hostile);
  const [event = {}] = events();
  t.equal(event.user, '\\x01'.repeat(256));
  t.strictSame(event.nested, { keys: ['\\x01'.repeat(256)] });
  t.equal(event.msg, '\\x01'.repeat(256));
  t.ok((lines[0]?.length ?? 0) < 5000);
});

t.test('a list of 1,000 key ids of an issuer does not become a line of 900 kB', async (t) => {
  const { log, lines, events } = memoryLog();
  log.info({ event: 'keys', added: Array.from({ length: 1000 }, () => 'k'.repeat(900)) }, 'keys');
  t.ok((lines[0]?.length ?? 0) < 20_000);
  const { added } = events()[0] as { added: string[] };
  t.equal(added.length, 17);
  t.equal(added[16], '… 1000 in all');
});

t.test('a stack keeps its lines, and objects in objects end somewhere', async (t) => {
  const { log, events } = memoryLog();
  const endless: { again?: unknown } = {};
  endless.again = endless;
  const error = new Error(`a\u0001${'\nb'.repeat(100)}`);
  log.error({ stack: error.stack, error, endless, none: null, count: 3 }, 'bug');
  const [event = {}] = events();
  const [first, second, ...more] = String(event.stack).split('\n');
  t.strictSame([first, second, more.length], ['Error: a\\x01', 'b', 14]);
  t.match(event.error, { message: /^a\\x01/, stack: /\n/ });
  t.match(JSON.stringify(event.endless), '…');
  t.match(event, { none: null, count: 3 });
});

t.test('equal refusals of one address are summed up: ten lines a second and a count', async (t) => {
  const { log, events } = memoryLog();
  const audit = new Audit(log, new Metrics(0));
  for (let session = 0; session < 429; session++)
    audit.refused({ session, client: `192.0.2.7:${session}` }, refusal(), 1);
  t.equal(events().length, 10);
  t.match(events()[0], { outcome: 'refused', session: 0, client: '192.0.2.7:0', reason: /crdb/ });
  audit.refused({ session: 1, client: '192.0.2.8:9' }, refusal(), 1);
  audit.refused({ session: 1, client: '192.0.2.7:9' }, new Error('bug'), 1);
  t.equal(events().length, 12, 'another address and another code are not concerned');
  audit.close();
  t.match(events()[12], {
    event: 'login',
    outcome: 'refused',
    code: 'invalid_option_value',
    client: '192.0.2.7',
    count: 419,
    level: 'info',
  });
  t.equal(events().length, 13, 'what was written in full is not told again');
});

t.test('clients of one IPv6 network and clients that leave are summed up too', async (t) => {
  const { log, events } = memoryLog();
  const metrics = new Metrics(0);
  const audit = new Audit(log, metrics);
  for (let host = 1; host <= 100; host++) {
    audit.abandoned({ session: 1, client: `2001:db8:0:1::${host}:5000` }, 'left');
    audit.refused({ session: 1, client: `2001:db8:0:1::${host}:5000` }, refusal(), 1);
  }
  t.equal(events().length, 20);
  audit.close();
  const client = '2001:0db8:0000:0001::/64';
  t.match(events().slice(20), [
    { outcome: 'abandoned', client, count: 90, level: 'debug' },
    { outcome: 'refused', client, count: 90, level: 'info' },
  ]);
  t.equal((await metrics.figures()).refused.get('invalid_option_value'), 100, 'metrics count each');
});

t.test('the sum is written when the second is over', async (t) => {
  const { log, events } = memoryLog();
  const timers: (() => void)[] = [];
  t.intercept(globalThis, 'setTimeout', {
    value: (call: () => void) => ({ unref: () => timers.push(call) }),
  });
  const audit = new Audit(log, new Metrics(0));
  const refuse = () => audit.refused({ session: 1, client: '192.0.2.7:1' }, refusal(), 1);
  for (let i = 0; i < 12; i++) refuse();
  t.equal(timers.length, 1);
  timers[0]?.();
  t.match(events()[10], { count: 2 });
  refuse();
  t.equal(events().length, 12, 'a new second begins with lines in full');
});

t.test('refusals of a million addresses take bounded memory, and none is lost', async (t) => {
  const { log, events } = memoryLog();
  const audit = new Audit(log, new Metrics(0));
  for (let host = 0; host < 20_000; host++)
    audit.refused({ session: 1, client: `10.${host >> 8}.${host & 255}.1:5000` }, refusal(), 1);
  audit.close();
  const sums = events().filter(({ count }) => count !== undefined);
  t.match(sums, [{ client: 'other addresses', count: 20_000 - 4096 - 10 }]);
  t.equal(events().length, 4096 + 10 + 1);
});

t.test('a log that nobody reads is dropped in order, and counted', async (t) => {
  const { pipe, written, read } = slowPipe();
  const stream = new LogStream(pipe, (count) => stream.write(`${count} dropped\n`), 20_100);
  const line = (number: number) => `${number} ${'x'.repeat(997)}\n`;
  for (let number = 0; number < 50; number++) stream.write(line(number));
  t.ok(pipe.writableLength <= 20_100);
  for (let reads = 0; reads < 20; reads++) {
    read();
    await new Promise(setImmediate);
  }
  stream.write('next\n');
  stream.flush();
  read();
  const lines = written.join('').trim().split('\n');
  const numbers = lines.map((text) => text.split(' ', 1)[0]);
  t.strictSame(
    numbers.slice(0, 20),
    Array.from({ length: 20 }, (_, number) => String(number)),
  );
  t.strictSame(lines.slice(20), ['30 dropped', 'next']);
});

t.test('each line of the log cost a system call of its own', async (t) => {
  const { pipe, written, read } = slowPipe();
  const timers: (() => void)[] = [];
  t.intercept(globalThis, 'setTimeout', {
    value: (call: () => void) => ({ unref: () => timers.push(call) }),
  });
  const stream = new LogStream(pipe, () => undefined);
  for (let number = 0; number < 10; number++) stream.write(`${number} ${'é'.repeat(500)}\n`);
  t.equal(written.length, 1, 'the second write waits for the reader, and the rest for the timer');
  timers.at(-1)?.();
  for (let reads = 0; reads < 3; reads++) read();
  t.strictSame(
    written.map((text) => Buffer.byteLength(text)),
    [4 * 1003, 4 * 1003, 2 * 1003],
    'a write is no longer than what a pipe takes as a whole',
  );
  const numbers = written.join('').match(/^\d/gm);
  t.equal(numbers?.join(''), '0123456789', 'in order');
});

/** A stream that takes a write at a time, when `read` is called for the one before. */
function slowPipe() {
  const written: string[] = [];
  let done: (() => void) | undefined;
  const pipe = new Writable({
    decodeStrings: false,
    write(lines: string, _encoding, next) {
      written.push(lines);
      done = next;
    },
  });
  const read = (): void => {
    const next = done;
    done = undefined;
    next?.();
  };
  return { pipe, written, read };
}

t.test('lines that were collected were lost when the process ended', async (t) => {
  const ends = {
    'throw new Error("crash")': { status: 1, behind: 'Error: crash' },
    'process.exit(3)': { status: 3, behind: '' },
    'log.flush(() => process.exit(4))': { status: 4, behind: '' },
    'process.exitCode = 5': { status: 5, behind: '' },
  };
  for (const [end, { status, behind }] of Object.entries(ends)) {
    const child = logIn(`
      for (let number = 0; number < 20; number++) log.info({ number }, 'x'.repeat(400));
      setImmediate(() => { ${end} });
    `);
    let text = '';
    child.stderr.setEncoding('utf8').on('data', (read: string) => {
      text += read;
    });
    const [code] = await once(child, 'close');
    const numbers = [...text.matchAll(/^{.*"number":(\d+)/gm)].map(([, number]) => Number(number));
    t.strictSame([code, numbers], [status, Array.from({ length: 20 }, (_, number) => number)], end);
    t.ok(text.indexOf(behind) > text.lastIndexOf('"number"') || behind === '', `${end}: in order`);
  }
});

t.test('a process whose log was closed ends all the same', async (t) => {
  const child = logIn(`
    process.stdin.once('data', () => {
      for (let number = 0; number < 50; number++) log.info({ number }, 'x'.repeat(400));
      process.exit(6);
    });
  `);
  child.stderr.destroy();
  child.stdin.end('go\n');
  const [code] = await once(child, 'exit');
  t.equal(code, 6);
});

/** Runs a script in a process of its own, with a `log` that writes to stderr. */
function logIn(script: string) {
  const source = `
    import { createLog } from '${new URL('../../src/observe/log.js', import.meta.url)}';
    const log = createLog('json', 'info');
    ${script}
  `;
  return spawn(process.execPath, ['--input-type=module', '-e', source], {
    cwd: fileURLToPath(new URL('.', import.meta.url)),
  });
}

t.test('a stalled reader of stderr does not make memory grow', async (t) => {
  const child = logIn(`
    const text = 'x'.repeat(900);
    for (let round = 0; round < 100; round++) {
      for (let line = 0; line < 1000; line++) log.info({ round, line, text }, 'flood');
      await new Promise(setImmediate);
    }
    console.log(process.stderr.writableLength);
    process.stdin.once('data', () => log.info({ event: 'last' }, 'read again'));
    process.stdin.once('end', () => undefined);
  `);
  t.teardown(() => child.kill('SIGKILL'));
  const [held] = (await once(child.stdout, 'data')) as [Buffer];
  t.ok(Number(held) > 0, 'the pipe is full');
  t.ok(Number(held) <= 4 * 1024 * 1024, `100 MB were logged, ${Number(held)} bytes are held`);
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text;
    if (log.includes('"log_dropped"')) child.stdin.end('go\n');
  });
  await once(child, 'close');
  const events: Event[] = log
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const floods = events.filter(({ msg }) => msg === 'flood').length;
  const [dropped, last] = events.slice(-2);
  t.match(dropped, { event: 'log_dropped', count: 100_000 - floods, level: 'warn' });
  t.match(last, { event: 'last' });
});
