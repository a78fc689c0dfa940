/**
 * Certificate authorities in PEM. The reference is content when one block of a bundle parses; here
 * every block has to, so that a bundle cut in half is found when it is set and not when an identity
 * provider renews its certificate.
 */

import { X509Certificate } from 'node:crypto';
import { PgError } from '../lib/errors.ts';

const BEGIN = '-----BEGIN CERTIFICATE-----';
const END = '-----END CERTIFICATE-----';
const ANY_BEGIN = '-----BEGIN ';

/**
 * A bundle of certificates in PEM; text between the blocks is allowed, as openssl writes it. The
 * empty text is no bundle.
 *
 * @returns the text as given
 * @throws PgError 22023, which says nothing about the text: it is a sensitive setting
 */
export function parseCertificates(text: string): string {
  if (text !== '' && !holdsCertificatesOnly(text)) {
    throw new PgError({
      code: 'invalid_setting_value',
      message: 'JWT authentication issuer custom CA certificate not valid',
    });
  }
  return text;
}

function holdsCertificatesOnly(text: string): boolean {
  let begin = text.indexOf(ANY_BEGIN);
  if (begin === -1) return false;
  while (begin !== -1) {
    const end = text.indexOf(END, begin);
    if (
      !text.startsWith(BEGIN, begin) ||
      end === -1 ||
      !isCertificate(text.slice(begin, end + END.length))
    )
      return false;
    begin = text.indexOf(ANY_BEGIN, end);
  }
  return true;
}

function isCertificate(block: string): boolean {
  try {
    return new X509Certificate(block).raw.length > 0;
  } catch {
    // OpenSSL's reason would repeat parts of the value; that it does not parse is all there is to
    // say.
    return false;
  }
}
