/**
 * A backend that costs nothing: it accepts every login, sends a greeting like that of PostgreSQL
 * and answers nothing else. It runs in the process of the benchmark, so that the figures of the
 * front-end's process are of the front-end alone.
 */

import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { authenticationOk } from '../src/wire/messages.ts';
import { backendKeyData, parameterStatus, readyForQuery } from '../src/wire/query-messages.ts';

const parameters = {
  is_superuser: 'off',
  server_version: '18.0',
  client_encoding: 'UTF8',
  server_encoding: 'UTF8',
  DateStyle: 'ISO, MDY',
};
const greeting = Buffer.concat([
  authenticationOk(),
  ...Object.entries(parameters).map(([name, value]) => parameterStatus(name, value)),
  backendKeyData(0, Buffer.alloc(4)),
  readyForQuery('I'),
]);

/** The length of a message in which a stub sends bulk. */
export const MESSAGE_BYTES = 8192;

/**
 * Starts the stub on a free port of the loopback address.
 *
 * @param serve what it does with a connection after the greeting; default: nothing
 */
export async function startStubBackend(
  serve: (socket: Socket) => void = () => undefined,
): Promise<{ port: number; server: Server }> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.once('data', () => {
      socket.write(greeting);
      serve(socket);
    });
    socket.on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  return { port: address.port, server };
}
