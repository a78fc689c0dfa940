/** SCRAM against the example of its RFC, and against servers that break the protocol. */

import { createHash } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import t from 'tap';
import { endPointHash } from '../../src/backend/channel-binding.ts';
import { preparePassword, prove, ScramExchange } from '../../src/backend/scram.ts';

const nonce = 'rOprNGfwEbeRWgbNEkqO';
const password = Buffer.from('pencil');
const signal = new AbortController().signal;

t.test('the exchange of RFC 7677, section 3', async (t) => {
  const serverFirst =
    'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096';
  const exchange =
    `n=user,r=${nonce},${serverFirst},` +
    'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0';
  const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64');
  const { proof, serverSignature } = await prove(password, salt, 4096, Buffer.from(exchange));
  t.equal(proof.toString('base64'), 'dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=');
  t.equal(serverSignature.toString('base64'), '6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=');
});

t.test('the header says how the exchange is bound to TLS', async (t) => {
  const endPoint = Buffer.from('hash');
  const cases = [
    ['impossible', 'SCRAM-SHA-256', 'n,,', 'n,,'],
    ['not offered', 'SCRAM-SHA-256', 'y,,', 'y,,'],
    [
      { endPoint },
      'SCRAM-SHA-256-PLUS',
      'p=tls-server-end-point,,',
      'p=tls-server-end-point,,hash',
    ],
  ] as const;
  for (const [binding, mechanism, header, bound] of cases) {
    const exchange = new ScramExchange(password, binding, nonce);
    t.equal(exchange.mechanism, mechanism);
    t.equal(exchange.first().toString(), `${header}n=,r=${nonce}`);
    const final = await exchange.final(Buffer.from(`r=${nonce}x,s=c2FsdA==,i=1`), 'host', signal);
    t.match(final.toString(), `c=${Buffer.from(bound).toString('base64')},r=${nonce}x,p=`);
  }
});

t.test('a server that breaks the protocol is refused before a proof is made', async (t) => {
  const cases: [string, string, RegExp][] = [
    ['another nonce', 'r=xyz,s=c2FsdA==,i=4096', /did not continue the nonce/],
    ['the nonce of the client alone', `r=${nonce},s=c2FsdA==,i=4096`, /did not continue the nonce/],
    ['too many iterations', `r=${nonce}x,s=c2FsdA==,i=100001`, /100001 iterations/],
    ['absurdly many', `r=${nonce}x,s=c2FsdA==,i=9999999999`, /iterations/],
    ['more digits than that', `r=${nonce}x,s=c2FsdA==,i=99999999999`, /malformed/],
    ['no iteration', `r=${nonce}x,s=c2FsdA==,i=0`, /malformed/],
    ['a negative count', `r=${nonce}x,s=c2FsdA==,i=-1`, /malformed/],
    ['a salt that is no base64', `r=${nonce}x,s=c2FsdA,i=4096`, /malformed/],
    ['no salt', `r=${nonce}x,s=,i=4096`, /malformed/],
    ['a mandatory extension', `m=x,r=${nonce}x,s=c2FsdA==,i=4096`, /malformed/],
    ['nothing', '', /malformed/],
  ];
  for (const [name, serverFirst, message] of cases) {
    await t.rejects(
      new ScramExchange(password, 'impossible', nonce).final(
        Buffer.from(serverFirst),
        'host',
        signal,
      ),
      { message },
      name,
    );
  }
});

t.test('a server has to prove that it knows the password', async (t) => {
  const exchange = new ScramExchange(password, 'impossible', nonce);
  t.throws(
    () => exchange.verify(Buffer.from('v=')),
    { message: /did not prove/ },
    'before the exchange',
  );
  await exchange.final(Buffer.from(`r=${nonce}x,s=c2FsdA==,i=4096`), 'host', signal);
  for (const final of [
    '',
    'v=',
    'v=AAAA',
    `v=${Buffer.alloc(32).toString('base64')}`,
    'e=invalid-proof',
  ]) {
    t.throws(
      () => exchange.verify(Buffer.from(final)),
      { message: /did not prove/ },
      JSON.stringify(final),
    );
  }
});

t.test('nonces are not repeated and have no comma', (t) => {
  const nonces = Array.from({ length: 100 }, () =>
    new ScramExchange(password, 'impossible').first().toString().slice(8),
  );
  t.equal(new Set(nonces).size, 100);
  t.ok(nonces.every((text) => /^[^,]{24}$/.test(text)));
  t.end();
});

t.test('a password is prepared if possible, and otherwise unchanged', (t) => {
  const cases: [string, Buffer | string, Buffer | string][] = [
    ['ASCII', 'pencil', 'pencil'],
    ['an ASCII control character', 'a\x07', 'a\x07'],
    ['compatibility characters are folded', 'Ⅸ', 'IX'],
    ['a non-breaking space is a space', 'a\u00a0b', 'a b'],
    ['a soft hyphen is nothing', 'I\u00adX', 'IX'],
    ['nothing but soft hyphens', '\u00ad', '\u00ad'],
    ['a prohibited character', 'é\u0007', 'é\u0007'],
    ['right-to-left text with a digit behind', '\u0627\u0031', '\u0627\u0031'],
    ['no UTF-8', Buffer.from([0x70, 0xff]), Buffer.from([0x70, 0xff])],
    ['a byte order mark is not dropped unseen', '\ufeffé', 'é'],
    ['as long as a message may be', 'é'.repeat(32_767), 'é'.repeat(32_767)],
  ];
  for (const [name, raw, prepared] of cases) {
    t.same(preparePassword(Buffer.from(raw)), Buffer.from(prepared), name);
  }
  t.end();
});

t.test('the certificate is hashed with the hash function of its signature', (t) => {
  const der = (tag: number, ...parts: Buffer[]): Buffer => {
    const content = Buffer.concat(parts);
    const length =
      content.length < 0x80 ? [content.length] : [0x82, content.length >> 8, content.length & 0xff];
    return Buffer.concat([Buffer.from([tag, ...length]), content]);
  };
  const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'));
  const certificate = (...algorithm: Buffer[]): Buffer =>
    der(0x30, der(0x30, Buffer.alloc(300)), der(0x30, ...algorithm), der(0x03, Buffer.alloc(64)));
  const pss = oid('2a864886f70d01010a');
  const sha384 = der(0x30, oid('608648016503040202'));
  const cases: [string, Buffer, string | undefined][] = [
    ['MD5 is replaced', certificate(oid('2a864886f70d010104')), 'sha256'],
    ['SHA-1 is replaced', certificate(oid('2a864886f70d010105')), 'sha256'],
    ['RSA with SHA-512', certificate(oid('2a864886f70d01010d'), der(0x05)), 'sha512'],
    ['ECDSA with SHA-384', certificate(oid('2a8648ce3d040303')), 'sha384'],
    [
      'RSA-PSS by its parameters',
      certificate(pss, der(0x30, der(0xa0, sha384), der(0xa1, sha384))),
      'sha384',
    ],
    ['RSA-PSS by default', certificate(pss, der(0x30)), 'sha256'],
    ['RSA-PSS without parameters', certificate(pss), undefined],
    ['Ed25519', certificate(oid('2b6570')), undefined],
    ['no certificate', Buffer.from('no certificate'), undefined],
    ['nothing', Buffer.alloc(0), undefined],
  ];
  for (const [name, bytes, hash] of cases) {
    t.same(endPointHash(bytes), hash && createHash(hash).update(bytes).digest(), name);
  }
  const whole = certificate(pss, der(0x30, der(0xa0, sha384)));
  const cuts = Array.from(whole, (_, length) => endPointHash(whole.subarray(0, length)));
  t.strictSame(new Set(cuts), new Set([undefined]), 'cut at any byte');
  t.end();
});

t.test('a password that would be slow to normalise is not normalised', async (t) => {
  const slow = Buffer.from('\u0345'.repeat(16_000) + '\u0334'.repeat(16_000));
  t.equal(preparePassword(slow), slow);
});

t.test('a backend that asks for many iterations does not fill the thread pool', async (t) => {
  const serverFirst = Buffer.from(`r=${nonce}x,s=c2FsdA==,i=100000`);
  const order: string[] = [];
  const derive = async (host: string): Promise<void> => {
    await new ScramExchange(password, 'impossible', nonce).final(serverFirst, host, signal);
    order.push(host);
  };
  const derivations = Array.from({ length: 8 }, () => derive('bad'));
  const good = derive('good');
  // A name is looked up in a thread of the pool.
  await lookup('localhost');
  t.strictSame(order, [], 'a name resolves while the pool derives keys');
  await Promise.all([...derivations, good]);
  t.ok(order.indexOf('good') < 5, `hosts take turns: ${order}`);
});

t.test('a login that waits for a thread ends with its signal', async (t) => {
  const serverFirst = Buffer.from(`r=${nonce}x,s=c2FsdA==,i=100000`);
  const abort = new AbortController();
  const derive = (within: AbortSignal): Promise<string> =>
    new ScramExchange(password, 'impossible', nonce).final(serverFirst, 'host', within);
  const others = [derive(signal), derive(signal)];
  const waiting = derive(abort.signal);
  abort.abort(new Error('the client left'));
  await t.rejects(waiting, { message: 'the client left' });
  await Promise.all(others);
});
