/** Files of certificates in PEM: what is read, and what is refused as damaged. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { formatPemCertificate, readCertificates } from '../../src/lib/pem.ts';
import { makeAuthority } from '../support/certificates.ts';

const one = makeAuthority('one');
const two = makeAuthority('two');
const directory = t.testdir();

function read(text: string): Promise<string[]> {
  const path = join(directory, 'certificates.pem');
  writeFileSync(path, text);
  return readCertificates('sslrootcert', path).then((found) => found.map(String));
}

t.test('the certificates of a file are read in its order, without the text between', async (t) => {
  t.same(await read(one.cert), [one.cert]);
  t.same(await read(`one\n${one.cert}\ntwo\n${two.key}${two.cert}`), [one.cert, two.cert]);
  t.same(await read(one.cert.replaceAll('\n', '\r\n')), [one.cert]);
});

t.test('a certificate is written as OpenSSL writes it', async (t) => {
  const [certificate] = await readCertificates('x', join(t.testdir({ x: one.cert }), 'x'));
  t.equal(formatPemCertificate(certificate?.raw ?? Buffer.alloc(0)), certificate?.toString());
});

t.test('a file without a certificate, or with a damaged one, is refused', async (t) => {
  const half = two.cert.slice(0, two.cert.length / 2);
  for (const [name, text, message] of [
    ['nothing', '', /sslrootcert .*it holds no certificate in PEM form/],
    ['a key alone', one.key, /it holds no certificate in PEM form/],
    ['cut in half', one.cert + half, /sslrootcert/],
    ['the first one cut', half + one.cert, /sslrootcert/],
    ['no base64', one.cert.replace(/\n[^\n]{20}/, '\n!'), /sslrootcert/],
    ['no content', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n', /sslrootcert/],
  ] as const)
    await t.rejects(read(text), { sqlstate: 'F0000', message }, name);
  await t.rejects(readCertificates('sslcert', join(directory, 'nowhere')), { message: /ENOENT/ });
});
