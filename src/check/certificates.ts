/**
 * Checks the certificates: their dates, the chain that they form, and the names that they are for.
 */

import type { X509Certificate } from 'node:crypto';
import { errorText } from '../lib/errors.ts';
import { readCertificates } from '../lib/pem.ts';
import { ClientCertificate, type ClientTlsOptions } from '../session/client-tls.ts';
import type { ListenAddress } from '../session/listener.ts';
import { about, type Finding } from './finding.ts';

const DAY_MS = 86_400_000;

/** A certificate that expires sooner gets a warning: most are renewed a month before. */
const SOON_MS = 14 * DAY_MS;

/**
 * Checks the certificate that clients see.
 *
 * @throws UsageError if a listener needs a certificate and there is none; PgError F0000 for files
 *   that cannot be used
 */
export async function checkClientTls(
  options: ClientTlsOptions & { readonly listen: readonly ListenAddress[] },
  now: number,
): Promise<Finding[]> {
  const say = about('--tls-cert');
  const certificate = await ClientCertificate.open(options);
  for (const address of options.listen) certificate.forListener(address);
  if (options.tlsCert === undefined)
    return [
      say(
        'ok',
        'none: clients connect in plain text, on loopback addresses or as --client-tls says',
      ),
    ];
  const [leaf, ...others] = await readCertificates('--tls-cert', options.tlsCert);
  if (!leaf) return [];
  const names = leaf.subjectAltName;
  const { keyWarning } = certificate;
  return [
    ...(keyWarning === undefined ? [] : [about('--tls-key')('warning', keyWarning)]),
    checkDates('--tls-cert', leaf, now),
    ...checkChain('--tls-cert', [leaf, ...others]),
    names === undefined
      ? say(
          'warning',
          'it has no subject alternative name: most clients with sslmode=verify-full refuse it',
        )
      : say('ok', `for ${names.replaceAll(/(?:DNS|IP Address):/g, '')}`),
  ];
}

/** Checks the dates of the first certificate of a file. A file that cannot be read is a finding. */
export async function checkFileDates(
  subject: string,
  path: string,
  now: number,
): Promise<Finding[]> {
  try {
    const [leaf] = await readCertificates(subject, path);
    return leaf ? [checkDates(subject, leaf, now)] : [];
  } catch (error) {
    return [about(subject)('error', errorText(error))];
  }
}

/** Checks whether a certificate is valid now and for the next two weeks. */
export function checkDates(subject: string, certificate: X509Certificate, now: number): Finding {
  const say = about(subject);
  const { validFrom, validTo } = certificate;
  const name = certificate.subject.replaceAll('\n', ', ') || 'the certificate';
  if (now < Date.parse(validFrom)) return say('error', `${name} is not valid before ${validFrom}`);
  const left = Date.parse(validTo) - now;
  if (left < 0) return say('error', `${name} has expired on ${validTo}`);
  return say(left < SOON_MS ? 'warning' : 'ok', `${name} is valid until ${validTo}`);
}

function checkChain(subject: string, chain: readonly X509Certificate[]): Finding[] {
  const say = about(subject);
  const broken = chain.findIndex((certificate, at) => {
    const issuer = chain[at + 1];
    return issuer && !(certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey));
  });
  if (broken < 0)
    return [
      say(
        'ok',
        `a chain of ${chain.length}, issued by ${chain.at(-1)?.issuer.replaceAll('\n', ', ')}`,
      ),
    ];
  return [
    say(
      'error',
      `the chain is broken: certificate ${broken + 2} of the file ` +
        `has not issued certificate ${broken + 1}`,
    ),
  ];
}
