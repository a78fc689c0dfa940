/**
 * `npm run soak -- [--minutes 60] [--seed N]`: mixed load with faults on one process, and whether
 * memory and descriptors stay where they are.
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { soak } from './soak-run.ts';

/** kB an hour. A process that grew by this would reach a gigabyte after two days. */
const RESIDENT_SLOPE_LIMIT = 20 * 1024;

/** A shorter run says nothing about the slope, since the heap of a new process grows. */
const SLOPE_MINUTES = 20;

/** Connections that a client library of pgsso itself may have opened meanwhile. */
const DESCRIPTOR_SLACK = 3;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(randomInt(2 ** 31)) },
  },
});
const minutes = Number(values.minutes);
const seed = Number(values.seed);
if (!(minutes > 0) || !Number.isInteger(seed)) {
  console.error('usage: npm run soak -- [--minutes N] [--seed N]');
  process.exit(2);
}

console.log(`seed ${seed}, ${minutes} minutes\n`);
const result = await soak({
  seed,
  durationMs: minutes * 60_000,
  faultPauseMs: 20_000,
  report: (line) => console.log(line),
});

console.log('\ndone:');
for (const [name, count] of result.done) console.log(`  ${name.padEnd(34)} ${count}`);
console.log('faults:');
for (const [name, count] of result.faults) console.log(`  ${name.padEnd(34)} ${count}`);
const { before, after } = result.descriptors;
const slopeMb = result.residentKbPerHour / 1024;
console.log(`failures during faults: ${result.expectedFailures}`);
console.log(`descriptors: ${before} before the load, ${after} after it`);
console.log(`RSS slope: ${slopeMb.toFixed(1)} MB an hour, second half`);
console.log(`descriptor slope: ${result.descriptorsPerHour.toFixed(1)} an hour, second half`);

const verdicts: readonly (readonly [string, boolean])[] = [
  ['no unexpected failure, no crash', result.problems.length === 0],
  ['descriptors are returned', after <= before + DESCRIPTOR_SLACK],
  [
    `RSS grows by less than ${RESIDENT_SLOPE_LIMIT / 1024} MB an hour`,
    minutes < SLOPE_MINUTES || result.residentKbPerHour < RESIDENT_SLOPE_LIMIT,
  ],
];
console.log();
for (const [promise, isKept] of verdicts)
  console.log(`  ${isKept ? 'ok    ' : 'FAILED'} ${promise}`);
if (minutes < SLOPE_MINUTES) console.log(`  The slope is judged from ${SLOPE_MINUTES} minutes on.`);
process.exitCode = verdicts.every(([, isKept]) => isKept) ? 0 : 1;
