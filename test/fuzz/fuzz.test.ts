/**
 * The short form of `npm run fuzz`: the corpus and some thousand inputs of each parser, with a
 * fixed seed. No parser throws what it does not document. Times are only reported here, since tests
 * run on loaded machines.
 */
import t from 'tap';
import { corpusFolders } from './corpus.ts';
import { Random } from './generator.ts';
import { runTarget } from './runner.ts';
import { targets } from './targets.ts';

const SEED = 28;
const INPUTS = 3000;

/** Milliseconds for each target. */
const BUDGET_MS = 300;

t.test('every folder of the corpus belongs to a target', async (t) => {
  const names = targets.map(({ name }) => name);
  for (const folder of corpusFolders()) t.ok(names.includes(folder), folder);
});

t.test('a seed decides the inputs', async (t) => {
  const numbers = (seed: number): number[] => {
    const random = new Random(seed);
    return Array.from({ length: 10 }, () => random.below(1000));
  };
  t.strictSame(numbers(SEED), numbers(SEED));
  t.notSame(numbers(SEED), numbers(SEED + 1));
});

for (const target of targets) {
  t.test(`${target.name} throws only what it documents`, async (t) => {
    const report = await runTarget(target, {
      seed: SEED,
      inputs: INPUTS,
      budgetMs: BUDGET_MS,
      isShort: true,
    });
    const { inputs, slowestMs, findings } = report;
    t.comment(`${inputs} inputs, the slowest took ${slowestMs.toFixed(1)} ms`);
    for (const { from, problem } of findings) t.comment(`${from}: ${problem}`);
    t.ok(inputs > 0);
    t.strictSame(
      findings.filter(({ kind }) => kind === 'crash'),
      [],
    );
  });
}
