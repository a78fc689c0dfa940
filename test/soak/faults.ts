/** The faults of a soak, as a table. Each begins, lasts and ends in its function. */
import { setTimeout as sleep } from 'node:timers/promises';
import { misbehave } from '../support/issuer.ts';
import type { SoakWorld } from './soak-run.ts';

/** One row. */
export interface SoakFault {
  readonly name: string;
  run(world: SoakWorld): Promise<void>;
}

/** Some processes of PostgreSQL that serve a session. */
async function backendProcesses({ database, random }: SoakWorld): Promise<readonly number[]> {
  const { rows } = await database.query(
    "SELECT pid FROM pg_stat_activity WHERE usename <> 'postgres'",
  );
  return rows.map(({ pid }) => Number(pid)).filter(() => random.once(2));
}

/** Sends a signal. A process that has ended meanwhile needs none. */
function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch (error) {
      if ((error as { code?: string }).code !== 'ESRCH') throw error;
    }
  }
}

const duration = ({ random }: SoakWorld): Promise<void> => sleep(500 + random.below(2500));

export const faults: readonly SoakFault[] = [
  {
    name: 'SIGSTOP of backend processes',
    async run(world) {
      const pids = await backendProcesses(world);
      signal(pids, 'SIGSTOP');
      await duration(world);
      signal(pids, 'SIGCONT');
    },
  },
  {
    // PostgreSQL ends all sessions and recovers.
    name: 'SIGKILL of a backend process',
    async run(world) {
      const [pid] = await backendProcesses(world);
      if (pid !== undefined) signal([pid], 'SIGKILL');
      await sleep(1000);
    },
  },
  {
    name: 'connections to the backend reset',
    async run({ proxy }) {
      proxy.reset();
    },
  },
  {
    name: 'connections to the backend frozen',
    async run(world) {
      world.proxy.freeze();
      await duration(world);
      world.proxy.thaw();
    },
  },
  {
    name: 'connections to the backend slow',
    async run(world) {
      world.proxy.slow(5 + world.random.below(60));
      await duration(world);
      world.proxy.slow(0);
    },
  },
  {
    name: 'issuer away',
    async run(world) {
      world.issuer.behaviour = misbehave.away;
      await duration(world);
      world.issuer.behaviour = undefined;
    },
  },
];
