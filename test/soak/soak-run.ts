/**
 * A soak: mixed load on a `pgsso serve` before a real PostgreSQL, with faults in random order. What
 * fails during a fault, or shortly after, is expected; what fails at another time is not.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from '../fuzz/generator.ts';
import { type FaultyProxy, startProxy } from '../support/faulty-proxy.ts';
import { startIssuer, type TestIssuer } from '../support/issuer.ts';
import { type Postgres, startPostgres } from '../support/postgres.ts';
import { type ServeProcess, startServe } from '../support/serve-process.ts';
import { testKey } from '../support/tokens.ts';
import { faults } from './faults.ts';
import { type LoadOperation, operations } from './load.ts';

/** What takes part. */
export interface SoakWorld {
  readonly database: Postgres;
  /** Between pgsso and the database. */
  readonly proxy: FaultyProxy;
  readonly issuer: TestIssuer;
  readonly frontEnd: ServeProcess;
  readonly random: Random;
  /** Aborts when the load ends. */
  readonly over: AbortController;
}

/** How long and how hard. */
export interface SoakOptions {
  readonly seed: number;
  readonly durationMs: number;
  /** From the end of one fault to the next. */
  readonly faultPauseMs: number;
  readonly report: (line: string) => void;
}

/** The figures of one moment. */
interface Sample {
  /** Since the start of the load. */
  readonly ms: number;
  readonly sessions: number;
  readonly residentKb: number;
  readonly heapKb: number;
  readonly descriptors: number;
}

/** How it ended. */
export interface SoakResult {
  /** How often each operation succeeded. */
  readonly done: ReadonlyMap<string, number>;
  /** Failures during faults. */
  readonly expectedFailures: number;
  /** Failures at other times, and a crash: one line each. */
  readonly problems: readonly string[];
  /** Faults, by name. */
  readonly faults: ReadonlyMap<string, number>;
  readonly descriptors: { readonly before: number; readonly after: number };
  /** Slopes over the second half. */
  readonly residentKbPerHour: number;
  readonly descriptorsPerHour: number;
}

/** Failures so long after the end of a fault are its consequences, such as a server's recovery. */
const GRACE_MS = 6000;

const SAMPLE_MS = 5000;
const REPORT_MS = 60_000;

/** How long the descriptors may take to return after the load. */
const SETTLE_MS = 20_000;

const NATIVE_PASSWORD = 'secret';

/** Starts everything, runs, and ends everything. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const world = await openWorld(options.seed);
  try {
    return await new Soak(world, options).run();
  } finally {
    await world.frontEnd.close();
    world.proxy.close();
    await world.issuer.close();
    await world.database.close();
  }
}

async function openWorld(seed: number): Promise<SoakWorld> {
  const database = await startPostgres({
    hba: ['host all native 127.0.0.1/32 scram-sha-256', 'host all all 127.0.0.1/32 trust'],
    initSql: [
      ...['alice', 'bob', 'carol', 'admin_one'].map((user) => `CREATE ROLE ${user} LOGIN`),
      `CREATE ROLE native LOGIN PASSWORD '${NATIVE_PASSWORD}'`,
    ],
  });
  const proxy = await startProxy(database.port);
  const issuer = await startIssuer([testKey('RS256')]);
  const frontEnd = await startServe({
    options: [
      ...['--backend', `postgres://127.0.0.1:${proxy.port}/?sslmode=disable&connect_timeout=5`],
      ...['--admin', 'admin_one', '--login-timeout', '10s'],
    ],
    settings: {
      'server.jwt_authentication.issuers.configuration': issuer.issuer,
      'server.jwt_authentication.jwks_auto_fetch.enabled': 'true',
      'pgsso.allow_insecure_http': 'true',
    },
  });
  return {
    database,
    proxy,
    issuer,
    frontEnd,
    random: new Random(seed),
    over: new AbortController(),
  };
}

class Soak {
  readonly #world: SoakWorld;
  readonly #options: SoakOptions;
  readonly #start = performance.now();
  readonly #done = new Map<string, number>();
  readonly #faults = new Map<string, number>();
  readonly #problems: string[] = [];
  readonly #samples: Sample[] = [];
  #expectedFailures = 0;
  /** Until when failures are expected. */
  #troubleUntil = 0;
  #fault: string | undefined;

  constructor(world: SoakWorld, options: SoakOptions) {
    this.#world = world;
    this.#options = options;
  }

  async run(): Promise<SoakResult> {
    // The first login opens what stays open, such as the connection to the issuer.
    for (const operation of operations) await operation.run(this.#world);
    const before = await this.#settled(Number.POSITIVE_INFINITY);
    const stop = setTimeout(() => this.#world.over.abort(), this.#options.durationMs);
    const load = operations.flatMap((operation) =>
      Array.from({ length: operation.clients }, () => this.#repeat(operation)),
    );
    await Promise.all([...load, this.#disturb(), this.#watch()]);
    clearTimeout(stop);
    const after = await this.#settled(before);
    await this.#end();
    return {
      done: this.#done,
      expectedFailures: this.#expectedFailures,
      problems: this.#problems,
      faults: this.#faults,
      descriptors: { before, after },
      residentKbPerHour: this.#slope(({ residentKb }) => residentKb),
      descriptorsPerHour: this.#slope(({ descriptors }) => descriptors),
    };
  }

  get #isOver(): boolean {
    return this.#world.over.signal.aborted;
  }

  async #repeat(operation: LoadOperation): Promise<void> {
    const { name, pauseMs } = operation;
    while (!this.#isOver && this.#world.frontEnd.isRunning) {
      const start = performance.now();
      try {
        await operation.run(this.#world);
        this.#done.set(name, (this.#done.get(name) ?? 0) + 1);
      } catch (error) {
        this.#failed(name, start, error);
      }
      await sleep(pauseMs * (0.5 + this.#world.random.below(100) / 100));
    }
  }

  #failed(name: string, start: number, error: unknown): void {
    if (this.#fault !== undefined || start < this.#troubleUntil) {
      this.#expectedFailures++;
      return;
    }
    const at = ((start - this.#start) / 1000).toFixed(1);
    const { message, code } = error as { message: string; code?: string };
    this.#problem(`${name} at ${at} s: ${code ?? 'no code'}: ${message.slice(0, 200)}`);
  }

  #problem(line: string): void {
    this.#problems.push(line);
    this.#options.report(`  UNEXPECTED ${line}`);
  }

  /** Faults in random order, one at a time. */
  async #disturb(): Promise<void> {
    const { random } = this.#world;
    for (;;) {
      await this.#pause(this.#options.faultPauseMs * (0.5 + random.below(100) / 100));
      if (this.#isOver) return;
      const fault = random.pick(faults);
      this.#fault = fault.name;
      this.#faults.set(fault.name, (this.#faults.get(fault.name) ?? 0) + 1);
      try {
        await fault.run(this.#world);
      } catch (error) {
        // The database may still be recovering from the last one.
        this.#options.report(`  fault ${fault.name} was not possible: ${String(error)}`);
      }
      this.#fault = undefined;
      this.#troubleUntil = performance.now() + GRACE_MS;
    }
  }

  async #pause(ms: number): Promise<void> {
    for (let rest = ms; rest > 0 && !this.#isOver; rest -= 200) await sleep(Math.min(rest, 200));
  }

  async #watch(): Promise<void> {
    const { frontEnd } = this.#world;
    let nextReport = 0;
    for (; !this.#isOver; await this.#pause(SAMPLE_MS)) {
      if (!frontEnd.isRunning) {
        this.#problem(`pgsso ended: ${JSON.stringify(frontEnd.events.slice(-3))}`);
        this.#world.over.abort();
        return;
      }
      const sample = await this.#sample();
      if (!sample) continue;
      this.#samples.push(sample);
      if (sample.ms < nextReport) continue;
      nextReport += REPORT_MS;
      const { ms, sessions, residentKb, heapKb, descriptors } = sample;
      this.#options.report(
        `  ${(ms / 60_000).toFixed(1).padStart(5)} min  ` +
          `${String(sessions).padStart(3)} sessions  ` +
          `RSS ${(residentKb / 1024).toFixed(1)} MB  heap ${(heapKb / 1024).toFixed(1)} MB  ` +
          `${descriptors} descriptors`,
      );
    }
  }

  async #sample(): Promise<Sample | undefined> {
    const { frontEnd } = this.#world;
    try {
      const text = await (await fetch(`http://127.0.0.1:${frontEnd.metricsPort}/metrics`)).text();
      const value = (name: string): number =>
        Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
      return {
        ms: performance.now() - this.#start,
        sessions: value('pgsso_sessions'),
        residentKb: frontEnd.residentKb(),
        heapKb: value('nodejs_heap_size_used_bytes') / 1024,
        descriptors: frontEnd.descriptors(),
      };
    } catch (error) {
      this.#problem(`no metrics: ${String(error)}`);
      return undefined;
    }
  }

  /** The descriptors, once they are down to the wanted number or have not changed for a second. */
  async #settled(wanted: number): Promise<number> {
    const { frontEnd } = this.#world;
    const end = performance.now() + SETTLE_MS;
    let last = frontEnd.isRunning ? frontEnd.descriptors() : 0;
    let isSteady = false;
    while (frontEnd.isRunning && performance.now() < end && !(isSteady && last <= wanted)) {
      await sleep(1000);
      const now = frontEnd.descriptors();
      isSteady = now === last;
      last = now;
    }
    return last;
  }

  async #end(): Promise<void> {
    const { frontEnd } = this.#world;
    if (!frontEnd.isRunning) return;
    const { status, ms } = await frontEnd.terminate(15_000);
    if (status !== 0) this.#problem(`SIGTERM: status ${status} after ${ms.toFixed(0)} ms`);
  }

  /** Least squares over the second half, in units an hour. */
  #slope(of: (sample: Sample) => number): number {
    const half = this.#samples.slice(Math.floor(this.#samples.length / 2));
    const mean = (values: readonly number[]): number =>
      values.reduce((sum, value) => sum + value, 0) / values.length;
    const times = half.map(({ ms }) => ms / 3_600_000);
    const values = half.map(of);
    const meanTime = mean(times);
    const meanValue = mean(values);
    const spread = times.reduce((sum, time) => sum + (time - meanTime) ** 2, 0);
    const common = times.reduce(
      (sum, time, i) => sum + (time - meanTime) * ((values[i] ?? 0) - meanValue),
      0,
    );
    return spread === 0 ? 0 : common / spread;
  }
}
