/**
 * What all sessions of a process share, and what the steps of one connection hand to each other.
 */
import type { Authenticator } from '../auth/authenticator.ts';
import type { BackendSession } from '../backend/connection.ts';
import type { Routes } from '../backend/routes.ts';
import type { Directory } from '../directory/directory.ts';
import type { Permit } from '../lib/limiter.ts';
import type { DeviceAuthorization } from '../oauth/device-authorization.ts';
import type { Audit, LoginRecord } from '../observe/audit.ts';
import type { Log, RepeatedEvent } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { SettingsSnapshot } from '../settings/snapshot.ts';
import type { MessageChannel } from '../wire/channel.ts';
import type { CancelKeys } from './cancel.ts';
import type { ConsoleAccess, ServeConsole } from './console-access.ts';
import type { CopyChoice } from './copy-choice.ts';
import type { Limits } from './limits.ts';
import type { LoginPlace } from './login-place.ts';
import type { ClientConnection } from './negotiate.ts';
import type { SessionRegistry } from './registry.ts';
import type { Throttle } from './throttle.ts';

/** What every session of a process shares. */
export interface SessionServices {
  readonly settings: { readonly current: SettingsSnapshot };
  readonly authenticator: Authenticator;
  readonly routes: Routes;
  readonly deviceAuthorization: DeviceAuthorization;
  /** Creates users and grants roles. Undefined without `--directory`. */
  readonly directory: Directory | undefined;
  /** Notes when a user logged in with a token, for SHOW USERS. */
  readonly noteLogin: (user: string, at: number) => void;
  readonly superusers: 'refuse' | 'allow';
  readonly nativeLogins: 'allow' | 'deny';
  /** Whether a token login may ask for replication. */
  readonly replication: 'deny' | 'allow';
  /** From accept to ReadyForQuery, in milliseconds. */
  readonly loginTimeout: number;
  /** A peer that takes no byte for so long while bytes wait for it is gone; 0: never. */
  readonly tcpUserTimeout: number;
  /** How the bytes of sessions are copied. */
  readonly copy: CopyChoice;
  readonly limits: Limits;
  readonly throttle: Throttle;
  readonly registry: SessionRegistry;
  readonly cancelKeys: CancelKeys;
  /** Cancel requests that did not reach a host. */
  readonly cancelFailed: RepeatedEvent;
  readonly console: ConsoleAccess;
  readonly audit: Audit;
  readonly metrics: Metrics;
  readonly log: Log;
}

/** A connection whose login is unfinished. */
export interface LoginAttempt {
  readonly connection: ClientConnection;
  readonly record: LoginRecord;
  /** The key under which the client's address is counted. */
  readonly address: string;
  /** Its place among the unfinished logins, and its time. */
  readonly place: LoginPlace;
  /** Ends the login without a word: it stands in the way of others. */
  readonly evict: () => void;
  /** Aborts when time is up, when the client goes away, or when the login is evicted. */
  readonly signal: AbortSignal;
}

/** A login that has succeeded. */
export interface Admission {
  readonly client: MessageChannel;
  /** What the client is connected to: a session of the backend, or the console. */
  readonly peer: BackendSession | ServeConsole;
  /** The place that the session takes up. */
  readonly permit: Permit;
}
