/** The metrics server under connections that say nothing. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { Metrics } from '../../src/observe/metrics.ts';
import { MetricsServer } from '../../src/observe/metrics-server.ts';

async function open(t: Test): Promise<number> {
  const server = await MetricsServer.open(
    { host: '127.0.0.1', port: 0 },
    new Metrics(0),
    () => undefined,
  );
  t.teardown(() => server.close());
  return server.address.port;
}

/** Connects from an address of this host. Returns the connection and what it has received. */
async function dial(t: Test, port: number, localAddress: string) {
  const socket = connect({ host: '127.0.0.1', port, localAddress });
  t.teardown(() => socket.destroy());
  socket.on('error', () => undefined);
  let received = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    received += text;
  });
  await once(socket, 'connect');
  return { socket, received: () => received };
}

async function probe(t: Test, port: number, path: string, from: string): Promise<string> {
  const { socket, received } = await dial(t, port, from);
  socket.write(`GET ${path} HTTP/1.1\r\nhost: probe\r\n\r\n`);
  await once(socket, 'close');
  return received().slice(0, 'HTTP/1.1 200'.length);
}

async function dialMany(t: Test, port: number, from: string, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  // A hundred at once: the system's queue of unaccepted connections is bounded too.
  while (sockets.length < count) {
    const dials = Array.from({ length: 100 }, () => dial(t, port, from));
    sockets.push(...(await Promise.all(dials)).map(({ socket }) => socket));
  }
  return sockets;
}

t.test('1,000 silent connections to the metrics port do not reset /readyz', async (t) => {
  const port = await open(t);
  const silent = await dialMany(t, port, '127.0.0.1', 1000);
  for (const from of ['127.0.0.2', '127.0.0.1'])
    for (const path of ['/readyz', '/healthz', '/metrics'])
      t.equal(await probe(t, port, path, from), 'HTTP/1.1 200', `${path} from ${from}`);
  const isOpen = ({ readyState }: Socket): boolean => readyState === 'open';
  t.ok(silent.filter(isOpen).length <= 64, 'the oldest ones are closed');
});

t.test('a silent probe of another address is not closed for a flood of one address', async (t) => {
  const port = await open(t);
  const slow = await dial(t, port, '127.0.0.2');
  await dialMany(t, port, '127.0.0.1', 200);
  slow.socket.write('GET /readyz HTTP/1.1\r\nhost: probe\r\n\r\n');
  await once(slow.socket, 'close');
  t.match(slow.received(), /^HTTP\/1\.1 200/);
});

t.test('a connection answers one request and is closed', async (t) => {
  const port = await open(t);
  const { socket, received } = await dial(t, port, '127.0.0.1');
  socket.write('POST /readyz HTTP/1.1\r\nhost: probe\r\ncontent-length: 0\r\n\r\n');
  await once(socket, 'close');
  t.match(received(), /^HTTP\/1\.1 405 .*connection: close/is);
});

t.test('a silent connection is closed after 5 seconds', async (t) => {
  const port = await open(t);
  const { socket } = await dial(t, port, '127.0.0.1');
  const started = performance.now();
  socket.write('GET /readyz HTTP/1.1\r\n');
  await once(socket, 'close');
  t.ok(performance.now() - started < 15_000);
});
