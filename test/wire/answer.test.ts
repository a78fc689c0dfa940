/** The client's answer to a request for a password, and what is not one. */

import t from 'tap';
import { readAnswer } from '../../src/wire/channel.ts';
import { PASSWORD_BODY_LIMIT } from '../../src/wire/constants.ts';
import { formatMessage } from '../../src/wire/messages.ts';
import { formatStartup } from '../../src/wire/startup.ts';
import { connectClient } from '../backend/fake-backend.ts';

const signal = new AbortController().signal;

t.test('a second startup packet in place of the password is refused at once', async (t) => {
  const startup = formatStartup(0x30000, [{ name: 'user', value: Buffer.from('alice') }]);
  const others: [string, Buffer, number][] = [
    // Its first five bytes are those of a message with a length of 9 kB and more.
    ['a whole startup packet', startup, 0],
    ['its first byte', startup.subarray(0, 1), 0],
    ['a query', Buffer.from('Q'), 0x51],
  ];
  for (const [name, bytes, type] of others) {
    const { client, frontEnd } = await connectClient();
    await client.send(bytes);
    await t.rejects(
      readAnswer(frontEnd, PASSWORD_BODY_LIMIT, signal),
      {
        code: 'unexpected_message',
        sqlstate: '08P01',
        message: `expected password response, got message type ${type}`,
      },
      name,
    );
    client.channel.destroy();
    frontEnd.destroy();
  }
});

t.test('a password is read, and a client that leaves is noticed', async (t) => {
  const answers: [string, Buffer | undefined, string | undefined][] = [
    ['a password', formatMessage('p', Buffer.from('hush\0')), 'hush\0'],
    ['Terminate', formatMessage('X'), undefined],
    ['Terminate without its length', Buffer.from('X'), undefined],
    ['the end of the connection', undefined, undefined],
  ];
  for (const [name, bytes, expected] of answers) {
    const { client, frontEnd } = await connectClient();
    if (bytes) await client.send(bytes);
    else client.channel.socket.end();
    const answer = await readAnswer(frontEnd, PASSWORD_BODY_LIMIT, signal);
    t.equal(answer?.toString(), expected, name);
    client.channel.destroy();
    frontEnd.destroy();
  }
});
