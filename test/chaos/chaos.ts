/**
 * `npm run chaos -- [fault …]`: makes the faults one after the other and says for each whether its
 * promise was kept, with the measured figure.
 */
import { parseArgs } from 'node:util';
import { faults } from './faults.ts';
import { World } from './world.ts';

const { positionals } = parseArgs({ allowPositionals: true });
const names = faults.map(({ name }) => name);
if (positionals.some((name) => !names.includes(name))) {
  console.error('usage: npm run chaos -- [fault …]');
  console.error(`faults: ${names.join(' ')}`);
  process.exit(2);
}

const world = await World.open();
let failed = 0;
try {
  for (const fault of faults) {
    if (positionals.length > 0 && !positionals.includes(fault.name)) continue;
    const { isKept, measured } = await fault.run(world).catch((error: unknown) => ({
      isKept: false,
      measured: String(error),
    }));
    await world.closeFault();
    if (!isKept) failed++;
    console.log(`${isKept ? 'ok    ' : 'FAILED'} ${fault.name}: ${fault.fault}`);
    console.log(`         promised: ${fault.promise}`);
    console.log(`         measured: ${measured}`);
  }
} finally {
  await world.close();
}
console.log(failed === 0 ? '\nall promises were kept' : `\n${failed} promises were broken`);
process.exitCode = failed === 0 ? 0 : 1;
