/**
 * A backend that costs nothing: it lets everybody in, greets as PostgreSQL does, and answers any
 * query with one row. It runs in the bench's own process, so that what is measured of the
 * front-end's process is the front-end's alone.
 */

import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { authenticationOk, formatMessage } from '../src/wire/messages.ts';

const text = (value: string): Buffer => Buffer.from(`${value}\0`);
const parameters = {
  is_superuser: 'off',
  server_version: '18.0',
  client_encoding: 'UTF8',
  server_encoding: 'UTF8',
  DateStyle: 'ISO, MDY',
};
const greeting = Buffer.concat([
  authenticationOk(),
  ...Object.entries(parameters).map(([name, value]) => formatMessage('S', text(name), text(value))),
  formatMessage('K', Buffer.alloc(8)),
  formatMessage('Z', Buffer.from('I')),
]);

/** Starts the stub on a free port of the loopback address. */
export async function startStubBackend(): Promise<{ port: number; server: Server }> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.once('data', () => socket.write(greeting));
    socket.on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  return { port: address.port, server };
}
