/**
 * An event that a stranger can cause as often as he likes. It is logged when it first happens and then at most once a second, with how
 * often it happened meanwhile, so that a flood shows in the log without filling the disk.
 */
import type { Log } from './log.ts';

const INTERVAL_MS = 1000;

/** One kind of event. */
export class RepeatedEvent {
  readonly #log: Log;
  readonly #event: string;
  readonly #text: string;
  readonly #count: () => void;
  #unlogged = 0;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param text what happened and which option decides it
   * @param count called each time, for the metrics
   */
  constructor(log: Log, event: string, text: string, count: () => void) {
    this.#log = log;
    this.#event = event;
    this.#text = text;
    this.#count = count;
  }

  /** It has happened once more. */
  happened(): void {
    this.#unlogged++;
    this.#count();
    if (this.#timer) return;
    this.#write();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#unlogged > 0) this.#write();
    }, INTERVAL_MS).unref();
  }

  #write(): void {
    this.#log.warn({ event: this.#event, count: this.#unlogged }, this.#text);
    this.#unlogged = 0;
  }
}
