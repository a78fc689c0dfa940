/**
 * What is counted, in Prometheus's form. Every refusal has a code and can be seen in a graph; no
 * label holds what a stranger chose, since each new value of a label costs memory for ever.
 * docs/metrics.md describes each name, and a test holds the two together.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** Bytes of a running session, counted up by whoever copies them. */
interface Traffic {
  readonly toBackend: number;
  readonly toClient: number;
}

/** How a login ended. */
export interface LoginOutcome {
  readonly outcome: 'accepted' | 'refused' | 'abandoned';
  readonly method: string | undefined;
  /** Of a refusal; PgError's. */
  readonly code?: string;
  readonly fault?: string;
  readonly durationMs?: number;
}

/** What is known of an issuer's keys at the moment of a look. */
interface IssuerState {
  readonly issuer: string;
  readonly fetchedAt: number | undefined;
  readonly lastError: string | undefined;
}

/** From a warm cache beside the backend to a login that runs into `--login-timeout`. */
const DURATION_BUCKETS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];

/** The metrics of a process. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #running = new Set<Traffic>();
  readonly #ended = { toBackend: 0, toClient: 0 };

  readonly #logins = new Counter({
    name: 'pgsso_logins_total',
    help: 'Logins by how they ended.',
    labelNames: ['method', 'outcome', 'code', 'fault'],
    registers: [this.#registry],
  });
  readonly #durations = new Histogram({
    name: 'pgsso_login_duration_seconds',
    help: 'From the connection to the first prompt or the refusal.',
    labelNames: ['method', 'outcome'],
    buckets: DURATION_BUCKETS,
    registers: [this.#registry],
  });
  readonly #loginsDropped = new Counter({
    name: 'pgsso_logins_dropped_total',
    help: 'Unfinished logins dropped or turned away because there were --max-logins.',
    registers: [this.#registry],
  });
  readonly #cancelsDropped = new Counter({
    name: 'pgsso_cancels_dropped_total',
    help: 'Cancel requests dropped because too many were being forwarded.',
    registers: [this.#registry],
  });
  readonly #signatures = new Counter({
    name: 'pgsso_signatures_total',
    help: 'Signatures that were looked at: verified anew, or known from a login before.',
    labelNames: ['known'],
    registers: [this.#registry],
  });
  readonly #fetches = new Counter({
    name: 'pgsso_key_fetches_total',
    help: "Fetches of an issuer's keys.",
    labelNames: ['issuer', 'outcome'],
    registers: [this.#registry],
  });
  readonly #refetchesRefused = new Counter({
    name: 'pgsso_key_refetches_refused_total',
    help: 'Unknown key IDs that caused no fetch because one had been caused shortly before.',
    labelNames: ['issuer'],
    registers: [this.#registry],
  });

  constructor() {
    const registers = [this.#registry];
    const running = this.#running;
    new Gauge({
      name: 'pgsso_sessions',
      help: 'Sessions that run.',
      registers,
      collect() {
        this.set(running.size);
      },
    });
    const total = (direction: keyof Traffic): number =>
      [...running].reduce((sum, traffic) => sum + traffic[direction], this.#ended[direction]);
    new Counter({
      name: 'pgsso_session_bytes_total',
      help: 'Bytes copied in sessions.',
      labelNames: ['direction'],
      registers,
      collect() {
        this.reset();
        this.inc({ direction: 'to_backend' }, total('toBackend'));
        this.inc({ direction: 'to_client' }, total('toClient'));
      },
    });
  }

  login({ outcome, method = 'none', code = '', fault = '', durationMs }: LoginOutcome): void {
    this.#logins.inc({ method, outcome, code, fault });
    if (durationMs !== undefined) this.#durations.observe({ method, outcome }, durationMs / 1000);
  }

  /** A session begins; returns what is to be called when it has ended. */
  sessionBegins(traffic: Traffic): () => void {
    this.#running.add(traffic);
    return () => {
      if (!this.#running.delete(traffic)) return;
      this.#ended.toBackend += traffic.toBackend;
      this.#ended.toClient += traffic.toClient;
    };
  }

  loginDropped(): void {
    this.#loginsDropped.inc();
  }

  cancelDropped(): void {
    this.#cancelsDropped.inc();
  }

  signature(known: boolean): void {
    this.#signatures.inc({ known: String(known) });
  }

  keyFetch(issuer: string, outcome: 'ok' | 'failed'): void {
    this.#fetches.inc({ issuer, outcome });
  }

  keyRefetchRefused(issuer: string): void {
    this.#refetchesRefused.inc({ issuer });
  }

  /**
   * Shows the keys of each issuer.
   *
   * @param look at the time of a scrape; `now` in milliseconds since the epoch
   */
  watchIssuers(
    look: () => { readonly now: number; readonly issuers: readonly IssuerState[] },
  ): void {
    new Gauge({
      name: 'pgsso_key_set_age_seconds',
      help: "Age of an issuer's keys.",
      labelNames: ['issuer'],
      registers: [this.#registry],
      collect() {
        this.reset();
        const { now, issuers } = look();
        for (const { issuer, fetchedAt } of issuers)
          if (fetchedAt !== undefined) this.set({ issuer }, (now - fetchedAt) / 1000);
      },
    });
    new Gauge({
      name: 'pgsso_issuer_away',
      help: '1 while the last fetch of the keys of an issuer has failed.',
      labelNames: ['issuer'],
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const { issuer, lastError } of look().issuers)
          this.set({ issuer }, lastError === undefined ? 0 : 1);
      },
    });
  }

  /**
   * Adds what Node.js tells of the process: CPU, memory, delay of the event loop. It measures all
   * the time, so only where somebody looks.
   */
  watchProcess(): void {
    collectDefaultMetrics({ register: this.#registry });
  }

  /** Every metric as text, and its media type. */
  async scrape(): Promise<{ readonly text: string; readonly type: string }> {
    return { text: await this.#registry.metrics(), type: this.#registry.contentType };
  }
}

/*
 * The figures of a process since it started, for SHOW STATS: what happened to logins and sessions,
 * counted where it is logged.
 */

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
