/**
 * A session at a backend, from the greeting to its end. There may be ten thousand of them, mostly
 * idle, so one small object is all that is kept of each: nothing of its login.
 */
import type { Socket } from 'node:net';
import { cancelQuery } from '../backend/cancel.ts';
import type { BackendSession } from '../backend/connection.ts';
import type { BackendTarget } from '../backend/target.ts';
import type { BackendHost } from '../backend/url.ts';
import { errorText } from '../lib/errors.ts';
import type { Permit } from '../lib/limiter.ts';
import type { LoginRecord } from '../observe/audit.ts';
import type { MessageChannel } from '../wire/channel.ts';
import type { KeyHolder } from './cancel.ts';
import type { SessionServices } from './context.ts';
import type { RunningSession } from './registry.ts';
import { type SpliceEnd, splice, type Traffic } from './splice.ts';

/** How long, in ms, the cancel request of a session that is ended may take. */
const CANCEL_FIRST_MS = 1000;

/** What a session has beside its two connections. */
interface SessionContext {
  readonly login: LoginRecord;
  /** The place that it takes up. */
  readonly permit: Permit;
  readonly services: SessionServices;
}

/**
 * Hands the greeting to the client, and to each side what the other sent ahead. Then copies until
 * the end.
 */
export function runSession(
  client: MessageChannel,
  backend: BackendSession,
  context: SessionContext,
): Promise<void> {
  const toBackend = client.release();
  const fromBackend = backend.channel.release();
  const traffic: Traffic = { toBackend: toBackend.length, toClient: fromBackend.length };
  const session = new Session(client.socket, backend, traffic, context);
  return session.run({ toClient: Buffer.concat([backend.greeting, fromBackend]), toBackend });
}

class Session implements RunningSession, KeyHolder {
  readonly startedAt = Date.now();
  readonly traffic: Traffic;
  readonly #client: Socket;
  readonly #backend: Socket;
  readonly target: BackendTarget;
  readonly address: BackendHost;
  /** Not the bytes themselves: they are a part of what was read with them. */
  readonly #cancelKey: string | undefined;
  readonly #context: SessionContext;
  readonly #started = performance.now();
  #endedByUs: 'operator' | 'drain' | undefined;

  constructor(client: Socket, backend: BackendSession, traffic: Traffic, context: SessionContext) {
    this.#client = client;
    this.#backend = backend.channel.socket;
    this.target = backend.target;
    this.address = backend.address;
    this.#cancelKey = backend.cancelKey?.toString('latin1');
    this.traffic = traffic;
    this.#context = context;
  }

  get login(): LoginRecord {
    return this.#context.login;
  }

  get cancelKey(): Buffer | undefined {
    return this.#cancelKey === undefined ? undefined : Buffer.from(this.#cancelKey, 'latin1');
  }

  /** Copies until both connections are closed. */
  run(ahead: { readonly toClient: Buffer; readonly toBackend: Buffer }): Promise<void> {
    const { registry, cancelKeys, metrics, tcpUserTimeout, copy } = this.#context.services;
    metrics.sessionBegins(this.traffic);
    registry.add(this);
    cancelKeys.add(this);
    return splice(this.#client, this.#backend, this.traffic, {
      copy: copy.start,
      peerTimeout: tcpUserTimeout,
      ahead,
    }).then((end) => this.#ended(end));
  }

  async end(by: 'operator' | 'drain'): Promise<void> {
    this.#endedByUs ??= by;
    await this.#cancelFirst();
    this.#client.destroy();
    this.#backend.destroy();
  }

  /**
   * Cancels what a session runs before its connections are closed. Otherwise the backend notices
   * the end only when the query is done, and commits what it did.
   */
  async #cancelFirst(): Promise<void> {
    const signal = AbortSignal.timeout(CANCEL_FIRST_MS);
    try {
      const permit = await this.#context.services.limits.enterOwnCancel(signal);
      await cancelQuery(this, signal).finally(() => permit.release());
    } catch {
      // The time is up: the connections are closed all the same.
    }
  }

  #ended({ endedBy, error }: SpliceEnd): void {
    const { login, permit, services } = this.#context;
    services.registry.remove(this);
    services.cancelKeys.remove(this);
    services.metrics.sessionEnds(this.traffic);
    permit.release();
    services.audit.ended(login, {
      durationMs: Math.round((performance.now() - this.#started) * 10) / 10,
      bytesToBackend: this.traffic.toBackend,
      bytesToClient: this.traffic.toClient,
      endedBy: this.#endedByUs ?? endedBy,
      error: error && errorText(error),
    });
  }
}
