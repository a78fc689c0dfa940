/**
 * Questions and answers between the primary process of a node and one of its workers, over the IPC
 * channel of node:cluster. What is asked and answered has a type for each kind (messages.ts).
 * Nothing is sent that is not asked one at a time or bounded by the caller, because what the other
 * process does not read waits in memory here.
 */
import { errorText } from '../../lib/errors.ts';

/** What is asked, and the answer. */
export type Question<Asked, Answer> = readonly [asked: Asked, answer: Answer];

/** The questions by their kind. */
export type Questions = Readonly<Record<string, Question<unknown, unknown>>>;

/** Answers the questions of the other process. An error is told by its text. */
export type Answers<Q extends Questions> = {
  readonly [Kind in keyof Q]: (asked: Q[Kind][0]) => Q[Kind][1] | Promise<Q[Kind][1]>;
};

/** One end of the channel: a cluster.Worker, or the process of a worker. */
export interface Port {
  send(message: object, sent: (error: Error | null) => void): boolean;
  on(event: 'message', listener: (message: unknown) => void): unknown;
  on(event: 'disconnect', listener: () => void): unknown;
}

type Message =
  | { readonly kind: string; readonly id: number; readonly asked: unknown }
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: string };

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

/** Asks the other process, and answers it. */
export class Link<Asks extends Questions, Answered extends Questions> {
  readonly #port: Port;
  readonly #answers: Answers<Answered>;
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;
  #isGone = false;

  constructor(port: Port, answers: Answers<Answered>) {
    this.#port = port;
    this.#answers = answers;
    port.on('message', (message) => void this.#receive(message as Message));
    port.on('disconnect', () => this.#gone());
  }

  /**
   * Asks a question.
   *
   * @param limit milliseconds to wait for the answer; 0: as long as the other process lives
   * @throws Error if the other process is gone, has failed, or does not answer in time
   */
  async ask<Kind extends keyof Asks & string>(
    kind: Kind,
    asked: Asks[Kind][0],
    limit: number,
  ): Promise<Asks[Kind][1]> {
    const id = ++this.#asked;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve, reject) => {
        if (this.#isGone) return reject(gone());
        this.#waiting.set(id, { resolve, reject });
        if (limit > 0) {
          const late = (): void => reject(new Error(`no answer within ${limit} ms`));
          timer = setTimeout(late, limit).unref();
        }
        this.#send({ kind, id, asked });
      });
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  async #receive(message: Message): Promise<void> {
    const { id } = message;
    const waiting = this.#waiting.get(id);
    if ('answer' in message) return waiting?.resolve(message.answer);
    if ('error' in message) return waiting?.reject(new Error(message.error));
    try {
      const answer = this.#answers[message.kind as keyof Answered];
      this.#send({ id, answer: await answer(message.asked) });
    } catch (error) {
      this.#send({ id, error: errorText(error) });
    }
  }

  #send(message: Message): void {
    if (this.#isGone) return;
    // That it could not be sent is told by the end of the channel.
    this.#port.send(message, () => undefined);
  }

  #gone(): void {
    this.#isGone = true;
    for (const { reject } of this.#waiting.values()) reject(gone());
  }
}

function gone(): Error {
  return new Error('the other process of the node has ended');
}

/** Waits before what has collected is sent, in ms: a login is often over by then. */
export const COLLECT_MS = 10;

/**
 * Sends what has collected, one message at a time: the next one goes when the last was answered. So
 * a process that does not answer has one message in its queue, and what collects here is for the
 * caller to bound.
 */
export class Outbox {
  readonly #send: () => Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  #isSending = false;
  #isDue = false;

  /** @param send takes and sends what has collected; resolves when it was answered */
  constructor(send: () => Promise<void>) {
    this.#send = send;
  }

  /**
   * Something has collected.
   *
   * @param wait milliseconds until it is sent
   */
  collected(wait: number): void {
    this.#isDue = true;
    if (this.#isSending || (this.#timer && wait > 0)) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#flush(), wait).unref();
  }

  async #flush(): Promise<void> {
    this.#timer = undefined;
    this.#isSending = true;
    this.#isDue = false;
    // A process that is gone has no use for it.
    await this.#send().catch(() => undefined);
    this.#isSending = false;
    if (this.#isDue) this.collected(COLLECT_MS);
  }
}
