/**
 * The limit of open files. A session takes two descriptors, one to the client and one to the
 * backend. The start warns if the limit is too low for the options. A process that has run into it
 * says so in the log, since Node.js closes the connections that it cannot accept without a word.
 */
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { devNull } from 'node:os';
import { join } from 'node:path';
import { isErrno } from '../lib/files.ts';
import { type Log, RepeatedEvent } from '../observe/log.ts';
import { LINGERING_LIMIT } from '../session/lingering-close.ts';
import { WAITING_LIMIT } from '../session/throttle.ts';

/** Listeners, files, issuers, the settings, the directory, the console and the metrics. */
const OTHER_FILES = 200;

/** How often it is tried whether there is a free descriptor, in ms. */
const PROBE_MS = 1000;

/** The options that say how many connections there may be. */
interface OpenFilesOptions {
  readonly maxSessions: number;
  readonly maxLogins: number;
}

/**
 * How many files the options can take. A login that has a backend counts as a session already. A
 * refused client has no place any more, but may wait for its refusal and for its end.
 */
function neededFiles({ maxSessions, maxLogins }: OpenFilesOptions): number {
  return 2 * maxSessions + maxLogins + WAITING_LIMIT + LINGERING_LIMIT + OTHER_FILES;
}

/**
 * How many files this process may open. Node.js raises its limit to the hard one when it starts.
 *
 * @param proc where Linux shows the limit
 * @returns undefined if the system does not show it, or there is no limit
 */
export async function openFilesLimit(proc = '/proc'): Promise<number | undefined> {
  const text = await readFile(join(proc, 'self/limits'), 'utf8').catch(() => '');
  const [, soft] = /^Max open files +(\d+)/m.exec(text) ?? [];
  return soft === undefined ? undefined : Number(soft);
}

/** What is wrong with a limit. Undefined if it is high enough. */
export function openFilesWarning(limit: number, options: OpenFilesOptions): string | undefined {
  const needed = neededFiles(options);
  if (limit >= needed) return undefined;
  return (
    `the limit of open files is ${limit}: ${needed} are needed for ` +
    `--max-sessions ${options.maxSessions} and --max-logins ${options.maxLogins}; ` +
    `raise it (LimitNOFILE=${needed} of systemd, ulimit -n), or lower the options`
  );
}

/** Watches for accepts that fail, and for a process without a free descriptor. */
export class AcceptFailures {
  readonly #event: RepeatedEvent;
  readonly #timer: NodeJS.Timeout;

  constructor(log: Log) {
    this.#event = new RepeatedEvent(
      log,
      'accept_failed',
      'connections not accepted: raise the limit of open files (LimitNOFILE, ulimit -n)',
      () => undefined,
    );
    this.#timer = setInterval(() => this.#probe(), PROBE_MS).unref();
  }

  /** Notes that a connection was not accepted. */
  readonly happened = (error: NodeJS.ErrnoException): void => {
    this.#event.happened({ reason: error.code ?? error.message });
  };

  close(): void {
    clearInterval(this.#timer);
  }

  /**
   * libuv accepts and closes a connection for which there is no descriptor, and tells nobody. So
   * whether there is one is tried here.
   */
  #probe(): void {
    try {
      closeSync(openSync(devNull, 'r'));
    } catch (error) {
      if (isErrno(error, 'EMFILE') || isErrno(error, 'ENFILE')) this.happened(error as Error);
    }
  }
}
