/**
 * Certificates in PEM (RFC 7468). OpenSSL ignores what it cannot read in a file of several
 * certificates. Here a damaged one is an error, so that a file cut in half is found when it is
 * read and not when a connection fails.
 */

import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { unusableFile } from './files.ts';

const BEGIN = '-----BEGIN CERTIFICATE-----';
const END = '-----END CERTIFICATE-----';
const ANY_BEGIN = '-----BEGIN ';

/**
 * The certificates of a file, in its order.
 *
 * @param what names the file in errors, such as the option that it was given with
 * @throws PgError F0000 if the file cannot be read, holds no certificate, or holds a damaged one
 */
export async function readCertificates(what: string, path: string): Promise<X509Certificate[]> {
  try {
    return parsePemCertificates(await readFile(path, 'latin1'), 'ignore');
  } catch (error) {
    throw unusableFile(what, path, error);
  }
}

/** The PEM text of a certificate in DER form. */
export function formatPemCertificate(der: Buffer): string {
  const lines = der.toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n');
  return `${BEGIN}\n${lines}\n${END}\n`;
}

/**
 * The certificates of a text, in its order. Text between the blocks is ignored.
 *
 * @param others what to do about blocks that are no certificates, such as a private key
 * @throws Error if there is none, or for one that does not parse
 */
export function parsePemCertificates(text: string, others: 'ignore' | 'refuse'): X509Certificate[] {
  const certificates: X509Certificate[] = [];
  if (others === 'refuse' && text.split(ANY_BEGIN).length !== text.split(BEGIN).length) {
    throw new Error('it holds something else than certificates');
  }
  for (let begin = text.indexOf(BEGIN); begin >= 0; begin = text.indexOf(BEGIN, begin + 1)) {
    const end = text.indexOf(END, begin);
    const block = end < 0 ? text.slice(begin) : text.slice(begin, end + END.length);
    certificates.push(new X509Certificate(block));
  }
  if (certificates.length === 0) throw new Error('it holds no certificate in PEM form');
  return certificates;
}
