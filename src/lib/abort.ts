/**
 * A time limit for a piece of work that already ends with a signal of its own. `AbortSignal.any`
 * with `AbortSignal.timeout` would keep a timer for each login until it runs out, however soon the
 * login was done.
 */

/**
 * Runs the work with a signal that aborts when the given one does, or after the time with an error
 * of that text.
 *
 * @param limit milliseconds; 0: none
 */
export async function withDeadline<T>(
  limit: number,
  text: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const timer =
    limit === 0 ? undefined : setTimeout(() => controller.abort(new Error(text)), limit);
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/*
 * Waiting for work that is shared: a login that is given up stops to wait, and the work goes on for
 * the others.
 */

/**
 * The work's outcome, unless the signal aborts first.
 *
 * @throws what the work throws; the signal's reason
 */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
  });
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
