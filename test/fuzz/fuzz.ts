/**
 * `npm run fuzz -- [--inputs 1000000] [--seed N] [--save] [target …]`: fuzzes the parsers that read
 * text from outside. Fails if an input takes longer than the bound of its target, or if a parser
 * throws what it does not document. `--save` keeps such inputs in the corpus.
 */
import { createHash, randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { keep } from './corpus.ts';
import { type Finding, runTarget } from './runner.ts';
import { targets } from './targets.ts';

/** Findings of a target that are printed. */
const SHOWN = 5;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    inputs: { type: 'string', default: process.env['FUZZ_INPUTS'] ?? '1000000' },
    seed: { type: 'string', default: process.env['FUZZ_SEED'] ?? String(randomInt(2 ** 31)) },
    save: { type: 'boolean', default: false },
  },
});
const inputs = Number(values.inputs);
const seed = Number(values.seed);
const wanted = targets.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
const names = targets.map(({ name }) => name);
const unknown = positionals.filter((name) => !names.includes(name));
if (unknown.length > 0 || !Number.isInteger(inputs) || !Number.isInteger(seed)) {
  console.error(`usage: npm run fuzz -- [--inputs N] [--seed N] [--save] [target …]`);
  console.error(`targets: ${names.join(' ')}`);
  process.exit(2);
}

console.log(`seed ${seed}, ${inputs} inputs for each target\n`);
console.log('  target            inputs   refused   slowest ms   seconds   findings');
let total = 0;
for (const target of wanted) {
  const start = performance.now();
  const report = await runTarget(target, { seed, inputs });
  const seconds = (performance.now() - start) / 1000;
  console.log(
    '  %s %s %s %s %s %s',
    report.target.padEnd(15),
    String(report.inputs).padStart(8),
    String(report.refused).padStart(9),
    report.slowestMs.toFixed(2).padStart(12),
    seconds.toFixed(0).padStart(9),
    String(report.findings.length).padStart(10),
  );
  for (const finding of report.findings.slice(0, SHOWN)) show(target.name, finding);
  if (report.findings.length > SHOWN) console.log(`    and ${report.findings.length - SHOWN} more`);
  total += report.findings.length;
}
console.log(total === 0 ? '\nno findings' : `\n${total} findings; --seed ${seed} repeats them`);
process.exitCode = total === 0 ? 0 : 1;

function show(target: string, { from, kind, problem, text }: Finding): void {
  console.log(`    ${kind}: ${from}: ${problem}`);
  const shown = JSON.stringify(text);
  console.log(`      ${text.length} characters: ${shown.slice(0, 150)}`);
  if (!values.save || from.includes('.json')) return;
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 8);
  console.log(`      kept in ${keep(target, `${kind}-${digest}`, problem, text)}`);
}
