/** Reads the files that the options name again, as SIGHUP asks for. */
import { errorText } from '../lib/errors.ts';
import { Mutex } from '../lib/keyed-mutex.ts';
import type { Log } from '../observe/log.ts';

/** Files that are read again on SIGHUP. */
export interface Reloadable {
  /** @throws Error for a file that cannot be read; the previous content stays in use */
  reload(): Promise<void>;
}

/** The reloads of a process, one after the other. */
export class Reloads {
  readonly #files: readonly Reloadable[];
  readonly #log: Log;
  readonly #turns = new Mutex();
  #isOver = false;

  constructor(files: readonly Reloadable[], log: Log) {
    this.#files = files;
    this.#log = log;
  }

  /** Reads them all again. An error is logged. Never rejects. */
  reload(): Promise<void> {
    return this.#turns.run(() => this.#reload());
  }

  /** Opens nothing any more: everything is being closed. */
  end(): void {
    this.#isOver = true;
  }

  /** Waits for the reloads that have begun. */
  close(): Promise<void> {
    return this.#turns.settled();
  }

  async #reload(): Promise<void> {
    let failures = 0;
    for (const files of this.#files) {
      if (this.#isOver) return;
      try {
        await files.reload();
      } catch (error) {
        failures++;
        this.#log.error(
          { event: 'reload', reason: errorText(error) },
          'file not read again: the old one stays in use',
        );
      }
    }
    if (failures > 0) return;
    this.#log.info({ event: 'reload' }, 'certificates and credential files read again');
  }
}
