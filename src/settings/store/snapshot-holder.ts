/**
 * The current snapshot of a store, who is told of a new one, what was wrong with the last one, and
 * the turns in which a store reads and writes. What stores do differently is only where the
 * settings lie.
 */
import { errorText } from '../../lib/errors.ts';
import {
  buildSnapshot,
  type ProcessDefaults,
  type SettingsSnapshot,
  type SnapshotSources,
} from '../snapshot.ts';

/** What a store keeps of the settings. */
export type Kept = Required<Pick<SnapshotSources, 'stored' | 'apiKeys'>>;

/** Holds the snapshot of one store. */
export class SnapshotHolder {
  readonly #processDefaults: ProcessDefaults;
  readonly #onProblem: (error: Error) => void;
  readonly #listeners = new Set<(snapshot: SettingsSnapshot) => void>();
  #current: SettingsSnapshot;
  /** Changes and looks, one after the other. */
  #queue: Promise<unknown> = Promise.resolve();
  /** Why the settings could not be read last time; the ones before stay. */
  problem: string | undefined;

  /**
   * @param onProblem told of what {@link report} is given
   * @throws PgError 22023 for a bad value
   */
  constructor(kept: Kept, processDefaults: ProcessDefaults, onProblem: (error: Error) => void) {
    this.#onProblem = onProblem;
    this.#processDefaults = processDefaults;
    this.#current = buildSnapshot({ ...kept, processDefaults, previous: undefined });
  }

  get current(): SettingsSnapshot {
    return this.#current;
  }

  /**
   * The snapshot of these settings, which is not yet the current one. Throws PgError 22023 for a
   * bad value.
   */
  build(kept: Kept): SettingsSnapshot {
    return buildSnapshot({
      ...kept,
      processDefaults: this.#processDefaults,
      previous: this.#current,
    });
  }

  /** Makes a snapshot the current one. */
  adopt(snapshot: SettingsSnapshot): void {
    this.problem = undefined;
    this.#current = snapshot;
    for (const listener of this.#listeners) {
      try {
        listener(snapshot);
      } catch (error) {
        // The change is made and durable, whatever somebody does with the news.
        this.#tell(error);
      }
    }
  }

  /** Settings could not be read: the last good ones stay. Somebody is told once of each reason. */
  report(error: unknown): void {
    const text = errorText(error);
    if (this.problem === text) return;
    this.problem = text;
    this.#tell(error);
  }

  #tell(error: unknown): void {
    this.#onProblem(error instanceof Error ? error : new Error(errorText(error)));
  }

  /** As {@link SettingsStore.watch}. */
  watch(listener: (snapshot: SettingsSnapshot) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Runs the work when all that was begun before is done. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  /** Resolves when all that was begun is done. */
  async settled(): Promise<void> {
    await this.#queue;
  }
}
