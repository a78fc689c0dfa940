/**
 * A backend that only sends, as a process of its own: after the greeting it answers a query
 * `BULK <n>` with n CopyData messages of 8 kB. Tells its parent the port.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { formatMessage } from '../src/wire/messages.ts';
import { commandComplete, readyForQuery } from '../src/wire/query-messages.ts';
import { MESSAGE_BYTES, startStubBackend } from './stub-backend.ts';

const MESSAGES_AT_ONCE = 32;

const message = formatMessage('d', Buffer.alloc(MESSAGE_BYTES - 5, 'x'));
const chunk = Buffer.concat(Array.from({ length: MESSAGES_AT_ONCE }, () => message));
const end = Buffer.concat([commandComplete('COPY'), readyForQuery('I')]);

const { port } = await startStubBackend((socket) => {
  socket.on('data', (bytes) => {
    const [, count] = /BULK (\d+)/.exec(bytes.toString('latin1')) ?? [];
    if (count !== undefined) void send(Number(count));
  });
  const send = async (count: number): Promise<void> => {
    for (let sent = 0; sent < count && !socket.destroyed; sent += MESSAGES_AT_ONCE) {
      if (socket.write(chunk)) continue;
      await new Promise<void>((resolve) => {
        socket.once('drain', resolve).once('close', resolve);
      });
    }
    socket.write(end);
  };
});
process.send?.(port);
process.once('disconnect', () => process.exit());
await sleep(2 ** 31 - 1);
