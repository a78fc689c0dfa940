/** Backends of several hosts, and connections opened ahead, with hosts that follow a script. */

import { once } from 'node:events';
import { createSecureContext } from 'node:tls';
import type { Test } from 'tap';
import t from 'tap';
import { type ConnectOptions, connectAs } from '../../src/backend/connect.ts';
import type { BackendSession } from '../../src/backend/connection.ts';
import { trust } from '../../src/backend/credentials.ts';
import { logInNatively } from '../../src/backend/native-login.ts';
import { OpenedAhead } from '../../src/backend/opened-ahead.ts';
import { BackendTarget } from '../../src/backend/target.ts';
import { parseBackendUrl } from '../../src/backend/url-parser.ts';
import { formatMessage } from '../../src/wire/messages.ts';
import {
  authentication,
  backendError,
  connectClient,
  type FakeBackend,
  greeting,
  type Peer,
  parameterStatus,
  startFake,
} from './fake-backend.ts';

const signal = new AbortController().signal;
const parameters = [{ name: 'user', value: Buffer.from('alice') }];
const authenticationOk = authentication(0);

type Answer = readonly Buffer[] | 'close';

const role = (standby: 'on' | 'off', readOnly: 'on' | 'off'): readonly Buffer[] => [
  authenticationOk,
  parameterStatus('in_hot_standby', standby),
  parameterStatus('default_transaction_read_only', readOnly),
  greeting,
];
const primary = role('off', 'off');
const standby = role('on', 'off');

/** A host. Its answer to a startup packet can be changed. */
interface Host extends FakeBackend {
  answer: Answer;
  /** The number of startup packets so far. */
  startups: number;
  /** The number of connections so far. */
  dials: number;
  /** The number of connections that wait for a startup packet now. */
  readonly waiting: Set<Peer>;
}

async function startHost(t: Test, answer: Answer): Promise<Host> {
  const host = { answer, startups: 0, dials: 0, waiting: new Set<Peer>() };
  const backend = await startFake(async (peer) => {
    host.dials++;
    host.waiting.add(peer);
    try {
      await peer.packet();
    } finally {
      host.waiting.delete(peer);
    }
    host.startups++;
    if (host.answer === 'close') return;
    await peer.send(...host.answer);
    await peer.closed();
  });
  t.teardown(() => backend.close());
  return Object.assign(host, backend);
}

async function openHosts(
  hosts: readonly FakeBackend[],
  query = '',
  now?: () => number,
): Promise<BackendTarget> {
  const list = hosts.map(({ port }) => `127.0.0.1:${port}`).join();
  return BackendTarget.open(
    parseBackendUrl(`postgres://${list}/?sslmode=disable${query}`, 'flag'),
    now,
  );
}

const login = (
  target: BackendTarget,
  more: Partial<ConnectOptions> = {},
): Promise<BackendSession> =>
  connectAs({ target, credentials: trust, parameters, signal, ...more });

/** Logs in and leaves. Returns the index of the host. */
async function goesTo(target: BackendTarget, more?: Partial<ConnectOptions>): Promise<number> {
  const session = await login(target, more);
  session.channel.destroy();
  return target.url.hosts.indexOf(session.address);
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition() && tries < 2000; tries++)
    await new Promise((resolve) => setTimeout(resolve, 5));
  if (!condition()) throw new Error(`not within the time: ${condition}`);
}

t.test('a host that failed is tried last for 30 seconds', async (t) => {
  const [first, second] = [await startHost(t, 'close'), await startHost(t, primary)];
  let now = 0;
  const target = await openHosts([first, second], '', () => now);
  t.equal(await goesTo(target), 1);
  t.equal(first.startups, 1);
  first.answer = primary;
  now = 29_999;
  t.equal(await goesTo(target), 1);
  t.equal(first.startups, 1, 'not tried again');
  now = 30_000;
  t.equal(await goesTo(target), 0);

  second.answer = 'close';
  first.answer = 'close';
  await t.rejects(login(target), {
    sqlstate: '08001',
    message: 'could not connect to the backend',
  });
  first.answer = primary;
  t.equal(await goesTo(target), 0, 'with all marked, all are tried');
  first.answer = 'close';
  second.answer = primary;
  t.equal(await goesTo(target), 1, 'a host that came back is not marked any more');
});

t.test(
  'an error about the host leads to the next host, an error about the login does not',
  async (t) => {
    const cases: [string, Answer, number | string][] = [
      ['starting up', [backendError({ C: '57P03', M: 'the database system is starting up' })], 1],
      ['a lost connection', 'close', 1],
      [
        'no such database',
        [backendError({ C: '3D000', M: 'database "x" does not exist' })],
        '3D000',
      ],
      ['too many connections', [backendError({ C: '53300', M: 'too many' })], '53300'],
      ['a wrong password', [backendError({ C: '28P01', M: 'no' })], '28000'],
      ['a broken protocol', [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')], '08P01'],
    ];
    for (const [name, answer, expected] of cases) {
      const [first, second] = [await startHost(t, answer), await startHost(t, primary)];
      const target = await openHosts([first, second]);
      const outcome = await goesTo(target).catch((error) => error.sqlstate);
      t.equal(outcome, expected, name);
      t.equal(second.startups, typeof expected === 'number' ? 1 : 0, name);
    }
  },
);

t.test(
  'if all hosts are down, the log has each reason and the client the number of hosts',
  async (t) => {
    const gone = await startFake(async () => undefined);
    await gone.close();
    const [starting, silent] = [
      await startHost(t, [backendError({ C: '57P03', M: 'the database system is starting up' })]),
      await startHost(t, []),
    ];
    const target = await openHosts([gone, starting, silent], '&connect_timeout=1');
    const error = await login(target).catch((error) => error);
    t.match(error, {
      sqlstate: '08001',
      message: 'could not connect to the backend',
      detail: 'None of its 3 hosts can be used.',
    });
    t.match(
      error.reason,
      new RegExp(
        '^127\\.0\\.0\\.1:\\d+: connect ECONNREFUSED.*; 127.*starting up; ' +
          '127.*: no login within the connect timeout$',
      ),
    );
    t.notMatch(`${error.message}${error.detail}${error.hint}`, /127\.0/);
    const alone = await openHosts([starting]);
    await t.rejects(login(alone), {
      sqlstate: '57P03',
      message: 'the database system is starting up',
    });
  },
);

t.test('target_session_attrs chooses the host', async (t) => {
  const [p, s, r, old] = [
    await startHost(t, primary),
    await startHost(t, standby),
    await startHost(t, role('off', 'on')),
    await startHost(t, [authenticationOk, greeting]),
  ];
  const cases: [string, Host[], number | undefined][] = [
    ['any', [s, p], 0],
    ['read-write', [s, r, p], 2],
    ['read-only', [p, s], 1],
    ['read-only', [p, r], 1],
    ['primary', [s, r, p], 1],
    ['standby', [p, r, s], 2],
    ['prefer-standby', [p, s], 1],
    ['prefer-standby', [p, r], 0],
    ['standby', [p, r], undefined],
    ['read-write', [s, r], undefined],
    ['primary', [old], undefined],
  ];
  for (const [attribute, hosts, expected] of cases) {
    const target = await openHosts(hosts, `&target_session_attrs=${attribute}`);
    const outcome = await goesTo(target).catch((error) => error);
    if (expected !== undefined) t.equal(outcome, expected, attribute);
    else
      t.match(
        outcome,
        { sqlstate: '08001', reason: new RegExp(`target_session_attrs is ${attribute}`) },
        attribute,
      );
  }
  const target = await openHosts([s, p], '&target_session_attrs=primary');
  await goesTo(target);
  const startups = s.startups;
  await goesTo(target);
  t.equal(s.startups, startups, 'the next login goes to the primary at once');
  for (const host of [p, s, r, old]) await until(() => host.waiting.size === 0);
});

t.test('load_balance_hosts=random uses all hosts but one that failed', async (t) => {
  const hosts = [
    await startHost(t, primary),
    await startHost(t, primary),
    await startHost(t, primary),
  ];
  const target = await openHosts(hosts, '&load_balance_hosts=random');
  const seen = new Set<number>();
  // A host is missed with a probability of (2/3)^100.
  for (let i = 0; i < 100; i++) seen.add(await goesTo(target));
  t.same([...seen].sort(), [0, 1, 2]);
  if (hosts[1]) hosts[1].answer = 'close';
  for (let i = 0; i < 100; i++) t.not(await goesTo(target), 1);
});

t.test('a native login tries another host only as long as the client was not asked', async (t) => {
  const asking = authentication(3);
  const second = await startHost(t, [authentication(3)]);
  for (const [name, answer] of [
    ['before', 'close'],
    ['after', [asking]],
  ] as const) {
    const first = await startHost(t, answer);
    const before = second.startups;
    const { client, frontEnd } = await connectClient();
    const target = await openHosts([first, second]);
    const attempt = logInNatively({
      target,
      parameters,
      client: frontEnd,
      clientTls: false,
      answered: () => undefined,
      signal,
    });
    attempt.catch(() => undefined);
    t.same((await client.receive()).bytes, asking, name);
    t.equal(second.startups - before, name === 'before' ? 1 : 0, name);
    if (name === 'after') {
      await first.close();
      await client.send(formatMessage('p', Buffer.from('secret\0')));
      await t.rejects(attempt, { sqlstate: '08006', message: /ended the connection/ });
      t.equal(second.startups, before);
    }
    client.channel.destroy();
    await attempt.catch(() => undefined);
    frontEnd.destroy();
  }
});

/** Connections opened ahead, when all of them are open. */
async function openAhead(
  t: Test,
  target: BackendTarget,
  size: number,
  context = () => target.secureContext,
): Promise<OpenedAhead> {
  const ahead = new OpenedAhead(target, size, context);
  t.teardown(() => ahead.close());
  ahead.start();
  return ahead;
}

t.test('a login takes a connection that was opened ahead, and another is opened', async (t) => {
  const host = await startHost(t, primary);
  const target = await openHosts([host]);
  const ahead = await openAhead(t, target, 3);
  await until(() => host.waiting.size === 3);
  t.equal(host.startups, 0, 'nothing is sent on them');
  for (let i = 1; i <= 5; i++) {
    t.equal(await goesTo(target, { ahead }), 0);
    await until(() => host.waiting.size === 3);
    t.equal(host.dials, 3 + i, 'no more than those that were taken');
    t.equal(ahead.size, 3);
  }
});

t.test(
  'a connection is only used for its TLS identity and host, and none is opened after close',
  async (t) => {
    const [first, second] = [await startHost(t, primary), await startHost(t, primary)];
    const target = await openHosts([first, second]);
    let context = target.secureContext;
    const ahead = await openAhead(t, target, 2, () => context);
    await until(() => first.waiting.size === 2);
    const [one, other] = target.url.hosts;
    if (!one || !other) throw new Error('there are two hosts');
    t.equal(ahead.take(one, createSecureContext()), undefined, 'another identity');
    t.equal(ahead.take(other, context), undefined, 'another host');

    context = createSecureContext();
    ahead.renew();
    t.equal(ahead.take(one, context), undefined, 'the old identity is no longer used');
    await until(() => first.waiting.size === 2 && first.dials === 4);
    const waiting = ahead.take(one, context);
    t.ok(waiting, 'and replaced');
    waiting?.channel.destroy();

    ahead.close();
    await until(() => first.waiting.size === 0);
    const { dials } = first;
    ahead.renew();
    t.equal(ahead.size, 0);
    t.equal(await goesTo(target, { ahead }), 0, 'logins go on');
    t.equal(first.dials, dials + 1);
  },
);

t.test(
  'a connection that the backend closes or sends on is replaced, and a login on it is repeated',
  async (t) => {
    const host = await startHost(t, primary);
    const target = await openHosts([host]);
    const ahead = await openAhead(t, target, 1);
    await until(() => host.waiting.size === 1);
    const closeAll = (): void => {
      for (const peer of host.waiting) peer.channel.destroy();
    };
    closeAll();
    await until(() => host.waiting.size === 1 && host.dials === 2);
    for (const peer of host.waiting) await peer.send(Buffer.from('E'));
    await until(() => host.waiting.size === 1 && host.dials === 3);
    t.equal(host.startups, 0);

    // The connection is closed, but the front-end has not read that when the login takes it.
    const ended = [...host.waiting].map((peer) => once(peer.channel.socket, 'close'));
    closeAll();
    const outcome = goesTo(target, { ahead });
    await Promise.all(ended);
    t.equal(await outcome, 0);
  },
);

t.test(
  'with hosts in random order, a login goes to a host with a connection that waits',
  async (t) => {
    const hosts = [await startHost(t, primary), await startHost(t, primary)];
    const target = await openHosts(hosts, '&load_balance_hosts=random');
    const ahead = await openAhead(t, target, 2);
    for (let i = 0; i < 20; i++) {
      await until(() => ahead.host(target.secureContext) !== undefined);
      const waiting = ahead.host(target.secureContext);
      const session = await login(target, { ahead });
      t.equal(session.address, waiting);
      session.channel.destroy();
    }
  },
);

t.test('a host that is down is dialled with growing pauses', async (t) => {
  const gone = await startFake(async () => undefined);
  await gone.close();
  const ahead = await openAhead(t, await openHosts([gone]), 2);
  await until(() => ahead.size === 0);
  t.equal(ahead.size, 0);
});
