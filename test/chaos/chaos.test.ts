/** The short form of `npm run chaos`: the faults that take little time. */
import t from 'tap';
import { faults } from './faults.ts';
import { World } from './world.ts';

const world = await World.open();
t.teardown(() => world.close());

for (const { name, fault, promise, isShort, run } of faults) {
  if (!isShort) continue;
  t.test(`${name}: ${fault}: ${promise}`, async (t) => {
    t.teardown(() => world.closeFault());
    const { isKept, measured } = await run(world);
    t.ok(isKept, measured);
  });
}
