/** Frames split at every byte, limits, first packets, and the layouts of messages. */

import fc from 'fast-check';
import { serialize } from 'pg-protocol';
import t from 'tap';
import { PgError } from '../../src/lib/errors.ts';
import { Framer } from '../../src/wire/framer.ts';
import {
  authenticationCleartextPassword,
  authenticationOk,
  errorResponse,
  formatMessage,
  negotiateProtocolVersion,
  parseAuthentication,
  parseErrorFields,
  parseParameterStatus,
  parsePassword,
} from '../../src/wire/messages.ts';
import { formatStartup, parseFirstPacket, type StartupPacket } from '../../src/wire/startup.ts';

const sslRequest = serialize.requestSsl();

function code(sqlstate: string): { name: string; sqlstate: string } {
  return { name: 'PgError', sqlstate };
}

function startup(parameters: Record<string, string>, version = 0x30000): Buffer {
  return formatStartup(
    version,
    Object.entries(parameters).map(([name, value]) => ({ name, value: Buffer.from(value) })),
  );
}

t.test('a message split at any byte comes out whole, and the bytes behind it stay', async (t) => {
  const first = formatMessage('p', Buffer.from('token\0'));
  const second = formatMessage('Q', Buffer.from('SELECT 1\0'));
  const stream = Buffer.concat([first, second, Buffer.from('tail')]);
  for (let cut = 0; cut <= stream.length; cut++) {
    const framer = new Framer();
    const got: Buffer[] = [];
    for (const chunk of [stream.subarray(0, cut), stream.subarray(cut)]) {
      framer.push(Buffer.from(chunk));
      for (let message = framer.message(100); message && got.length < 2; ) {
        got.push(message.bytes);
        message = got.length < 2 ? framer.message(100) : undefined;
      }
    }
    t.strictSame(got, [first, second], `cut at ${cut}`);
    t.equal(framer.rest().toString(), 'tail');
  }
});

t.test('a startup packet split at any byte comes out whole', async (t) => {
  const packet = startup({ user: 'alice', options: '-c geqo=off' });
  for (let cut = 0; cut <= packet.length; cut++) {
    const framer = new Framer();
    framer.push(packet.subarray(0, cut));
    const early = framer.startupBody();
    framer.push(packet.subarray(cut));
    t.strictSame(early ?? framer.startupBody(), packet.subarray(4), `cut at ${cut}`);
  }
});

t.test('any frames in any chunks come out as they went in', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
      (bodies, sizes) => {
        const messages = bodies.map((body) => formatMessage('d', Buffer.from(body)));
        const stream = Buffer.concat(messages);
        const framer = new Framer();
        const got: Buffer[] = [];
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const size = sizes[turn % sizes.length] ?? 1;
          framer.push(Buffer.from(stream.subarray(at, at + size)));
          at += size;
          for (let message = framer.message(300); message; message = framer.message(300))
            got.push(message.bytes);
        }
        return (
          framer.length === 0 && Buffer.concat(got).equals(stream) && got.length === messages.length
        );
      },
    ),
  );
});

t.test('a frame that was handed out does not change when more bytes are pushed', async (t) => {
  const framer = new Framer();
  framer.push(formatMessage('p', Buffer.from('abc')).subarray(0, 3));
  framer.push(formatMessage('p', Buffer.from('abc')).subarray(3));
  const message = framer.message(10);
  for (let i = 0; i < 50; i++) framer.push(Buffer.from('zzzzzzzz'));
  t.equal(message?.body.toString(), 'abc');
});

t.test(
  'a length above the limit or below 4 is refused before a byte of the body has come',
  async (t) => {
    for (const [length, limit] of [
      [0, 10],
      [3, 10],
      [15, 10],
      [0xffffffff, 65_535],
    ] as const) {
      const framer = new Framer();
      const header = Buffer.from('p....');
      header.writeUInt32BE(length, 1);
      framer.push(header);
      t.throws(() => framer.message(limit), code('08P01'), `${length}`);
    }
    const atLimit = new Framer();
    atLimit.push(formatMessage('p', Buffer.alloc(10)));
    t.equal(atLimit.message(10)?.body.length, 10);
  },
);

t.test('a startup packet may have 10,000 bytes of body and not one more', async (t) => {
  const framer = new Framer();
  const header = Buffer.alloc(4);
  header.writeUInt32BE(10_004);
  framer.push(header);
  t.equal(framer.startupBody(), undefined, 'the rest is waited for');
  const tooLong = new Framer();
  header.writeUInt32BE(10_005);
  tooLong.push(Buffer.from(header));
  t.throws(() => tooLong.startupBody(), code('08P01'));
});

t.test('a first packet is recognised by its code', async (t) => {
  t.strictSame(parseFirstPacket(sslRequest.subarray(4)), { kind: 'ssl' });
  t.strictSame(parseFirstPacket(Buffer.from([0x04, 0xd2, 0x16, 0x30])), { kind: 'gss' });
  const cancel = Buffer.from([0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 7, 1, 2, 3, 4]);
  t.strictSame(parseFirstPacket(cancel), {
    kind: 'cancel',
    packet: Buffer.concat([Buffer.from([0, 0, 0, 16]), cancel]),
  });
  const packet = parseFirstPacket(
    startup({ user: 'alice', database: 'd\u00e9' }).subarray(4),
  ) as StartupPacket;
  t.match(packet, { kind: 'startup', version: 0x30000 });
  t.strictSame(
    packet.parameters.map(({ name, value }) => [name, value.toString()]),
    [
      ['user', 'alice'],
      ['database', 'd\u00e9'],
    ],
  );
});

t.test('cancel keys of 4 to 256 bytes are accepted, others are refused', async (t) => {
  const cancel = (key: number): Buffer =>
    Buffer.concat([Buffer.from([0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 7]), Buffer.alloc(key)]);
  t.match(parseFirstPacket(cancel(256)), { kind: 'cancel' });
  t.throws(() => parseFirstPacket(cancel(3)), code('08P01'));
  t.throws(() => parseFirstPacket(cancel(257)), code('08P01'));
});

t.test('malformed first packets are refused', async (t) => {
  const bodies: [string, Buffer, string][] = [
    ['too short for a code', Buffer.from([0, 3]), '08P01'],
    ['SSLRequest with a tail', Buffer.concat([sslRequest.subarray(4), Buffer.from('x')]), '08P01'],
    ['no terminator', Buffer.from('\0\x03\0\0user\0alice\0', 'latin1'), '08P01'],
    ['no terminator at all', Buffer.from('\0\x03\0\0', 'latin1'), '08P01'],
    ['bytes behind the terminator', Buffer.from('\0\x03\0\0user\0alice\0\0x', 'latin1'), '08P01'],
    ['a name without a value', Buffer.from('\0\x03\0\0user\0', 'latin1'), '08P01'],
    ['protocol 2', Buffer.from('\0\x02\0\0\0', 'latin1'), '0A000'],
    ['protocol 4', Buffer.from('\0\x04\0\0\0', 'latin1'), '0A000'],
  ];
  for (const [name, body, sqlstate] of bodies)
    t.throws(() => parseFirstPacket(body), code(sqlstate), name);
});

t.test('any first packet is parsed or refused, and formats back to the same bytes', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom(0x30000, 0x30002),
      (bytes, version) => {
        const body = Buffer.alloc(4 + bytes.length);
        body.writeUInt32BE(version);
        body.set(bytes, 4);
        try {
          const packet = parseFirstPacket(body);
          return (
            packet.kind === 'startup' &&
            formatStartup(packet.version, packet.parameters).subarray(4).equals(body)
          );
        } catch (error) {
          return error instanceof PgError && error.sqlstate === '08P01';
        }
      },
    ),
    { examples: [[Buffer.from('user\0a\0\0'), 0x30000]] },
  );
});

t.test('messages have the layout of the manual', async (t) => {
  t.equal(authenticationOk().toString('hex'), '520000000800000000');
  t.equal(authenticationCleartextPassword().toString('hex'), '520000000800000003');
  t.equal(
    negotiateProtocolVersion(0x30000, ['_pq_.x']).toString('hex'),
    `76000000130003000000000001${Buffer.from('_pq_.x\0').toString('hex')}`,
  );
});

t.test('an ErrorResponse has what the client may see and never the reason', async (t) => {
  const bytes = errorResponse(
    new PgError({
      code: 'missing_user',
      message: 'm\0m',
      detail: 'd',
      hint: 'h',
      position: 7,
      reason: 'secret',
    }),
  );
  t.equal(bytes.toString('latin1', 5), 'SFATAL\0VFATAL\0C28000\0Mmm\0Dd\0Hh\0P7\0\0');
  t.match(parseErrorFields(bytes.subarray(5)), {
    severity: 'FATAL',
    code: '28000',
    message: 'mm',
    detail: 'd',
    hint: 'h',
    position: '7',
  });
  t.notMatch(bytes.toString(), /secret/);
  t.equal(bytes.readUInt32BE(1), bytes.length - 1);
});

t.test('a password ends with the only NUL of its message', async (t) => {
  t.equal(parsePassword(Buffer.from('abc\0')).toString(), 'abc');
  t.equal(parsePassword(Buffer.from('\0')).length, 0);
  for (const body of ['', 'abc', 'a\0b\0', '\0x'])
    t.throws(() => parsePassword(Buffer.from(body)), code('08P01'), body);
});

t.test('a message of the backend that is too short is the fault of the backend', async (t) => {
  t.strictSame(parseAuthentication(Buffer.from([0, 0, 0, 5, 1])), {
    code: 5,
    data: Buffer.from([1]),
  });
  t.throws(() => parseAuthentication(Buffer.from([0])), {
    name: 'PgError',
    sqlstate: '08P01',
    fault: 'backend',
  });
  t.strictSame(parseParameterStatus(Buffer.from('a\0b\0')), { name: 'a', value: 'b' });
  for (const body of ['', 'a', 'a\0', 'a\0b', 'a\0b\0c']) {
    t.throws(
      () => parseParameterStatus(Buffer.from(body)),
      { name: 'PgError', sqlstate: '08P01', fault: 'backend' },
      body,
    );
  }
});

t.test(
  'a frame in pieces takes its own length of memory, and the rest does not hold it',
  async (t) => {
    const message = formatMessage('p', Buffer.alloc(65_000, 0x78));
    const framer = new Framer();
    for (let at = 0; at < message.length; at += 1000) {
      framer.push(Buffer.from(message.subarray(at, at + 1000)));
      const whole = framer.message(65_535);
      if (whole)
        t.ok(
          whole.bytes.buffer.byteLength < 70_000,
          `${whole.bytes.buffer.byteLength} bytes are held`,
        );
    }
    framer.push(Buffer.from('rest'));
    t.ok(framer.rest().buffer.byteLength < 20_000, 'a small buffer');
  },
);

t.test('a message above the limit is dropped as it arrives, split at every byte', async (t) => {
  const long = formatMessage('Q', Buffer.alloc(30, 1));
  const next = formatMessage('S');
  const stream = Buffer.concat([long, next]);
  for (let split = 0; split <= stream.length; split++) {
    const framer = new Framer();
    const messages: unknown[] = [];
    for (const chunk of [stream.subarray(0, split), stream.subarray(split)]) {
      framer.push(Buffer.from(chunk));
      for (let found = framer.message(20, 40); found; found = framer.message(20, 40))
        messages.push(found);
      t.ok(framer.length < 30);
    }
    const empty = Buffer.alloc(0);
    t.match(messages, [
      { type: 0x51, body: empty, bytes: empty, isDropped: true },
      { type: 0x53, body: empty, bytes: next },
    ]);
  }
  const framer = new Framer();
  framer.push(formatMessage('Q', Buffer.alloc(41)));
  t.throws(() => framer.message(20, 40), code('08P01'));
});

t.test('a startup packet with thousands of tiny parameters is refused', async (t) => {
  const packet = (count: number): Buffer =>
    Buffer.from(`\0\x03\0\0${'a\0\0'.repeat(count)}\0`, 'latin1');
  t.match(parseFirstPacket(packet(256)), { kind: 'startup' });
  t.throws(() => parseFirstPacket(packet(257)), {
    code: 'too_many_parameters',
    sqlstate: '08P01',
    message: 'too many parameters in startup packet',
  });
  t.throws(() => parseFirstPacket(packet(3300)), { code: 'too_many_parameters' });
});
