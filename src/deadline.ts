/**
 * A time limit for a piece of work that already ends with a signal of its own. `AbortSignal.any` with `AbortSignal.timeout` would keep a
 * timer for each login until it runs out, however soon the login was done.
 */

/**
 * Runs the work with a signal that aborts when the given one does, or after the time with an error of that text.
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
  const timer = limit === 0 ? undefined : setTimeout(() => controller.abort(new Error(text)), limit);
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}
