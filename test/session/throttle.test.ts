/** The throttle of refusals. */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import { parseNetworks } from '../../src/lib/network.ts';
import { Throttle, type ThrottleSettings } from '../../src/session/throttle.ts';

const settings: ThrottleSettings = {
  addressRefusals: 10,
  userRefusals: 60,
  window: 60_000,
  firstDelay: 500,
  longestDelay: 8000,
  exempt: [],
};

function clock(): { now: number; readonly throttle: Throttle } {
  const time = { now: 0 };
  return Object.assign(time, { throttle: new Throttle(() => time.now) });
}

/** As much of a socket as waiting looks at. */
function fakeSocket(): Socket {
  return Object.assign(new EventEmitter(), { destroyed: false }) as unknown as Socket;
}

t.test('ten refusals of an address are told at once, the next ones ever later', async (t) => {
  const { throttle } = clock();
  const delays = Array.from({ length: 17 }, () => throttle.delay('10.0.0.1', 'alice', settings));
  t.strictSame(delays.slice(0, 10), Array(10).fill(0));
  t.strictSame(delays.slice(10), [500, 1000, 2000, 4000, 8000, 8000, 8000]);
  t.equal(throttle.delay('10.0.0.2', 'bob', settings), 0, 'another address is not affected');
});

t.test('a minute without a refusal forgets those before', async (t) => {
  const state = clock();
  for (let i = 0; i < 11; i++) state.throttle.delay('10.0.0.1', undefined, settings);
  state.now += 66_000;
  t.equal(state.throttle.delay('10.0.0.1', undefined, settings), 0);
});

t.test('the addresses of one IPv6 network are one', async (t) => {
  const { throttle } = clock();
  for (let i = 0; i < 10; i++) throttle.delay(`2001:db8::${i + 1}`, undefined, settings);
  t.equal(throttle.delay('2001:db8::ffff', undefined, settings), 500);
});

t.test('refusals of one user count from all addresses, at a gentler pace', async (t) => {
  const { throttle } = clock();
  const delays = Array.from({ length: 61 }, (_, i) =>
    throttle.delay(`10.0.${i}.1`, 'alice', settings),
  );
  t.strictSame([...new Set(delays.slice(0, 60))], [0]);
  t.equal(delays[60], 500);
  t.equal(throttle.delay('10.1.0.1', 'bob', settings), 0);
});

t.test('exempt networks are never slowed down, and 0 switches it off', async (t) => {
  const { throttle } = clock();
  const exempt = { ...settings, exempt: parseNetworks('10.0.0.0/8') };
  for (let i = 0; i < 50; i++) t.equal(throttle.delay('10.0.0.1', 'alice', exempt), 0);
  const off = { ...settings, addressRefusals: 0, userRefusals: 0 };
  for (let i = 0; i < 50; i++) t.equal(throttle.delay('192.0.2.1', 'alice', off), 0);
});

t.test('what waits is bounded: the oldest of the address is told at once', async (t) => {
  const { throttle } = clock();
  const told: number[] = [];
  const waits = Array.from({ length: 25 }, (_, i) =>
    throttle.wait(60_000, fakeSocket(), '10.0.0.1').then(() => told.push(i)),
  );
  await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  t.strictSame(told, [0, 1, 2, 3, 4]);
  t.equal(throttle.waiting, 20);
  throttle.release();
  await Promise.all(waits);
  t.equal(throttle.waiting, 0);
});

t.test('a client that leaves is not waited for', async (t) => {
  const { throttle } = clock();
  const socket = fakeSocket();
  const waiting = throttle.wait(60_000, socket, '10.0.0.1');
  socket.emit('close');
  await waiting;
  t.equal(throttle.waiting, 0);
});
