/**
 * The memory that prepared statements and portals take. A client keeps them as long as it likes, so
 * what they cost is counted: for each connection, and for all connections together.
 */
import { PgError } from '../lib/errors.ts';

const MIB = 1024 * 1024;

/** Bytes of one connection: three values of the maximal size, or some thousand statements. */
const CONNECTION_LIMIT = 16 * MIB;

/** Bytes of all connections. A heap of Node.js is at least 512 MB. */
const PROCESS_LIMIT = 64 * MIB;

/** Number of prepared statements, and of portals. Drivers cache a few hundred statements. */
const COUNT_LIMIT = 1000;

/** Bytes that may be in use. */
export class MemoryBudget {
  readonly #limit: number;
  readonly #parent: MemoryBudget | undefined;
  #used = 0;

  private constructor(limit: number, parent?: MemoryBudget) {
    this.#limit = limit;
    this.#parent = parent;
  }

  /** Makes the budget of all connections of one kind. */
  static ofProcess(): MemoryBudget {
    return new MemoryBudget(PROCESS_LIMIT);
  }

  /** Makes the budget of a connection. What it uses counts in this one as well. */
  ofConnection(): MemoryBudget {
    return new MemoryBudget(CONNECTION_LIMIT, this);
  }

  get used(): number {
    return this.#used;
  }

  /** Takes bytes. Returns false and takes none if there are not so many. */
  take(bytes: number): boolean {
    if (this.#used + bytes > this.#limit) return false;
    if (this.#parent && !this.#parent.take(bytes)) return false;
    this.#used += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#used -= bytes;
    this.#parent?.giveBack(bytes);
  }
}

/** Prepared statements or portals by name. */
export class HeldByName<T> {
  readonly #budget: MemoryBudget;
  readonly #held = new Map<string, { readonly value: T; readonly cost: number }>();

  constructor(budget: MemoryBudget) {
    this.#budget = budget;
  }

  get(name: string): T | undefined {
    return this.#held.get(name)?.value;
  }

  has(name: string): boolean {
    return this.#held.has(name);
  }

  /**
   * Holds a value. The one that had the name before is dropped, whatever happens.
   *
   * @param cost estimated bytes, without the name
   * @throws PgError 54000 if there is no room
   */
  set(name: string, value: T, cost: number): void {
    this.delete(name);
    const whole = cost + 2 * name.length;
    if (this.#held.size >= COUNT_LIMIT || !this.#budget.take(whole)) throw this.#tooMany();
    this.#held.set(name, { value, cost: whole });
  }

  delete(name: string): boolean {
    this.#budget.giveBack(this.#held.get(name)?.cost ?? 0);
    return this.#held.delete(name);
  }

  clear(): void {
    for (const name of [...this.#held.keys()]) this.delete(name);
  }

  #tooMany(): PgError {
    return new PgError({
      code: 'too_many_statements',
      message: `there are ${this.#held.size} prepared statements or portals already`,
      hint: 'Close some of them, or send DISCARD ALL. Those of other connections count too.',
      reason: `a connection may hold ${COUNT_LIMIT}, and all together ${PROCESS_LIMIT} bytes`,
    });
  }
}
