/** The memory of a connection, as the slope between two numbers of them. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { RawClient } from '../test/support/raw-client.ts';
import type { Program } from './programs.ts';

/** How long memory is left to settle, in ms. */
const SETTLE_MS = 1500;

/** Connections that are opened at once. */
const AT_ONCE = 50;

/**
 * Opens connections and returns the resident memory of a program in kB for each of them. A slope,
 * because the program needs memory without any.
 */
export async function memorySlope(
  program: Program,
  open: () => Promise<RawClient>,
  from: number,
  to: number,
): Promise<number> {
  const clients: RawClient[] = [];
  const grow = async (count: number): Promise<number> => {
    while (clients.length < count)
      clients.push(...(await Promise.all(Array.from({ length: AT_ONCE }, open))));
    await sleep(SETTLE_MS);
    return program.residentKb();
  };
  try {
    const first = await grow(from);
    return ((await grow(to)) - first) / (to - from);
  } finally {
    for (const client of clients) client.close();
  }
}
