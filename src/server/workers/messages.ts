/**
 * What the primary process of a node and its workers ask each other. The primary has what there is
 * once in a node: the settings, the keys, the console, the metrics and the counts. The workers have
 * the clients.
 */

import type { OptionSource } from '../../backend/url.ts';
import type { KeyState } from '../../keys/issuer-keys.ts';
import type { KeyQuestion } from '../../keys/shared-keys.ts';
import type { MetricsReport } from '../../observe/metrics.ts';
import type { ListenAddress } from '../../session/listener.ts';
import type { ListedSession } from '../../session/registry.ts';
import type { Counted } from '../../session/throttle.ts';
import type { StoredValues } from '../../settings/snapshot.ts';
import type { ServeOptions } from '../options.ts';
import type { Question } from './link.ts';

/** The options as they can be sent. A worker reads none of its own: they may have changed. */
export interface WorkerOptions extends Omit<ServeOptions, 'sourceOf' | 'environment'> {
  /** Where each option with a URL was. */
  readonly sources: Readonly<Record<Parameters<ServeOptions['sourceOf']>[0], OptionSource>>;
}

/** What a worker is told first. */
export interface Welcome {
  readonly options: WorkerOptions;
  /** From 0; a worker that replaces another one has the same. */
  readonly slot: number;
  /** The number of its first connection. The next ones are higher by the number of workers. */
  readonly firstSession: number;
  /** Its part of `--max-sessions`. */
  readonly sessions: number;
  readonly settings: StoredValues;
  readonly keys: readonly KeyState[];
  /** With this, the console's socket takes the operators that a worker has admitted. */
  readonly consoleSecret: string;
}

/** A host of a backend, in a form that all workers understand. */
export interface HostName {
  /** Its place among the routes. */
  readonly route: number;
  /** Host and port. */
  readonly host: string;
}

/** What happened at a worker since it last told. */
export interface WorkerNews {
  /** Unfinished logins that began, by the number of the connection, with the address's key. */
  readonly begun: readonly (readonly [id: number, address: string])[];
  /** Those that have sent a password, and those that are over. */
  readonly kept: readonly number[];
  readonly over: readonly number[];
  readonly counted: readonly Counted[];
  /** Uses of API keys by digest, and token logins by user, each with the time of the last one. */
  readonly keyUses: ReadonlyMap<string, number>;
  readonly logins: ReadonlyMap<string, number>;
}

/** What happened at the node since the worker was last told. */
export interface NodeNews {
  /** Logins of this worker that make room for others. */
  readonly evicted: readonly number[];
  /** What counts for the throttle, at other workers. */
  readonly counted: readonly Counted[];
}

/** The state of a worker, once a second. */
export interface WorkerReport {
  readonly metrics: MetricsReport;
  /** Sessions, those at the console included. */
  readonly sessions: number;
  /** The number of its last connection. */
  readonly lastSession: number;
}

/** What the primary asks a worker. */
export type WorkerQuestions = {
  settings: Question<StoredValues, void>;
  keys: Question<KeyState, void>;
  news: Question<NodeNews, void>;
  /** Places of sessions that it can spare. */
  lend: Question<undefined, number>;
  /** The hosts that issued the key of a CancelRequest. */
  holders: Question<Uint8Array, readonly HostName[] | undefined>;
  /** Sessions with a number above this one. */
  sessions: Question<number, readonly ListedSession[]>;
  /** Ends a session. False if there is none with this number. */
  cancel: Question<number, boolean>;
  report: Question<undefined, WorkerReport>;
  reload: Question<undefined, void>;
  /** Answers when its sessions are over. It then ends by itself. */
  drain: Question<undefined, void>;
};

/** What a worker asks the primary. */
export type PrimaryQuestions = {
  /** It has begun. */
  hello: Question<undefined, Welcome>;
  /** It accepts connections. */
  ready: Question<readonly ListenAddress[], void>;
  /** It cannot start. */
  failed: Question<{ readonly text: string; readonly isUsage: boolean }, void>;
  news: Question<WorkerNews, void>;
  /** Places of sessions for it. */
  borrow: Question<undefined, number>;
  /** The keys of an origin, by its digest. Undefined if no settings name it any more. */
  keys: Question<{ readonly question: KeyQuestion; readonly origin: string }, KeyState | undefined>;
  /** As the primary asks it: the hosts that issued the key of a CancelRequest. */
  holders: Question<Uint8Array, readonly HostName[] | undefined>;
};
