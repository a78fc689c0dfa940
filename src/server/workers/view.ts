/**
 * What the console and the metrics of a node show of its workers: sessions, figures and counts of
 * all of them. A worker that does not answer is named, and what it last reported counts.
 */
import type { ConsoleServices } from '../../console/session.ts';
import { overWithin } from '../../lib/abort.ts';
import type { Log } from '../../observe/log.ts';
import {
  type Metrics,
  type MetricsReport,
  type Scrape,
  sumCounts,
  sumFigures,
  sumMetrics,
} from '../../observe/metrics.ts';
import type { MetricsSource } from '../../observe/metrics-server.ts';
import type { ListedSession, NodeSessions } from '../../session/registry.ts';
import type { PoolWorker, WorkerPool } from './pool.ts';

/** How long a worker may take to answer, in ms. */
const ANSWER_MS = 2000;

/** To end a session, its query is cancelled first. */
const CANCEL_MS = 10_000;

/** How often each worker reports, in ms. */
const REPORT_MS = 1000;

/** Reports that a worker may miss until that is logged, and until it is ended. */
const SILENT_AFTER = 10;
const ENDED_AFTER = 30;

/** The workers as the console and the metrics see them. */
export class WorkersView implements NodeSessions, MetricsSource {
  readonly #pool: WorkerPool;
  readonly #workers: number;
  readonly #log: Log;
  #metrics: Metrics | undefined;
  /** The counts of the workers that have ended, in one report or none. */
  #ended: readonly MetricsReport[] = [];
  #adding: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(pool: WorkerPool, workers: number, log: Log) {
    this.#pool = pool;
    this.#workers = workers;
    this.#log = log;
  }

  /** Lets the workers report. `metrics` are those of this process. */
  start(metrics: Metrics): void {
    this.#metrics = metrics;
    metrics.watchWorkers(() => this.#pool.ready.length);
    this.#timer = setInterval(() => this.#watch(), REPORT_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Remembers what a worker counted that has ended. */
  workerEnded({ report }: PoolWorker): void {
    this.#metrics?.workerEnded();
    if (!report) return;
    this.#adding = this.#adding.then(async () => {
      this.#ended = [await sumCounts([...this.#ended, report.metrics])];
    });
  }

  async count(): Promise<number> {
    await this.#reports();
    return this.#pool.ready.reduce((sum, { report }) => sum + (report?.sessions ?? 0), 0);
  }

  async list() {
    const problems: string[] = [];
    const lists = this.#pool.ready.map(async (worker) => {
      try {
        return await sessionsOf(worker);
      } catch {
        problems.push(`worker ${worker.id} does not answer: its sessions are not listed`);
        return [];
      }
    });
    const sessions = (await Promise.all(lists)).flat();
    sessions.sort((left, right) => left.startedAt - right.startedAt);
    return { sessions, problems };
  }

  /** The number of a session tells its worker: workers count in steps of how many there are. */
  async cancel(id: number): Promise<boolean> {
    const worker = this.#pool.ready.find(({ slot }) => slot === (id - 1) % this.#workers);
    return (await worker?.link.ask('cancel', id, CANCEL_MS)) ?? false;
  }

  readonly figures: ConsoleServices['metrics']['figures'] = async () =>
    sumFigures((await this.#reports()).map(({ figures }) => figures));

  watchProcess(version: string): void {
    this.#metrics?.watchProcess(version);
  }

  async scrape(): Promise<Scrape> {
    const sum = await sumMetrics(await this.#reports());
    return { text: await sum.metrics(), type: sum.contentType };
  }

  /** The reports of all processes, those that have ended included. */
  async #reports(): Promise<readonly MetricsReport[]> {
    const reporting = this.#pool.ready.map((worker) => report(worker));
    await overWithin(ANSWER_MS, Promise.all([this.#adding, ...reporting]));
    const own = this.#metrics ? [await this.#metrics.report()] : [];
    const workers = this.#pool.ready.flatMap(({ report }) => report?.metrics ?? []);
    return [...own, ...this.#ended, ...workers];
  }

  /** A worker that is stuck reports nothing. Its sessions hang, and nobody would know. */
  #watch(): void {
    for (const worker of this.#pool.ready) {
      if (worker.reporting) this.#noteSilence(worker);
      else void report(worker);
    }
  }

  #noteSilence(worker: PoolWorker): void {
    const { id, pid } = worker;
    const silences = ++worker.silences;
    const fields = { event: 'worker', outcome: 'silent', worker: id, pid };
    if (silences === SILENT_AFTER)
      this.#log.error(fields, 'a worker process does not answer; its sessions may hang');
    if (silences !== ENDED_AFTER) return;
    this.#log.error(fields, 'a worker process does not answer, and is ended');
    worker.kill();
  }
}

/** Asks a worker for a report, one at a time. Never rejects; the last report stays then. */
function report(worker: PoolWorker): Promise<void> {
  worker.reporting ??= worker.link
    .ask('report', undefined, 0)
    .then(
      (answer) => {
        worker.report = answer;
        worker.silences = 0;
      },
      () => undefined,
    )
    .finally(() => {
      worker.reporting = undefined;
    });
  return worker.reporting;
}

async function sessionsOf({ link }: PoolWorker): Promise<ListedSession[]> {
  const sessions: ListedSession[] = [];
  for (let after = 0; ; ) {
    const page = await link.ask('sessions', after, ANSWER_MS);
    const last = page.at(-1);
    if (!last) return sessions;
    sessions.push(...page);
    after = last.login.session;
  }
}
