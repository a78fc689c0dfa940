/**
 * Waiting with a limit: a deadline for work that also ends with a signal, and a signal that ends
 * the wait for work that others share. `AbortSignal.any` with `AbortSignal.timeout` would keep a
 * timer for each login until it runs out, however soon the login ends.
 */

/**
 * Runs the work with a signal of its own. It aborts when the given signal does, and when the time
 * is over, with an error of that text.
 *
 * @param limit milliseconds; 0: none, and the work gets the given signal
 * @throws what the work throws; the signal's reason if it has aborted before
 */
export async function withDeadline<T>(
  limit: number,
  text: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  if (limit === 0) return work(signal);
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const timer = setTimeout(() => controller.abort(new Error(text)), limit);
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/**
 * Waits for the outcome of work that others share, unless the signal aborts first. The work goes on
 * in either case.
 *
 * @throws what the work throws; the signal's reason
 */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
  });
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    // The work has begun. Unless somebody listens to it, its failure would end the process.
    return await Promise.race([aborted, work]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Waits until the work is over, whether or not it failed, and at most `limit` milliseconds. */
export async function overWithin(limit: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limit);
  });
  try {
    await Promise.race([work.catch(() => undefined), late]);
  } finally {
    clearTimeout(timer);
  }
}
