/**
 * The end of a process: each of its resources is closed, and none of them can hold the process up.
 * A database or an identity provider that is frozen answers no goodbye, so each has a moment to
 * close and is then left as it is.
 */
import { orAborted, withDeadline } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import type { Log } from '../observe/log.ts';

/** Something that was opened. */
export interface Resource {
  close(): Promise<void> | void;
}

/** How long one resource may take to close, and how long all of them together, in ms. */
const RESOURCE_MS = 1000;
const ALL_MS = 2500;

/** How long the last lines of the log may take to be written, in ms. */
const LOG_MS = 500;

/** The resources of a process. Each is closed when the start fails or the process ends. */
export class Closing {
  readonly #log: Log;
  readonly #resources: { readonly name: string; readonly resource: Resource }[] = [];

  constructor(log: Log) {
    this.#log = log;
  }

  /**
   * Takes charge of a resource that was just opened.
   *
   * @param name names it in the log, as the option that it comes from does
   */
  add(name: string, resource: Resource): void {
    this.#resources.push({ name, resource });
  }

  /**
   * Closes the resources, the last opened first. What fails to close, or takes too long, is logged.
   * Takes at most two and a half seconds, and never rejects.
   */
  async close(): Promise<void> {
    const end = performance.now() + ALL_MS;
    for (const { name, resource } of this.#resources.splice(0).reverse()) {
      try {
        const left = end - performance.now();
        await inTime(Math.min(RESOURCE_MS, left), async () => resource.close());
      } catch (error) {
        this.#log.warn(
          { event: 'shutdown', resource: name, reason: errorText(error) },
          'not closed: it is left as it is',
        );
      }
    }
  }
}

/**
 * Waits for work, which goes on after that time.
 *
 * @param limit milliseconds
 * @throws what the work throws; Error when the time is over
 */
export async function inTime(limit: number, work: () => Promise<void>): Promise<void> {
  // For withDeadline, 0 is no limit.
  const atLeast = Math.max(1, Math.ceil(limit));
  const never = new AbortController().signal;
  const text = `not over within ${atLeast} ms`;
  await withDeadline(atLeast, text, never, (signal) => orAborted(work(), signal));
}

/** Resolves when what was logged is written, or cannot be written in time. */
export function logWritten(log: Log): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, LOG_MS);
    log.flush(() => resolve());
  });
}
