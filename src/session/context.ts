/** What the steps of a session hand to each other, and what all sessions of a process share. */
import type { Authenticator } from '../auth/authenticator.ts';
import type { BackendSession } from '../backend/leg.ts';
import type { Routes } from '../backend/routes.ts';
import type { Directory } from '../directory/directory.ts';
import type { Audit, LoginRecord } from '../observe/audit.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { SettingsSnapshot } from '../settings/snapshot.ts';
import type { MessageChannel } from '../wire/channel.ts';
import type { ConsoleAccess, ServeConsole } from './console-access.ts';
import type { Cancels, LoginSlot, LoginSlots, NativeGate, SessionLimit } from './limits.ts';
import type { Door } from './negotiate.ts';
import type { SessionRegistry } from './registry.ts';

/** What every session of a process shares. */
export interface SessionServices {
  readonly settings: { readonly current: SettingsSnapshot };
  readonly authenticator: Authenticator;
  readonly routes: Routes;
  /** Creates users and grants roles; undefined without `--directory`. */
  readonly directory: Directory | undefined;
  readonly superusers: 'refuse' | 'allow';
  readonly nativeLogins: 'allow' | 'deny';
  /** Accept to ReadyForQuery, in milliseconds. */
  readonly loginTimeout: number;
  readonly slots: LoginSlots;
  readonly natives: NativeGate;
  readonly sessions: SessionLimit;
  readonly registry: SessionRegistry;
  readonly console: ConsoleAccess;
  readonly cancels: Cancels;
  readonly audit: Audit;
  readonly metrics: Metrics;
}

/** A connection whose login is unfinished. */
export interface Attempt {
  readonly door: Door;
  readonly record: LoginRecord;
  readonly slot: LoginSlot;
  readonly signal: AbortSignal;
}

/**
 * A login that has succeeded: the client, what it is to be connected with, and the place that the
 * session takes up.
 */
export interface Admission {
  readonly client: MessageChannel;
  readonly peer: BackendSession | ServeConsole;
  readonly leave: () => void;
}

/** Milliseconds since then, to a tenth. */
export function elapsed(since: number): number {
  return Math.round((performance.now() - since) * 10) / 10;
}
