/**
 * The current snapshot of a store, and the problem of the last attempt to read the settings. Both
 * stores use it; they differ in where the settings are.
 */
import { errorText } from '../../lib/errors.ts';
import {
  buildSnapshot,
  type ProcessDefaults,
  type SettingsSnapshot,
  type StoredState,
} from '../snapshot.ts';

/** Holds the snapshot of one store. */
export class SnapshotHolder {
  readonly #processDefaults: ProcessDefaults;
  readonly #onProblem: (error: Error) => void;
  #current: SettingsSnapshot;
  /** Why the settings could not be read last time; undefined if they could. */
  problem: string | undefined;

  /**
   * @param onProblem called by {@link SnapshotHolder.report}
   * @throws PgError 22023 for a bad value
   */
  constructor(
    state: StoredState,
    processDefaults: ProcessDefaults,
    onProblem: (error: Error) => void,
  ) {
    this.#onProblem = onProblem;
    this.#processDefaults = processDefaults;
    this.#current = buildSnapshot({ ...state, processDefaults, previous: undefined });
  }

  /** The snapshot that the next login reads. */
  get current(): SettingsSnapshot {
    return this.#current;
  }

  /**
   * A snapshot of the stored state. It is not yet the current one.
   *
   * @throws PgError 22023 for a bad value
   */
  build(state: StoredState): SettingsSnapshot {
    return buildSnapshot({
      ...state,
      processDefaults: this.#processDefaults,
      previous: this.#current,
    });
  }

  /** Makes a snapshot the current one, and forgets the last problem. */
  adopt(snapshot: SettingsSnapshot): void {
    this.problem = undefined;
    this.#current = snapshot;
  }

  /** Notes that the settings could not be read. A problem that repeats is reported once. */
  report(error: unknown): void {
    const text = errorText(error);
    if (this.problem === text) return;
    this.problem = text;
    this.#onProblem(error instanceof Error ? error : new Error(text));
  }
}
