/**
 * Certificate authorities in PEM. CockroachDB accepts a bundle if one of its blocks parses. Here
 * every block must parse, so that a truncated bundle is found when it is set, and not when an
 * identity provider renews its certificate.
 */

import { X509Certificate } from 'node:crypto';
import { invalidSetting } from './values.ts';

const BEGIN = '-----BEGIN CERTIFICATE-----';
const END = '-----END CERTIFICATE-----';
const ANY_BEGIN = '-----BEGIN ';

/**
 * Checks a bundle of certificates in PEM. Text between the blocks is allowed, as openssl writes it.
 * The empty text is allowed and means no bundle.
 *
 * @returns the text as given
 * @throws PgError 22023, which says nothing about the text: the setting is sensitive
 */
export function parseCertificates(text: string): string {
  try {
    if (text !== '') certificatesIn(text);
    return text;
  } catch {
    // The cause is left out, since OpenSSL's text would repeat parts of the value.
    throw invalidSetting('JWT authentication issuer custom CA certificate not valid');
  }
}

/**
 * The certificates of a PEM text, in its order.
 *
 * @throws Error if there is none, if a block is not a certificate, or if one does not parse
 */
function certificatesIn(text: string): X509Certificate[] {
  const certificates: X509Certificate[] = [];
  let begin = text.indexOf(ANY_BEGIN);
  while (begin !== -1) {
    const end = text.indexOf(END, begin);
    if (!text.startsWith(BEGIN, begin) || end === -1)
      throw new Error('a block is not a whole certificate');
    certificates.push(new X509Certificate(text.slice(begin, end + END.length)));
    begin = text.indexOf(ANY_BEGIN, end);
  }
  if (certificates.length === 0) throw new Error('it holds no certificate');
  return certificates;
}
