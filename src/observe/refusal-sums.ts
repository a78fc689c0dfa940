/**
 * Sums up equal events of one address. A client can cause hundreds of refusals a second, each with
 * a line in the log. The first ones of a second are written in full; the others are counted and
 * written as one line.
 */
import { addressKey } from '../lib/network.ts';

/** Lines in full a second, for one outcome, code and address. */
const FULL_LINES = 10;

const INTERVAL_MS = 1000;

/** Addresses and codes that are counted apart; about 1 MB. The others are counted together. */
const GROUP_LIMIT = 4096;

/** What equal events have in common. */
export interface EventGroup {
  readonly outcome: 'refused' | 'abandoned';
  readonly code?: string;
  readonly fault?: string;
  /** Of an IPv4 client the address, of an IPv6 client its network of 64 bits. */
  readonly client: string;
}

interface Count {
  readonly group: EventGroup;
  full: number;
  summed: number;
}

/** The events of the current second. */
export class RefusalSums {
  readonly #write: (group: EventGroup, count: number) => void;
  readonly #counts = new Map<string, Count>();
  #timer: NodeJS.Timeout | undefined;

  /** @param write writes the line for the events that were not written in full */
  constructor(write: (group: EventGroup, count: number) => void) {
    this.#write = write;
  }

  /**
   * Counts an event. Returns whether it is to be written in full.
   *
   * @param group `client` is the address and port
   */
  admits(group: EventGroup): boolean {
    const count = this.#countOf({ ...group, client: networkOf(group.client) });
    this.#timer ??= setTimeout(() => this.flush(), INTERVAL_MS).unref();
    if (count.full < FULL_LINES) {
      count.full++;
      return true;
    }
    count.summed++;
    return false;
  }

  /** Writes the sums and begins a new second. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const counts = [...this.#counts.values()];
    this.#counts.clear();
    for (const { group, summed } of counts) if (summed > 0) this.#write(group, summed);
  }

  #countOf(group: EventGroup): Count {
    const known = this.#counts.get(keyOf(group));
    if (known) return known;
    const isFull = this.#counts.size >= GROUP_LIMIT && group.client !== OTHERS;
    if (isFull) return this.#countOf({ ...group, client: OTHERS });
    const count = { group, full: 0, summed: 0 };
    this.#counts.set(keyOf(group), count);
    return count;
  }
}

/** Stands for the addresses above the limit. */
const OTHERS = 'other addresses';

function keyOf({ outcome, code = '', client }: EventGroup): string {
  return `${outcome} ${code} ${client}`;
}

/** @param client address and port, without brackets */
function networkOf(client: string): string {
  const address = client.slice(0, client.lastIndexOf(':'));
  const key = addressKey(address);
  if (!/^[\da-f]{16}$/.test(key)) return key === '' ? client.slice(0, 64) : key;
  return `${key.match(/.{4}/g)?.join(':')}::/64`;
}
