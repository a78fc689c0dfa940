/** Runs a target: first its corpus, then inputs that a seed decides. */
import { type CorpusCase, readCorpus } from './corpus.ts';
import { generate, Random } from './generator.ts';
import type { Target } from './targets.ts';

/** What is wrong about an input. */
export interface Finding {
  /** Where the input is from: a file of the corpus, or its number in the run. */
  readonly from: string;
  readonly text: string;
  /** How long the input took, or the error that is not documented. */
  readonly problem: string;
  readonly kind: 'slow' | 'crash';
}

/** The result of one target. */
export interface Report {
  readonly target: string;
  /** Generated inputs. */
  readonly inputs: number;
  readonly refused: number;
  /** Milliseconds of the slowest input, corpus included. */
  readonly slowestMs: number;
  readonly findings: readonly Finding[];
}

/** How much is run. */
export interface Extent {
  readonly seed: number;
  readonly inputs: number;
  /** Milliseconds after which no further input is generated. Default: no limit. */
  readonly budgetMs?: number;
  /** Leaves out what takes seconds, and runs no input again to see whether it is slow. */
  readonly isShort?: boolean;
}

interface Outcome {
  readonly ms: number;
  readonly error: unknown;
}

/**
 * The machine is shared: an input is slow only if the fastest of so many runs is, and if its time
 * was that of the processor and not of waiting for it.
 */
const REPETITIONS = 3;

/** Findings of a target that are reported. A broken parser would have millions. */
const FINDING_LIMIT = 20;

/** Inputs of the warm-up. */
const WARM_UP = 500;

/** Inputs between two turns of the event loop. */
const BATCH = 1000;

/** Runs the corpus and the generated inputs of a target. */
export async function runTarget(target: Target, extent: Extent): Promise<Report> {
  await warmUp(target, extent);
  const run = new Run(target, extent.isShort ? 1 : REPETITIONS);
  const corpus = readCorpus(target.name).filter(({ onlyLong }) => !(onlyLong && extent.isShort));
  for (const entry of corpus) await run.try(entry.text, name(entry));
  const random = new Random(seedOf(extent.seed, target.name));
  const end = performance.now() + (extent.budgetMs ?? Number.POSITIVE_INFINITY);
  let inputs = 0;
  for (; inputs < extent.inputs && performance.now() < end; inputs++) {
    await run.try(generate(random, target), `input ${inputs}`);
    if (inputs % BATCH === 0) await new Promise(setImmediate);
  }
  return { target: target.name, inputs, ...run.result };
}

/** Inputs that are not timed, since code that is not compiled yet is slow. */
async function warmUp(target: Target, { seed, inputs }: Extent): Promise<void> {
  const run = new Run(target, 1);
  const random = new Random(seedOf(seed + 1, target.name));
  // A long input would take the time of many.
  const grammar = { ...target, longest: 500 };
  for (let i = 0; i < Math.min(WARM_UP, inputs); i++) await run.try(generate(random, grammar), '');
}

function name({ file, why }: CorpusCase): string {
  return `${file} (${why})`;
}

/** Each target has numbers of its own, so that it can be run alone. */
function seedOf(seed: number, target: string): number {
  return [...target].reduce((sum, letter) => Math.imul(sum, 31) + letter.charCodeAt(0), seed);
}

class Run {
  readonly #target: Target;
  readonly #repetitions: number;
  readonly #findings = new Map<string, Finding>();
  #refused = 0;
  #slowestMs = 0;

  constructor(target: Target, repetitions: number) {
    this.#target = target;
    this.#repetitions = repetitions;
  }

  get result(): Pick<Report, 'refused' | 'slowestMs' | 'findings'> {
    return {
      refused: this.#refused,
      slowestMs: this.#slowestMs,
      findings: [...this.#findings.values()],
    };
  }

  async try(text: string, from: string): Promise<void> {
    const { boundMs, errors } = this.#target;
    let { ms, error } = await this.#once(text);
    for (let again = 1; again < this.#repetitions && ms > boundMs; again++)
      ms = Math.min(ms, (await this.#once(text)).ms);
    this.#slowestMs = Math.max(this.#slowestMs, ms);
    if (ms > boundMs) this.#found({ from, text, problem: `${ms.toFixed(1)} ms`, kind: 'slow' });
    if (error === undefined) return;
    this.#refused++;
    const isDocumented = errors.some((type) => (error as Error).constructor === type);
    if (!isDocumented) this.#found({ from, text, problem: firstLines(error), kind: 'crash' });
  }

  async #once(text: string): Promise<Outcome> {
    let used: (() => number) | undefined;
    try {
      const run = this.#target.prepare(text);
      used = startClocks();
      const result = run();
      if (result instanceof Promise) await result;
      return { ms: used(), error: undefined };
    } catch (error) {
      return { ms: used?.() ?? 0, error };
    }
  }

  /** Keeps one finding of each kind and place. */
  #found(finding: Finding): void {
    const key = finding.kind === 'slow' ? `slow ${this.#findings.size}` : finding.problem;
    if (this.#findings.size < FINDING_LIMIT && !this.#findings.has(key))
      this.#findings.set(key, finding);
  }
}

/** Returns what tells the milliseconds since: of the clock or of the processor, the smaller. */
function startClocks(): () => number {
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  return () => {
    const ms = Number(process.hrtime.bigint() - start) / 1e6;
    const { user, system } = process.cpuUsage(cpu);
    return Math.min(ms, (user + system) / 1000);
  };
}

function firstLines(error: unknown): string {
  return (error instanceof Error ? (error.stack ?? error.message) : String(error))
    .split('\n')
    .slice(0, 3)
    .map((line) => line.trim().slice(0, 200))
    .join(' ');
}
