/**
 * Tells the workers the settings and the keys. What has changed is in force in every worker when a
 * change is confirmed: a worker that does not take it over in time could go on admitting somebody
 * who may not come in any more, so it is ended and replaced.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FetchedKeys } from '../../keys/fetched-keys.ts';
import type { KeyState } from '../../keys/issuer-keys.ts';
import { OriginNames } from '../../keys/key-origin.ts';
import { KeysUnavailable } from '../../keys/key-source.ts';
import type { Log } from '../../observe/log.ts';
import { type SettingsSnapshot, type StoredValues, storedValues } from '../../settings/snapshot.ts';
import type { SettingsStore } from '../../settings/store/store.ts';
import type { PrimaryQuestions } from './messages.ts';
import type { PoolWorker } from './pool.ts';

/** How long a worker may take to take something over, in seconds. */
const TAKE_OVER_S = 5;

/** Snapshots that are remembered for logins that began under them. */
const REMEMBERED = 8;

/** Settings and keys on their way to the workers. */
export class Publisher {
  readonly #workers: () => readonly PoolWorker[];
  readonly #log: Log;
  readonly #names = new OriginNames();
  /** Newest first. */
  #snapshots: readonly SettingsSnapshot[] = [];
  #settled: Promise<unknown> = Promise.resolve();

  /** @param workers those that were told the settings at their start */
  constructor(workers: () => readonly PoolWorker[], log: Log) {
    this.#workers = workers;
    this.#log = log;
  }

  /** Tells all workers a new snapshot. */
  publish(snapshot: SettingsSnapshot): void {
    this.#snapshots = [snapshot, ...this.#snapshots.slice(0, REMEMBERED - 1)];
    const settings = storedValues(snapshot);
    const told = this.#workers().map((worker) =>
      this.#takenOver(worker, 'settings', worker.link.ask('settings', settings, 0)),
    );
    this.#settled = Promise.all([this.#settled, ...told]);
  }

  /** The settings for a worker that begins. */
  get current(): StoredValues {
    const [newest] = this.#snapshots;
    if (!newest) throw new Error('nothing is published');
    return storedValues(newest);
  }

  /** Resolves when what was published is in force in every worker. Never rejects. */
  async inForce(): Promise<void> {
    await this.#settled;
  }

  /** Tells all workers what is known of an issuer's keys. */
  publishKeys(state: KeyState): void {
    for (const worker of this.#workers())
      void this.#takenOver(worker, 'keys', worker.link.ask('keys', state, 0));
  }

  /** Answers a worker that has no keys which it may use. */
  async keysFor(
    fetched: FetchedKeys,
    { question, origin }: PrimaryQuestions['keys'][0],
  ): Promise<KeyState | undefined> {
    const found = this.#names.find(origin, this.#snapshots);
    if (!found) return undefined;
    const { issuer, values } = found;
    const { signal } = new AbortController();
    try {
      if (question === 'keys') await fetched.keysFor(issuer, values, signal);
      else await fetched.refresh(issuer, values, signal);
    } catch (error) {
      // The worker learns from the state why there are none.
      if (!(error instanceof KeysUnavailable)) throw error;
    }
    return fetched.stateOf(issuer, values);
  }

  /** Waits second by second, so that a pause of the whole machine ends no worker. */
  async #takenOver(worker: PoolWorker, what: string, taken: Promise<void>): Promise<void> {
    const outcome = taken.then(
      () => true,
      () => false,
    );
    for (let seconds = 0; seconds < TAKE_OVER_S; ) {
      const second = sleep(1000, undefined, { ref: false });
      const done = await Promise.race([outcome, second]);
      if (done) return;
      if (done === false) break;
      // One that has not started yet takes no logins, and may take its time.
      if (worker.state === 'ready') seconds++;
    }
    if (worker.state === 'ended') return;
    this.#log.error(
      { event: 'worker', outcome: 'behind', worker: worker.id, pid: worker.pid },
      `a worker process has not taken over new ${what}, and is ended`,
    );
    worker.kill();
    await worker.exited;
  }
}

/** The settings of a node: a change is done when it is in force in every worker. */
export function publishedSettings(store: SettingsStore, publisher: Publisher): SettingsStore {
  publisher.publish(store.current);
  store.watch((snapshot) => publisher.publish(snapshot));
  const inForce = async (change: Promise<SettingsSnapshot>): Promise<SettingsSnapshot> => {
    const snapshot = await change;
    await publisher.inForce();
    return snapshot;
  };
  return {
    get current() {
      return store.current;
    },
    get problem() {
      return store.problem;
    },
    watch: (listener) => store.watch(listener),
    change: (changes, user) => inForce(store.change(changes, user)),
    changeApiKeys: (change, user) => inForce(store.changeApiKeys(change, user)),
    history: (name) => store.history(name),
    close: () => store.close(),
  };
}
