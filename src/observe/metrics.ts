/**
 * The metrics of the process, for Prometheus and for SHOW STATS. No label holds text that a client
 * chose, because each new value of a label takes memory that is never freed. docs/metrics.md
 * describes each metric, and a test compares the two.
 */
import {
  AggregatorRegistry,
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricObject,
  Registry,
} from 'prom-client';

/** Bytes of a running session. The session updates them. */
interface Traffic {
  readonly toBackend: number;
  readonly toClient: number;
}

/** How a login ended. */
export interface LoginOutcome {
  readonly outcome: 'accepted' | 'refused' | 'abandoned';
  readonly method: string | undefined;
  /** Code and fault of the PgError, for a refusal. */
  readonly code?: string;
  readonly fault?: string;
  readonly durationMs?: number;
}

/** What is known of an issuer's keys at the time of a scrape. */
interface IssuerState {
  readonly issuer: string;
  readonly fetchedAt: number | undefined;
  readonly lastError: string | undefined;
}

/** The figures of SHOW STATS, since the start of the process. */
export interface Figures {
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly accepted: { readonly token: number; readonly native: number };
  /** Refused logins by code. */
  readonly refused: ReadonlyMap<string, number>;
  /** Refusals that were told late. */
  readonly refusalsDelayed: number;
  /** Logins that waited for somebody to sign in, by how the waiting ended. */
  readonly deviceLogins: ReadonlyMap<string, number>;
  /** Those that wait. */
  readonly deviceLoginsWaiting: number;
  /** Duration of accepted logins in milliseconds; undefined if there are none. */
  readonly loginMs: { readonly mean: number; readonly max: number } | undefined;
  readonly sessionsEnded: number;
  /** Bytes of all sessions, including those that are running. */
  readonly bytes: Traffic;
}

/** All metrics of a process at one moment, for another process of the node. */
export interface MetricsReport {
  readonly metrics: readonly MetricObject[];
  readonly figures: Figures;
}

/** Metrics in Prometheus's text format, and the media type of it. */
export interface Scrape {
  readonly text: string;
  readonly type: string;
}

/** The sum of the metrics of several processes. Each metric says how it is summed up. */
export async function sumMetrics(reports: readonly MetricsReport[]): Promise<Registry> {
  return AggregatorRegistry.aggregate(reports.map(({ metrics }) => [...metrics]));
}

/** What remains of the reports of processes that have ended: their counts. */
export async function sumCounts(reports: readonly MetricsReport[]): Promise<MetricsReport> {
  const metrics = await (await sumMetrics(reports)).getMetricsAsJSON();
  return {
    metrics: metrics.filter(({ type }) => String(type) !== 'gauge'),
    figures: { ...sumFigures(reports.map(({ figures }) => figures)), deviceLoginsWaiting: 0 },
  };
}

/** The figures of several processes of a node. */
export function sumFigures(all: readonly Figures[]): Figures {
  const sum = (figure: (figures: Figures) => number): number =>
    all.reduce((total, figures) => total + figure(figures), 0);
  const accepted = (figures: Figures): number => figures.accepted.token + figures.accepted.native;
  const sums = (counts: (figures: Figures) => ReadonlyMap<string, number>): Map<string, number> => {
    const total = new Map<string, number>();
    for (const [name, count] of all.flatMap((figures) => [...counts(figures)]))
      total.set(name, (total.get(name) ?? 0) + count);
    return total;
  };
  const ms = sum((figures) => (figures.loginMs?.mean ?? 0) * accepted(figures));
  const max = Math.max(...all.map(({ loginMs }) => loginMs?.max ?? 0));
  return {
    startedAt: Math.min(...all.map(({ startedAt }) => startedAt)),
    accepted: {
      token: sum((figures) => figures.accepted.token),
      native: sum((figures) => figures.accepted.native),
    },
    refused: sums((figures) => figures.refused),
    refusalsDelayed: sum((figures) => figures.refusalsDelayed),
    deviceLogins: sums((figures) => figures.deviceLogins),
    deviceLoginsWaiting: sum((figures) => figures.deviceLoginsWaiting),
    loginMs: sum(accepted) === 0 ? undefined : { mean: ms / sum(accepted), max },
    sessionsEnded: sum((figures) => figures.sessionsEnded),
    bytes: {
      toBackend: sum(({ bytes }) => bytes.toBackend),
      toClient: sum(({ bytes }) => bytes.toClient),
    },
  };
}

/** In seconds. A login takes 2 ms with warm caches, and at most `--login-timeout`. */
const DURATION_BUCKETS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];

const DURATION_NAME = 'pgsso_login_duration_seconds';

/** The metrics of a process. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #startedAt: number;
  readonly #running = new Set<Traffic>();
  readonly #ended = { toBackend: 0, toClient: 0 };
  #sessionsEnded = 0;
  #longestLoginMs = 0;
  #deviceLoginsWaiting = (): number => 0;
  #workersEnded: Counter | undefined;

  readonly #logins = new Counter({
    name: 'pgsso_logins_total',
    help: 'Logins by how they ended.',
    labelNames: ['method', 'outcome', 'code', 'fault'],
    registers: [this.#registry],
  });
  readonly #durations = new Histogram({
    name: DURATION_NAME,
    help: 'From the connection to the first prompt or the refusal.',
    labelNames: ['method', 'outcome'],
    buckets: DURATION_BUCKETS,
    registers: [this.#registry],
  });
  readonly #loginsDropped = new Counter({
    name: 'pgsso_logins_dropped_total',
    help:
      'Unfinished logins dropped or turned away because there were --max-logins, ' +
      'or --max-logins-per-address of one address.',
    registers: [this.#registry],
  });
  readonly #refusalsDelayed = new Counter({
    name: 'pgsso_refusals_delayed_total',
    help: 'Refusals that were told late because of many before.',
    registers: [this.#registry],
  });
  readonly #deviceLogins = new Counter({
    name: 'pgsso_device_logins_total',
    help: 'Logins that waited for somebody to sign in, by how the waiting ended.',
    labelNames: ['outcome'],
    registers: [this.#registry],
  });
  readonly #cancelsDropped = new Counter({
    name: 'pgsso_cancels_dropped_total',
    help: 'Cancel requests dropped because 32 were being forwarded, or 16 of one address.',
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

  /** @param startedAt milliseconds since the epoch, for SHOW STATS */
  constructor(startedAt: number) {
    this.#startedAt = startedAt;
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
    const bytes = (): Traffic => this.#bytes();
    new Counter({
      name: 'pgsso_session_bytes_total',
      help: 'Bytes copied in sessions.',
      labelNames: ['direction'],
      registers,
      collect() {
        this.reset();
        const { toBackend, toClient } = bytes();
        this.inc({ direction: 'to_backend' }, toBackend);
        this.inc({ direction: 'to_client' }, toClient);
      },
    });
  }

  /** A login has ended. */
  login({ outcome, method = 'none', code = '', fault = '', durationMs }: LoginOutcome): void {
    this.#logins.inc({ method, outcome, code, fault });
    if (durationMs === undefined) return;
    this.#durations.observe({ method, outcome }, durationMs / 1000);
    if (outcome === 'accepted') this.#longestLoginMs = Math.max(this.#longestLoginMs, durationMs);
  }

  /** A session at a backend begins. Its bytes are read until it ends. */
  sessionBegins(traffic: Traffic): void {
    this.#running.add(traffic);
  }

  /** Its bytes will not change any more. */
  sessionEnds(traffic: Traffic): void {
    if (!this.#running.delete(traffic)) return;
    this.#ended.toBackend += traffic.toBackend;
    this.#ended.toClient += traffic.toClient;
  }

  /** A session at a backend or at the console has ended. */
  sessionEnded(): void {
    this.#sessionsEnded++;
  }

  loginDropped(): void {
    this.#loginsDropped.inc();
  }

  /** A refusal waits before the client is told: pgsso.throttle. */
  refusalDelayed(): void {
    this.#refusalsDelayed.inc();
  }

  /** A login no longer waits for somebody to sign in. */
  deviceLogin(outcome: string): void {
    this.#deviceLogins.inc({ outcome });
  }

  cancelDropped(): void {
    this.#cancelsDropped.inc();
  }

  /** @param known whether the signature was verified for an earlier login */
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
   * Adds the metrics about the keys of each issuer.
   *
   * @param look returns the state at a scrape; `now` is in milliseconds since the epoch
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

  /** Adds the metric about refusals that wait before they are told. */
  watchRefusals(waiting: () => number): void {
    new Gauge({
      name: 'pgsso_refusals_waiting',
      help: 'Refusals that wait before they are told.',
      registers: [this.#registry],
      collect() {
        this.set(waiting());
      },
    });
  }

  /** Adds the metric about logins that wait for somebody to sign in. */
  watchDeviceLogins(waiting: () => number): void {
    this.#deviceLoginsWaiting = waiting;
    new Gauge({
      name: 'pgsso_device_logins_waiting',
      help: 'Logins that wait for somebody to sign in.',
      registers: [this.#registry],
      collect() {
        this.set(waiting());
      },
    });
  }

  /**
   * Adds the version, and the metrics of Node.js about the process, such as CPU time and memory.
   * They are measured all the time, so only a process with a metrics server should call this.
   */
  watchProcess(version: string): void {
    const info = new Gauge({
      name: 'pgsso_build_info',
      help: 'Always 1; the labels say which version runs.',
      labelNames: ['version', 'node'],
      aggregator: 'first',
      registers: [this.#registry],
    });
    info.set({ version, node: process.version }, 1);
    collectDefaultMetrics({ register: this.#registry });
    // Sums of the metrics without `_total`. The name is a counter's, and they are none.
    for (const name of ['handles', 'requests', 'resources'])
      this.#registry.removeSingleMetric(`nodejs_active_${name}_total`);
  }

  /** Adds the metric about the workers of the node. */
  watchWorkers(running: () => number): void {
    new Gauge({
      name: 'pgsso_workers',
      help: 'Worker processes that take logins.',
      registers: [this.#registry],
      collect() {
        this.set(running());
      },
    });
    this.#workersEnded = new Counter({
      name: 'pgsso_workers_ended_total',
      help: 'Worker processes that ended without being asked to, and were replaced.',
      registers: [this.#registry],
    });
  }

  /** A worker has ended that should not. */
  workerEnded(): void {
    this.#workersEnded?.inc();
  }

  /** Returns every metric in Prometheus's text format, and its media type. */
  async scrape(): Promise<Scrape> {
    return { text: await this.#registry.metrics(), type: this.#registry.contentType };
  }

  /** Returns every metric, for another process of the node. */
  async report(): Promise<MetricsReport> {
    return { metrics: await this.#registry.getMetricsAsJSON(), figures: await this.figures() };
  }

  /** Returns the figures of SHOW STATS. */
  async figures(): Promise<Figures> {
    const accepted = { token: 0, native: 0 };
    const refused = new Map<string, number>();
    for (const { labels, value } of (await this.#logins.get()).values) {
      const { outcome, method, code = '' } = labels;
      if (outcome === 'accepted') accepted[method === 'token' ? 'token' : 'native'] += value;
      if (outcome === 'refused')
        refused.set(String(code), (refused.get(String(code)) ?? 0) + value);
    }
    const count = accepted.token + accepted.native;
    return {
      startedAt: this.#startedAt,
      accepted,
      refused,
      refusalsDelayed: (await this.#refusalsDelayed.get()).values[0]?.value ?? 0,
      deviceLogins: new Map(
        (await this.#deviceLogins.get()).values.map(({ labels, value }) => [
          String(labels.outcome),
          value,
        ]),
      ),
      deviceLoginsWaiting: this.#deviceLoginsWaiting(),
      loginMs:
        count === 0
          ? undefined
          : { mean: (await this.#acceptedMs()) / count, max: this.#longestLoginMs },
      sessionsEnded: this.#sessionsEnded,
      bytes: this.#bytes(),
    };
  }

  /** Time that all accepted logins took together, in milliseconds. */
  async #acceptedMs(): Promise<number> {
    const sum = `${DURATION_NAME}_sum`;
    return (await this.#durations.get()).values
      .filter(({ metricName, labels }) => metricName === sum && labels.outcome === 'accepted')
      .reduce((total, { value }) => total + value * 1000, 0);
  }

  #bytes(): Traffic {
    const total = (direction: keyof Traffic): number =>
      [...this.#running].reduce((sum, traffic) => sum + traffic[direction], this.#ended[direction]);
    return { toBackend: total('toBackend'), toClient: total('toClient') };
  }
}
