/**
 * The codec against another implementation, pg-protocol: it parses what the front-end writes to
 * clients, and formats, as a client, what the front-end parses.
 */

import fc from 'fast-check';
import { serialize } from 'pg-protocol';
import { Parser } from 'pg-protocol/dist/parser.js';
import t from 'tap';
import { PgError } from '../../src/lib/errors.ts';
import { Framer, type Message } from '../../src/wire/framer.ts';
import {
  addHint,
  authenticationCleartextPassword,
  authenticationOk,
  errorResponse,
  formatMessage,
  noticeResponse,
  parseErrorFields,
  parseParameterStatus,
  parsePassword,
} from '../../src/wire/messages.ts';
import {
  backendKeyData,
  bindComplete,
  closeComplete,
  commandComplete,
  dataRow,
  emptyQueryResponse,
  noData,
  parameterDescription,
  parameterStatus,
  parseBind,
  parseComplete,
  parseExecute,
  parseParse,
  parseQuery,
  parseTarget,
  portalSuspended,
  readyForQuery,
  rowDescription,
} from '../../src/wire/query-messages.ts';
import { parseFirstPacket } from '../../src/wire/startup.ts';

const written: [string, Buffer, object][] = [
  ['AuthenticationOk', authenticationOk(), { name: 'authenticationOk' }],
  [
    'AuthenticationCleartextPassword',
    authenticationCleartextPassword(),
    { name: 'authenticationCleartextPassword' },
  ],
  [
    'ErrorResponse',
    errorResponse(
      new PgError({
        code: 'missing_user',
        message: 'm\u00e9',
        detail: 'd',
        hint: 'h',
        position: 7,
      }),
    ),
    {
      name: 'error',
      severity: 'FATAL',
      code: '28000',
      message: 'm\u00e9',
      detail: 'd',
      hint: 'h',
      position: '7',
    },
  ],
  [
    'ErrorResponse of a query, with as few fields as possible',
    errorResponse(new PgError({ code: 'malformed_message', message: 'm' }), 'ERROR'),
    { name: 'error', severity: 'ERROR', code: '08P01', message: 'm', detail: undefined },
  ],
  [
    'NoticeResponse',
    noticeResponse('WARNING', 'look out'),
    { name: 'notice', severity: 'WARNING', code: '01000', message: 'look out' },
  ],
  [
    'ParameterStatus',
    parameterStatus('TimeZone', 'Europe/Z\u00fcrich'),
    {
      name: 'parameterStatus',
      parameterName: 'TimeZone',
      parameterValue: 'Europe/Z\u00fcrich',
    },
  ],
  [
    'BackendKeyData',
    backendKeyData(0x12345678, Buffer.from([1, 2, 3, 4])),
    { name: 'backendKeyData', processID: 0x12345678, secretKey: 0x01020304 },
  ],
  ['ReadyForQuery', readyForQuery('E'), { name: 'readyForQuery', status: 'E' }],
  [
    'RowDescription',
    rowDescription([
      { name: 'a', oid: 25, size: -1, format: 0 },
      { name: '\u00fc', oid: 20, size: 8, format: 1 },
    ]),
    {
      name: 'rowDescription',
      fieldCount: 2,
      fields: [
        {
          name: 'a',
          tableID: 0,
          columnID: 0,
          dataTypeID: 25,
          dataTypeSize: -1,
          dataTypeModifier: -1,
          format: 'text',
        },
        { name: '\u00fc', dataTypeID: 20, dataTypeSize: 8, format: 'binary' },
      ],
    },
  ],
  ['RowDescription without a column', rowDescription([]), { fieldCount: 0 }],
  [
    'ParameterDescription',
    parameterDescription([25, 0xffff_ffff]),
    { name: 'parameterDescription', parameterCount: 2, dataTypeIDs: [25, 0xffff_ffff] },
  ],
  [
    'DataRow',
    dataRow([Buffer.from('\u00e9'), undefined, Buffer.alloc(0)]),
    { name: 'dataRow', fieldCount: 3, fields: ['\u00e9', null, ''] },
  ],
  ['CommandComplete', commandComplete('SHOW'), { name: 'commandComplete', text: 'SHOW' }],
  ['EmptyQueryResponse', emptyQueryResponse, { name: 'emptyQuery' }],
  ['ParseComplete', parseComplete, { name: 'parseComplete' }],
  ['BindComplete', bindComplete, { name: 'bindComplete' }],
  ['CloseComplete', closeComplete, { name: 'closeComplete' }],
  ['NoData', noData, { name: 'noData' }],
  ['PortalSuspended', portalSuspended, { name: 'portalSuspended' }],
];

t.test('pg-protocol reads every message as it was meant, split at any byte', async (t) => {
  for (const [name, bytes, expected] of written) {
    const read: object[][] = [];
    for (let cut = 0; cut <= bytes.length; cut++) {
      const messages: object[] = [];
      const parser = new Parser();
      for (const chunk of [bytes.subarray(0, cut), bytes.subarray(cut)])
        parser.parse(Buffer.from(chunk), (message) => messages.push(message));
      read.push(messages);
    }
    t.ok(
      read.every(({ length }) => length === 1),
      `${name}: one message`,
    );
    t.match(
      read,
      read.map(() => [expected]),
      name,
    );
  }
});

t.test('pg-protocol reads all messages in one stream', async (t) => {
  const messages: object[] = [];
  const stream = Buffer.concat(written.map(([, bytes]) => bytes));
  new Parser().parse(stream, (message) => messages.push(message));
  t.match(
    messages,
    written.map(([, , expected]) => expected),
  );
});

const received: [string, Buffer, string, (body: Buffer) => unknown, unknown][] = [
  ['Query', serialize.query("SELECT '\u00e9'"), 'Q', parseQuery, Buffer.from("SELECT '\u00e9'")],
  ['an empty Query', serialize.query(''), 'Q', parseQuery, Buffer.alloc(0)],
  [
    'Parse',
    serialize.parse({ name: 's1', text: 'SELECT $1', types: [25, 20] }),
    'P',
    parseParse,
    { name: 's1', query: Buffer.from('SELECT $1'), types: [25, 20] },
  ],
  [
    'Parse without a name or types',
    serialize.parse({ text: 'SELECT 1' }),
    'P',
    parseParse,
    { name: '', query: Buffer.from('SELECT 1'), types: [] },
  ],
  [
    'Bind',
    serialize.bind({
      portal: 'p1',
      statement: 's1',
      values: ['\u00e9', null, Buffer.from([0, 255]), ''],
      binary: true,
    }),
    'B',
    parseBind,
    {
      portal: 'p1',
      statement: 's1',
      formats: [0, 0, 1, 0],
      values: [Buffer.from('\u00e9'), undefined, Buffer.from([0, 255]), Buffer.alloc(0)],
      resultFormats: [1],
    },
  ],
  [
    'Bind without values',
    serialize.bind(),
    'B',
    parseBind,
    { portal: '', statement: '', formats: [], values: [], resultFormats: [0] },
  ],
  [
    'Describe of a statement',
    serialize.describe({ type: 'S', name: 's1' }),
    'D',
    parseTarget,
    { kind: 'statement', name: 's1' },
  ],
  [
    'Describe of the unnamed portal',
    serialize.describe({ type: 'P' }),
    'D',
    parseTarget,
    { kind: 'portal', name: '' },
  ],
  [
    'Execute',
    serialize.execute({ portal: 'p1', rows: 10 }),
    'E',
    parseExecute,
    { portal: 'p1', maxRows: 10 },
  ],
  ['Execute for all rows', serialize.execute(), 'E', parseExecute, { portal: '', maxRows: 0 }],
  [
    'Close',
    serialize.close({ type: 'P', name: 'p1' }),
    'C',
    parseTarget,
    { kind: 'portal', name: 'p1' },
  ],
  [
    'PasswordMessage',
    serialize.password('h.p\u00e9.s'),
    'p',
    parsePassword,
    Buffer.from('h.p\u00e9.s'),
  ],
];

t.test('what pg-protocol sends as a client is understood, split at any byte', async (t) => {
  for (const [name, bytes, type, parse, expected] of received) {
    const read: unknown[] = [];
    for (let cut = 0; cut <= bytes.length; cut++) {
      const framer = new Framer();
      framer.push(Buffer.from(bytes.subarray(0, cut)));
      const early: Message | undefined = framer.message(1000);
      framer.push(Buffer.from(bytes.subarray(cut)));
      const message = early ?? framer.message(1000);
      read.push([
        String.fromCharCode(message?.type ?? 0),
        parse(message?.body ?? Buffer.alloc(0)),
        framer.length,
      ]);
    }
    t.strictSame(
      read,
      read.map(() => [type, expected, 0]),
      name,
    );
  }
});

t.test('a body that is cut, or has a byte too many, is refused', async (t) => {
  for (const [name, bytes, , parse] of received) {
    const body = bytes.subarray(5);
    for (const broken of [body.subarray(0, -1), Buffer.concat([body, Buffer.from('x')])])
      t.throws(() => parse(broken), { name: 'PgError', sqlstate: '08P01' }, name);
  }
});

t.test('the first packets of pg-protocol are understood', async (t) => {
  t.strictSame(parseFirstPacket(serialize.requestSsl().subarray(4)), { kind: 'ssl' });
  const cancel = serialize.cancel(7, 42);
  t.strictSame(parseFirstPacket(cancel.subarray(4)), { kind: 'cancel', packet: cancel });
  const { parameters, ...packet } = parseFirstPacket(
    serialize.startup({ user: 'alice', database: 'caf\u00e9' }).subarray(4),
  ) as Extract<ReturnType<typeof parseFirstPacket>, { kind: 'startup' }>;
  t.strictSame(packet, { kind: 'startup', version: 0x30000 });
  t.strictSame(
    parameters.map(({ name, value }) => [name, value.toString()]),
    [
      ['user', 'alice'],
      ['database', 'caf\u00e9'],
      ['client_encoding', 'UTF8'],
    ],
  );
});

t.test('the report of a parameter holds its bytes as UTF-8, an empty value too', async (t) => {
  for (const [name, value] of [
    ['TimeZone', 'CET'],
    ['search_path', ''],
    ['n\u00e4me', 'v\u00e4lue'],
  ] as const)
    t.strictSame(parseParameterStatus(parameterStatus(name, value).subarray(5)), { name, value });
});

t.test('error fields of any shape are read to the end of the last whole one', async (t) => {
  const cases: [string, string, object][] = [
    ['all', 'SFATAL\0C28000\0Mm\0Ra\0\0', { severity: 'FATAL', code: '28000', routine: 'a' }],
    ['none', '\0', { severity: undefined, code: undefined, message: '' }],
    ['an empty body', '', { code: undefined, message: '' }],
    ['no end of the list', 'C28000\0Mm\0', { code: '28000', message: 'm' }],
    ['a field without an end', 'C28000\0Mm', { code: '28000', message: '' }],
    ['nothing but a field without an end', 'Mm', { message: '' }],
    ['a repeated field', 'Ma\0Mb\0\0', { message: 'b' }],
    ['an empty field', 'M\0\0', { message: '' }],
    ['unknown fields', 'Zx\0\xff\0Mm\0\0', { message: 'm' }],
    ['bytes behind the end', 'Mm\0\0Mx\0\0', { message: 'm' }],
  ];
  for (const [name, body, expected] of cases)
    t.match(parseErrorFields(Buffer.from(body, 'latin1')), expected, name);
});

t.test('a hint is added to an ErrorResponse of any shape', async (t) => {
  const cases: [string, string, object][] = [
    ['one without', 'SFATAL\0C28P01\0Mm\0Ra\0\0', { code: '28P01', routine: 'a', hint: 'new' }],
    ['its own comes first', 'Hown\0Mm\0\0', { message: 'm', hint: 'own new' }],
    ['no end of the list', 'Mm\0', { message: 'm', hint: 'new' }],
    ['a field without an end', 'Mm\0Dd', { message: 'm', detail: undefined, hint: 'new' }],
    ['an empty body', '', { hint: 'new' }],
  ];
  const found = cases.map(([, body]) =>
    parseErrorFields(addHint(formatMessage('E', Buffer.from(body)), 'new').subarray(5)),
  );
  t.match(
    found,
    cases.map(([, , expected]) => expected),
  );
});

t.test('any bytes as error fields come to an end, and whole fields are found', async () => {
  const letters = fc.constantFrom(0, 0, 0x43, 0x44, 0x48, 0x4d, 0x52, 0x53, 0x61, 0xff);
  fc.assert(
    fc.property(fc.array(letters, { maxLength: 60 }), (bytes) => {
      const body = Buffer.from(bytes);
      const expected = new Map<string, string>();
      for (let at = 0; at < body.length && body[at] !== 0; ) {
        const end = body.indexOf(0, at);
        if (end < 0) break;
        expected.set(body.toString('latin1', at, at + 1), body.toString('utf8', at + 1, end));
        at = end + 1;
      }
      const { severity, code, message, detail, hint, routine } = parseErrorFields(body);
      return (
        severity === expected.get('S') &&
        code === expected.get('C') &&
        message === (expected.get('M') ?? '') &&
        detail === expected.get('D') &&
        hint === expected.get('H') &&
        routine === expected.get('R')
      );
    }),
    { numRuns: 2000 },
  );
});
