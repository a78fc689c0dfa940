/**
 * The settings as a worker has them: those of its node, with the defaults of its own command line,
 * which is that of the node. A login keeps the snapshot that it began with.
 */
import { readProcessDefaults } from '../../settings/process-defaults.ts';
import {
  buildSnapshot,
  type ProcessDefaults,
  type ProcessFacts,
  type SettingsSnapshot,
  type StoredSettings,
  type StoredValues,
} from '../../settings/snapshot.ts';
import type { SettingsOptions } from '../settings.ts';

/** The current snapshot of a worker. */
export class WorkerSettings {
  readonly #processDefaults: ProcessDefaults;
  readonly #facts: ProcessFacts;
  #current: SettingsSnapshot;

  /** @throws UsageError for defaults that cannot be right */
  constructor({ settings, environment, nativeLogins }: SettingsOptions, first: StoredValues) {
    this.#processDefaults = readProcessDefaults(settings, environment);
    this.#facts = { nativeLogins };
    this.#current = this.#build(first, undefined);
  }

  /** What the next login reads. */
  get current(): SettingsSnapshot {
    return this.#current;
  }

  /** Takes over a change. */
  adopt(shared: StoredValues): void {
    this.#current = this.#build(shared, this.#current);
  }

  #build(
    { texts, apiKeys }: StoredValues,
    previous: SettingsSnapshot | undefined,
  ): SettingsSnapshot {
    // Who has set a value, and when, only the console shows.
    const stored: StoredSettings = new Map(
      [...texts].map(([name, text]) => [name, { text, user: '', at: 0 }]),
    );
    const processDefaults = this.#processDefaults;
    return buildSnapshot({ ...this.#facts, stored, apiKeys, processDefaults, previous });
  }
}
