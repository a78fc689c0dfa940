/** The messages of OAUTHBEARER, as PostgreSQL 18 takes and refuses them. */
import fc from 'fast-check';
import t from 'tap';
import { PgError } from '../../src/lib/errors.ts';
import {
  bearerToken,
  checkFailureResponse,
  parseBearerMessage,
  parseInitialResponse,
} from '../../src/wire/oauthbearer.ts';

/** What a parser returns, or the text of its refusal: SQLSTATE, message, detail. */
function outcomeOf(parse: () => unknown): unknown {
  try {
    const found = parse();
    return found instanceof Buffer ? found.toString('latin1') : found;
  } catch (error) {
    if (!(error instanceof PgError)) throw error;
    return [error.sqlstate, error.message, error.detail].filter((text) => text !== undefined);
  }
}

const malformed = (detail: string): string[] => ['08P01', 'malformed OAUTHBEARER message', detail];

t.test('the first message is read as the server of PostgreSQL 18 reads it', async (t) => {
  const rows: readonly [message: string, outcome: unknown][] = [
    // Taken.
    ['n,,\x01auth=Bearer abc\x01\x01', 'Bearer abc'],
    ['y,,\x01auth=Bearer abc\x01\x01', 'Bearer abc'],
    ['n,,\x01auth=\x01\x01', ''],
    ['n,,\x01host=db.example\x01port=5432\x01auth=bearer a=\x01x=\x01\x01', 'bearer a='],
    ['n,,\x01auth=a=b=c\x01\x01', 'a=b=c'],
    ['n,,\x01AUTH=x\x01auth=y\x01\x01', 'y'],
    ['n,,\x01auth= \t\r\n~!\x01\x01', ' \t\r\n~!'],
    // The message itself.
    ['', malformed('The message is empty.')],
    ['n,,\x01auth=\0\x01\x01', malformed('Message length does not match input length.')],
    // The header of GS2.
    [
      'p=tls-unique,,\x01auth=\x01\x01',
      malformed(
        'The server does not support channel binding for OAuth, but the client message includes ' +
          'channel binding data.',
      ),
    ],
    ['x,,\x01auth=\x01\x01', malformed('Unexpected channel-binding flag "\'x\'".')],
    ['\x01auth=\x01\x01', malformed('Unexpected channel-binding flag "0x01".')],
    ['n', malformed('Comma expected, but found character "0x00".')],
    ['n;,\x01auth=\x01\x01', malformed('Comma expected, but found character "\';\'".')],
    [
      'n,a=bob,\x01auth=\x01\x01',
      ['0A000', 'client uses authorization identity, but it is not supported'],
    ],
    [
      'n,b=bob,\x01auth=\x01\x01',
      malformed('Unexpected attribute "\'b\'" in client-first-message.'),
    ],
    ['n,', malformed('Unexpected attribute "0x00" in client-first-message.')],
    ['n,,auth=\x01\x01', malformed('Key-value separator expected, but found character "\'a\'".')],
    ['n,,', malformed('Key-value separator expected, but found character "0x00".')],
    ['n,,\xff', malformed('Key-value separator expected, but found character "0xff".')],
    // Keys and values.
    ['n,,\x01', malformed('Message did not contain a final terminator.')],
    ['n,,\x01auth=Bearer x\x01', malformed('Message did not contain a final terminator.')],
    ['n,,\x01auth=Bearer x', malformed('Message contains an unterminated key/value pair.')],
    ['n,,\x01\x01', malformed('Message does not contain an auth value.')],
    ['n,,\x01host=x\x01\x01', malformed('Message does not contain an auth value.')],
    ['n,,\x01auth\x01\x01', malformed('Message contains a key without a value.')],
    ['n,,\x01auth\x01host=x\x01\x01', malformed('Message contains a key without a value.')],
    ['n,,\x01=x\x01\x01', malformed('Message contains an empty key name.')],
    ['n,,\x01au th=x\x01\x01', malformed('Message contains an invalid key name.')],
    ['n,,\x01auth1=x\x01\x01', malformed('Message contains an invalid key name.')],
    ['n,,\x01auth=\x7f\x01\x01', malformed('Message contains an invalid value.')],
    ['n,,\x01host=\xe9\x01auth=\x01\x01', malformed('Message contains an invalid value.')],
    ['n,,\x01auth=x\x01auth=y\x01\x01', malformed('Message contains multiple auth values.')],
    [
      'n,,\x01auth=x\x01\x01more',
      malformed('Message contains additional data after the final terminator.'),
    ],
  ];
  t.strictSame(
    rows.map(([message]) => [
      message,
      outcomeOf(() => parseBearerMessage(Buffer.from(message, 'latin1'))),
    ]),
    rows,
  );
});

t.test('a bearer token has its own characters, and its scheme any case of letters', async (t) => {
  const rows: readonly [auth: string, token: string | undefined][] = [
    ['Bearer abc', 'abc'],
    ['bearer abc', 'abc'],
    ['BEARER    aA0-._~+/==', 'aA0-._~+/=='],
    ['Bearer', undefined],
    ['Bearer ', undefined],
    ['Bearer\tabc', undefined],
    [' Bearer abc', undefined],
    ['Bearer abc ', undefined],
    ['Bearer a b', undefined],
    ['Bearer a=b', undefined],
    ['Bearer =', undefined],
    ['Bearer a,b', undefined],
    ['Bearer a\n', undefined],
    ['Basic abc', undefined],
    ['abc', undefined],
  ];
  t.strictSame(
    rows.map(([auth]) => [auth, bearerToken(auth)]),
    rows,
  );
});

t.test('the message that chooses the mechanism is read to its end', async (t) => {
  const int = (value: number): string => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32BE(value);
    return bytes.toString('latin1');
  };
  const chosen = 'OAUTHBEARER\0';
  const rows: readonly [body: string, outcome: unknown][] = [
    [`${chosen}${int(3)}n,,`, 'n,,'],
    [`${chosen}${int(0)}`, ''],
    [`${chosen}${int(-1)}`, undefined],
    [`${chosen}${int(-1)}x`, ['08P01', 'invalid message format']],
    [`${chosen}${int(-2)}x`, ['08P01', 'invalid message format']],
    [`${chosen}${int(2)}n,,`, ['08P01', 'invalid message format']],
    [`${chosen}${int(4)}n,,`, ['08P01', 'insufficient data left in message']],
    [`${chosen}${int(0x7fffffff)}`, ['08P01', 'insufficient data left in message']],
    [chosen, ['08P01', 'insufficient data left in message']],
    ['OAUTHBEARER', ['08P01', 'invalid string in message']],
    ['', ['08P01', 'invalid string in message']],
    [
      `SCRAM-SHA-256\0${int(0)}`,
      ['08P01', 'client selected an invalid SASL authentication mechanism'],
    ],
    [
      `oauthbearer\0${int(0)}`,
      ['08P01', 'client selected an invalid SASL authentication mechanism'],
    ],
  ];
  t.strictSame(
    rows.map(([body]) => [
      body,
      outcomeOf(() => parseInitialResponse(Buffer.from(body, 'latin1'))),
    ]),
    rows,
  );
});

t.test('the answer to a failure is one separator', async (t) => {
  const wrong = malformed('Client did not send a kvsep response.');
  const rows: readonly [string, unknown][] = [
    ['\x01', undefined],
    ['', malformed('The message is empty.')],
    ['\x01\x01', wrong],
    ['\x01\0', wrong],
    ['n,,\x01auth=\x01\x01', wrong],
  ];
  t.strictSame(
    rows.map(([message]) => [
      message,
      outcomeOf(() => checkFailureResponse(Buffer.from(message, 'latin1'))),
    ]),
    rows,
  );
});

t.test('whatever is taken is what a client formats', async () => {
  const token = fc.stringMatching(/^[\w.~+/-]+=*$/);
  const other = fc.tuple(fc.stringMatching(/^[a-zA-Z]{1,5}$/), fc.stringMatching(/^[ -~]*$/));
  fc.assert(
    fc.property(token, fc.array(other), (text, others) => {
      const pairs = others
        .filter(([key]) => key !== 'auth')
        .map(([key, value]) => `${key}=${value}\x01`);
      const message = `n,,\x01${pairs.join('')}auth=Bearer ${text}\x01\x01`;
      return bearerToken(parseBearerMessage(Buffer.from(message, 'latin1'))) === text;
    }),
  );
});
