/** The short form of `npm run soak`: six seconds of load with faults close to each other. */
import t from 'tap';
import { soak } from './soak-run.ts';

const SEED = 28;

/** Connections that a client library of pgsso itself may have opened meanwhile. */
const DESCRIPTOR_SLACK = 3;

t.test('mixed load with faults: no unexpected failure, and descriptors are returned', async (t) => {
  const result = await soak({
    seed: SEED,
    durationMs: 6000,
    faultPauseMs: 1000,
    report: (line) => t.comment(line),
  });
  t.strictSame(result.problems, []);
  t.not(result.faults.size, 0);
  t.ok((result.done.get('token login') ?? 0) > 0);
  const { before, after } = result.descriptors;
  t.ok(after <= before + DESCRIPTOR_SLACK, `${before} descriptors before, ${after} after`);
});
