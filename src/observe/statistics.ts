/** The figures of a process since it started, for SHOW STATS: what happened to logins and sessions, counted where it is logged. */

/** What was counted. */
export interface StatisticsReading {
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly accepted: { readonly token: number; readonly native: number };
  /** Refusals by their code. */
  readonly refused: ReadonlyMap<string, number>;
  /** Sessions that have ended, and their bytes. */
  readonly ended: number;
  readonly bytesToBackend: number;
  readonly bytesToClient: number;
  /** How long accepted logins took, in milliseconds. */
  readonly loginMs: { readonly total: number; readonly max: number };
}

/** Counts. */
export class Statistics {
  readonly #startedAt: number;
  readonly #accepted = { token: 0, native: 0 };
  /** The codes are ours, so there is a bounded number of them. */
  readonly #refused = new Map<string, number>();
  readonly #loginMs = { total: 0, max: 0 };
  #ended = 0;
  #bytesToBackend = 0;
  #bytesToClient = 0;

  /** @param startedAt milliseconds since the epoch */
  constructor(startedAt: number) {
    this.#startedAt = startedAt;
  }

  accepted(method: 'token' | 'native', durationMs: number): void {
    this.#accepted[method]++;
    this.#loginMs.total += durationMs;
    this.#loginMs.max = Math.max(this.#loginMs.max, durationMs);
  }

  refused(code: string): void {
    this.#refused.set(code, (this.#refused.get(code) ?? 0) + 1);
  }

  ended(bytesToBackend: number, bytesToClient: number): void {
    this.#ended++;
    this.#bytesToBackend += bytesToBackend;
    this.#bytesToClient += bytesToClient;
  }

  read(): StatisticsReading {
    return {
      startedAt: this.#startedAt,
      accepted: { ...this.#accepted },
      refused: new Map(this.#refused),
      ended: this.#ended,
      bytesToBackend: this.#bytesToBackend,
      bytesToClient: this.#bytesToClient,
      loginMs: { ...this.#loginMs },
    };
  }
}
