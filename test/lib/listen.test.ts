/** A server that listens, and a connection that it cannot accept. */
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import t from 'tap';
import { listen } from '../../src/lib/listen.ts';

const kinds = { net: () => createServer(), http: () => createHttpServer() };
for (const [kind, create] of Object.entries(kinds)) {
  t.test(`the second failed accept of a ${kind} server ended the process`, async (t) => {
    const server = create();
    const failures: unknown[] = [];
    await listen(server, { host: '127.0.0.1', port: 0 }, (error) => failures.push(error));
    t.teardown(() => server.close());
    // As net.Server does for a negative status of an accept.
    const errors = [new Error('accept EMFILE'), new Error('accept ENFILE')];
    for (const error of errors) server.emit('error', error);
    t.strictSame(failures, errors);
    t.equal(server.listening, true, 'and goes on');
  });
}

t.test('an address that is in use is told', async (t) => {
  const first = createServer().listen(0, '127.0.0.1');
  t.teardown(() => first.close());
  await once(first, 'listening');
  const { port } = first.address() as AddressInfo;
  const second = listen(createServer(), { host: '127.0.0.1', port }, () => undefined);
  await t.rejects(second, { code: 'EADDRINUSE' });
});
