/**
 * Checks what the operating system has set for the process: the limit of open files, and how long
 * Linux resends bytes to a host that has vanished.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openFilesLimit, openFilesWarning } from '../server/open-files.ts';
import { about, type Finding } from './finding.ts';

/** Linux gives up after about 100 s with 8, the least that RFC 1122 allows, and 924 s with 15. */
const RETRIES = 8;

/**
 * Checks the settings of the system that are visible. They are those of Linux; elsewhere there are
 * no findings.
 *
 * @param proc where Linux shows them
 */
export async function checkSystem(
  options: { readonly maxSessions: number; readonly maxLogins: number },
  proc = '/proc',
): Promise<Finding[]> {
  return [...(await checkOpenFiles(options, proc)), ...(await checkRetries(proc))];
}

/** The limit of this shell, which need not be that of the service. */
async function checkOpenFiles(
  options: { readonly maxSessions: number; readonly maxLogins: number },
  proc: string,
): Promise<Finding[]> {
  const say = about('--max-sessions');
  const limit = await openFilesLimit(proc);
  if (limit === undefined) return [];
  const warning = openFilesWarning(limit, options);
  if (warning !== undefined)
    return [say('warning', `${warning}; looked at as it is in this shell`)];
  return [say('ok', `${limit} files may be open in this shell`)];
}

/**
 * Bytes that the system has taken for a host that has vanished are resent for so long, and the
 * session lives on at the backend, with its locks.
 */
async function checkRetries(proc: string): Promise<Finding[]> {
  const say = about('net.ipv4.tcp_retries2');
  const text = await readFile(join(proc, 'sys/net/ipv4/tcp_retries2'), 'utf8').catch(() => '');
  const retries = Number.parseInt(text, 10);
  if (Number.isNaN(retries)) return [];
  if (retries <= RETRIES) return [say('ok', String(retries))];
  return [
    say(
      'warning',
      `${retries}: a session whose client vanished in the middle of a query may hold its locks ` +
        `for a quarter of an hour: sysctl -w net.ipv4.tcp_retries2=${RETRIES}`,
    ),
  ];
}
