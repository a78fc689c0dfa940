/**
 * The current snapshot of a store, and the problem of the last attempt to read the settings. Both
 * stores use it; they differ in where the settings are.
 */
import { errorText } from '../../lib/errors.ts';
import {
  buildSnapshot,
  type ProcessDefaults,
  type ProcessFacts,
  type SettingsSnapshot,
  type StoredState,
} from '../snapshot.ts';

/** What a store's snapshots are made with. */
export interface SnapshotOptions extends ProcessFacts {
  readonly processDefaults: ProcessDefaults;
  /** Called when settings cannot be read, once for each reason. The last good ones stay. */
  readonly onProblem: (error: Error) => void;
}

/** Holds the snapshot of one store. */
export class SnapshotHolder {
  readonly #options: SnapshotOptions;
  #current: SettingsSnapshot;
  #onChange: (snapshot: SettingsSnapshot) => void = () => undefined;
  /** Why the settings could not be read last time; undefined if they could. */
  problem: string | undefined;

  /** @throws PgError 22023 for a bad value */
  constructor(state: StoredState, options: SnapshotOptions) {
    this.#options = options;
    this.#current = this.#build(state, undefined);
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
    return this.#build(state, this.#current);
  }

  /** Makes a snapshot the current one, and forgets the last problem. */
  adopt(snapshot: SettingsSnapshot): void {
    this.problem = undefined;
    this.#current = snapshot;
    this.#onChange(snapshot);
  }

  /** Calls the listener with each snapshot from now on, as soon as it is the current one. */
  watch(listener: (snapshot: SettingsSnapshot) => void): void {
    this.#onChange = listener;
  }

  /** Notes that the settings could not be read. A problem that repeats is reported once. */
  report(error: unknown): void {
    const text = errorText(error);
    if (this.problem === text) return;
    this.problem = text;
    this.#options.onProblem(error instanceof Error ? error : new Error(text));
  }

  #build(
    { stored, apiKeys }: StoredState,
    previous: SettingsSnapshot | undefined,
  ): SettingsSnapshot {
    const { processDefaults, nativeLogins } = this.#options;
    return buildSnapshot({ stored, apiKeys, processDefaults, nativeLogins, previous });
  }
}
