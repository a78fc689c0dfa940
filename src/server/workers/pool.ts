/**
 * The worker processes of a node. One that ends without being asked to is replaced; its sessions
 * are lost, and those of the others are not touched. What the workers log is written by this
 * process, because two processes that write to one pipe can tear a line apart.
 */
import cluster, { type Worker as ClusterWorker } from 'node:cluster';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { errorText, UsageError } from '../../lib/errors.ts';
import type { Log } from '../../observe/log.ts';
import type { ListenAddress } from '../../session/listener.ts';
import { type Answers, Link } from './link.ts';
import type { PrimaryQuestions, WorkerQuestions, WorkerReport } from './messages.ts';

/** The first pause before a worker is replaced that ended soon after its start, and the longest. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;

/** A worker that has lived for so long, in ms, is replaced at once. */
const SETTLED_MS = 10_000;

/** The longest line that is written in one piece, in characters. Events are shorter. */
const LINE_LIMIT = 1024 * 1024;

/** What a worker answers about its life. */
type LifeQuestions = Pick<PrimaryQuestions, 'ready' | 'failed'>;

/** What a pool is made with. */
export interface PoolOptions {
  readonly workers: number;
  readonly log: Log;
  /** The answers to a worker's other questions. */
  readonly answersTo: (worker: PoolWorker) => Omit<Answers<PrimaryQuestions>, keyof LifeQuestions>;
  /** Called when a worker has ended, whatever the reason. */
  readonly ended: (worker: PoolWorker) => void;
}

/** A worker process. */
export class PoolWorker {
  readonly slot: number;
  readonly link: Link<WorkerQuestions, PrimaryQuestions>;
  readonly startedAt = performance.now();
  /** `welcome`: it has the settings. `ready`: it takes logins. */
  state: 'starting' | 'welcome' | 'ready' | 'ended' = 'starting';
  /** The last one. */
  report: WorkerReport | undefined;
  /** The report that it was asked for. */
  reporting: Promise<void> | undefined;
  /** How often in a row it did not report in time. */
  silences = 0;
  readonly #process: ClusterWorker;
  /** The addresses that it listens on. Rejects if it cannot start. */
  readonly listening: Promise<readonly ListenAddress[]>;
  readonly exited: Promise<string>;
  #started!: (addresses: readonly ListenAddress[]) => void;
  #failed!: (error: Error) => void;

  constructor(slot: number, started: ClusterWorker, answersTo: PoolOptions['answersTo']) {
    this.slot = slot;
    this.#process = started;
    this.listening = new Promise((resolve, reject) => {
      this.#started = resolve;
      this.#failed = reject;
    });
    this.link = new Link<WorkerQuestions, PrimaryQuestions>(started, {
      ...answersTo(this),
      ready: (addresses) => {
        this.state = 'ready';
        this.#started(addresses);
      },
      failed: ({ text, isUsage }) => this.#failed(isUsage ? new UsageError(text) : new Error(text)),
    });
    // Node.js emits it for a message that could not be sent, too; the end of the process follows.
    started.on('error', () => undefined);
    this.exited = new Promise((resolve) => {
      started.once('exit', (status, signal) => {
        this.state = 'ended';
        const how = signal ?? `exit status ${status}`;
        this.#failed(new Error(`worker ${this.id} ended at its start: ${how}`));
        resolve(how);
      });
    });
  }

  /** Counts up; a worker that replaces another one has a new one. */
  get id(): number {
    return this.#process.id;
  }

  get pid(): number | undefined {
    return this.#process.process.pid;
  }

  get stderr(): Readable | null {
    return this.#process.process.stderr;
  }

  /** Ends it at once. */
  kill(): void {
    this.#process.process.kill('SIGKILL');
  }
}

/** All workers of a node. */
export class WorkerPool {
  readonly #options: PoolOptions;
  readonly #workers = new Set<PoolWorker>();
  readonly #killAll = (): void => {
    for (const worker of this.#workers) worker.kill();
  };
  /** By slot. */
  readonly #pauses = new Map<number, number>();
  #isStarted = false;
  #isOver = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    // The system gives a connection to whichever worker accepts it first. This process is not in
    // its way, and a worker that is frozen accepts none.
    cluster.schedulingPolicy = cluster.SCHED_NONE;
    cluster.setupPrimary({
      exec: fileURLToPath(new URL('./worker.js', import.meta.url)),
      args: [],
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    });
    // Also when a second signal ends this process at once.
    process.on('exit', this.#killAll);
  }

  /** Those that run. */
  get running(): readonly PoolWorker[] {
    return [...this.#workers];
  }

  /** Those that have the settings. */
  get welcome(): readonly PoolWorker[] {
    return this.running.filter(({ state }) => state === 'welcome' || state === 'ready');
  }

  /** Those that take logins. */
  get ready(): readonly PoolWorker[] {
    return this.running.filter(({ state }) => state === 'ready');
  }

  /**
   * Starts all workers.
   *
   * @param first called when the first one listens
   * @throws UsageError or Error with the text of the one that cannot start
   */
  async start(
    first: (addresses: readonly ListenAddress[]) => Promise<void>,
  ): Promise<readonly ListenAddress[]> {
    const { workers } = this.#options;
    const [one, ...others] = Array.from({ length: workers }, (_, slot) => this.#fork(slot));
    const addresses = (await one?.listening) ?? [];
    await first(addresses);
    await Promise.all(others.map(({ listening }) => listening));
    this.#isStarted = true;
    return addresses;
  }

  /** Replaces no worker from now on. */
  stop(): void {
    this.#isOver = true;
  }

  /** Ends all workers at once. */
  close(): void {
    this.#isOver = true;
    this.#killAll();
    process.off('exit', this.#killAll);
  }

  #fork(slot: number): PoolWorker {
    const { log, answersTo } = this.#options;
    const worker = new PoolWorker(slot, cluster.fork(), answersTo);
    this.#workers.add(worker);
    if (worker.stderr) forwardLines(worker.stderr);
    const { id, pid } = worker;
    worker.listening.then(
      () =>
        log.info({ event: 'worker', outcome: 'ready', worker: id, pid }, 'worker process ready'),
      (error) => this.#notStarted(worker, error),
    );
    void worker.exited.then((how) => this.#ended(worker, how));
    return worker;
  }

  #ended(worker: PoolWorker, reason: string): void {
    this.#workers.delete(worker);
    this.#options.ended(worker);
    // A worker that ends before the start is over fails the start.
    if (this.#isOver || !this.#isStarted) return;
    const pause = this.#pauseAfter(worker);
    this.#options.log.error(
      { event: 'worker', outcome: 'ended', worker: worker.id, pid: worker.pid, reason, pause },
      'a worker process ended and is replaced; its sessions are lost',
    );
    void this.#replace(worker.slot, pause);
  }

  async #replace(slot: number, pause: number): Promise<void> {
    await sleep(pause, undefined, { ref: false });
    if (!this.#isOver) this.#fork(slot);
  }

  /** At the start of the node the error ends it, and is told there. */
  #notStarted({ id }: PoolWorker, error: unknown): void {
    if (!this.#isStarted || this.#isOver) return;
    const reason = errorText(error);
    this.#options.log.error(
      { event: 'worker', outcome: 'failed', worker: id, reason },
      'worker process not started',
    );
  }

  /** Grows while the workers of a slot end soon after their start. */
  #pauseAfter({ slot, startedAt }: PoolWorker): number {
    const isSettled = performance.now() - startedAt > SETTLED_MS;
    const before = this.#pauses.get(slot) ?? 0;
    const pause = isSettled ? 0 : Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, 2 * before));
    this.#pauses.set(slot, pause);
    return pause;
  }
}

/**
 * Writes whole lines to our stderr. While nobody reads that, nothing is read here either: the
 * worker then drops events and counts them.
 */
function forwardLines(from: Readable): void {
  let rest = '';
  from.setEncoding('utf8');
  from.on('data', (text: string) => {
    rest += text;
    const end = rest.length > LINE_LIMIT ? rest.length : rest.lastIndexOf('\n') + 1;
    if (end === 0) return;
    const lines = rest.slice(0, end);
    rest = rest.slice(end);
    if (process.stderr.write(lines)) return;
    from.pause();
    process.stderr.once('drain', () => from.resume());
  });
  from.once('end', () => {
    if (rest !== '') process.stderr.write(`${rest}\n`);
  });
}
