/**
 * One backend, whole: where it is, how to log in there, the connections that wait for logins, and
 * whether it asks for what it should. What `--backend` names is one, and so is each `--route`.
 */
import { withDeadline } from '../lib/abort.ts';
import { errorText } from '../lib/errors.ts';
import { AUTHENTICATION, PROTOCOL_3_0 } from '../wire/constants.ts';
import { formatStartup, type StartupParameter } from '../wire/startup.ts';
import { type CancelOutcome, forwardCancel } from './cancel.ts';
import { connectAs } from './connect.ts';
import type { Credentials } from './credentials.ts';
import { dialHost } from './dial.ts';
import { BackendRefusal } from './errors.ts';
import { type BackendSession, readRequest, write } from './leg.ts';
import { loginNatively, type NativeLoginOptions } from './native-login.ts';
import { type CredentialOptions, openCredentials } from './open-credentials.ts';
import { OpenedAhead } from './opened-ahead.ts';
import { BackendTarget } from './target.ts';
import { type BackendHost, type BackendUrl, formatHost, isSocketDirectory } from './url.ts';

/** How to log in, and how many connections to open ahead. */
export interface BackendOptions extends CredentialOptions {
  readonly backendAhead: number;
}

/** What an operator ought to hear of a backend; `alarm` when anybody beside us can get in there. */
export type BackendNotice = (level: 'alarm' | 'warning', text: string) => void;

const OWN_ROLE: StartupParameter = { name: 'role', value: Buffer.from('none') };

/** A backend that logins can be made at. */
export class Backend {
  readonly target: BackendTarget;
  readonly credentials: Credentials;
  readonly #notice: BackendNotice;
  readonly #ahead: OpenedAhead | undefined;
  readonly #closed = new AbortController();
  #probed = new WeakSet<BackendHost>();
  /** Whether a startup packet may hold `role` here; undefined before the first login tells. */
  #takesRole: boolean | undefined;

  private constructor(
    target: BackendTarget,
    credentials: Credentials,
    ahead: number,
    notice: BackendNotice,
  ) {
    this.target = target;
    this.credentials = credentials;
    this.#notice = notice;
    // A certificate that is issued belongs to one user, who is not known ahead.
    if (ahead > 0 && credentials.method !== 'issue-cert') {
      this.#ahead = new OpenedAhead(
        target,
        ahead,
        () => credentials.secureContext?.('') ?? target.secureContext,
      );
    }
  }

  /**
   * Reads what the URL and the options refer to. Nothing is dialled before {@link Backend.start}.
   *
   * @throws UsageError for options or parameters that cannot be right; PgError F0000 for files that
   *   cannot be used
   */
  static async open(
    url: BackendUrl,
    options: BackendOptions,
    notice: BackendNotice,
  ): Promise<Backend> {
    const target = await BackendTarget.open(url);
    const credentials = await openCredentials(target, options);
    if (credentials.method === 'trust' && !url.hosts.every(({ host }) => isSocketDirectory(host))) {
      notice(
        'warning',
        '--backend-auth trust over TCP: whoever else reaches the backend from a trusted address gets in as anybody, too',
      );
    }
    return new Backend(target, credentials, options.backendAhead, notice);
  }

  /** Begins to open connections ahead, if there are to be any. */
  start(): void {
    this.#ahead?.start();
  }

  /**
   * Logs in as the user of the parameters, with the front-end's own credential; throws as
   * connectAs.
   */
  async login(
    parameters: readonly StartupParameter[],
    signal: AbortSignal,
  ): Promise<BackendSession> {
    const { target, credentials } = this;
    const session = await connectAs({
      target,
      credentials,
      parameters,
      ahead: this.#ahead,
      signal,
    });
    this.#probe(session.address, parameters);
    return session;
  }

  /**
   * Logs in as a user who begins as himself. A role that is set for him or for the database (ALTER
   * ROLE, or ALTER DATABASE by its owner, … SET role) would hide that he is a superuser, and he
   * could take it off again; our `role=none` outranks it (manual 20.1.3: what the client sends in
   * its startup packet comes last). CockroachDB has no such settings, and refuses `role` in a
   * startup packet: what a backend is, its first login tells. Throws as connectAs.
   */
  async loginAsHimself(
    parameters: readonly StartupParameter[],
    signal: AbortSignal,
  ): Promise<BackendSession> {
    if (this.#takesRole === undefined) {
      const session = await this.login(parameters, signal);
      this.#takesRole = !session.reported.has('crdb_version');
      if (!this.#takesRole) return session;
      session.channel.destroy();
    }
    return this.login(this.#takesRole ? [...parameters, OWN_ROLE] : parameters, signal);
  }

  /** Logs in with the client's credential; throws as loginNatively. */
  loginNatively(
    options: Omit<NativeLoginOptions, 'target' | 'ahead'>,
  ): Promise<BackendSession | undefined> {
    return loginNatively({ ...options, target: this.target, ahead: this.#ahead });
  }

  /** Forwards a cancel request to every host. */
  cancel(packet: Buffer, signal: AbortSignal): Promise<readonly CancelOutcome[]> {
    return forwardCancel(this.target, packet, signal);
  }

  /**
   * Reads all files again. Throws for those that cannot be read; what was read of them before stays
   * in use.
   */
  async reload(): Promise<void> {
    const failures: string[] = [];
    for (const part of [this.target, this.credentials]) {
      try {
        await part.reload?.();
      } catch (error) {
        failures.push(errorText(error));
      }
    }
    this.#ahead?.renew();
    this.#probed = new WeakSet();
    if (failures.length > 0) throw new Error(failures.join('; '));
  }

  /** Drops the connections that wait, and opens no more; sessions go on. */
  close(): void {
    this.#ahead?.close();
    this.#closed.abort(new Error('the front-end is shutting down'));
  }

  /**
   * The first time that a login has succeeded at a host, tries the same without the credential.
   * With a password that is not needed: there each login holds the backend to asking for it.
   */
  #probe(host: BackendHost, parameters: readonly StartupParameter[]): void {
    if (!this.credentials.secureContext || this.#probed.has(host)) return;
    this.#probed.add(host);
    const who = parameters.filter(({ name }) => name === 'user' || name === 'database');
    admitsWithoutCredential(this.target, host, who, this.#closed.signal).then(
      (admitted) => {
        if (!admitted) return;
        this.#notice(
          'alarm',
          `${formatHost(host)} lets this address in without a certificate, although --backend-auth is ${this.credentials.method}: whoever else is there can log in as anybody; see its pg_hba.conf`,
        );
      },
      (error: unknown) => {
        if (this.#closed.signal.aborted) return;
        this.#notice(
          'warning',
          `${formatHost(host)}: whether it asks for a certificate could not be told: ${errorText(error)}`,
        );
      },
    );
  }
}

/*
 * Whether a backend lets the front-end in without the credential that it has for it. A server that
 * was meant to ask for a certificate and trusts the address instead looks the same as one that does
 * as it should, until somebody connects without: whoever else reaches it from that address could
 * then be anybody.
 */

/** For the whole probe, in milliseconds. */
const PROBE_TIMEOUT = 10_000;

/**
 * Connects as the user with nothing to show, and leaves.
 *
 * @returns whether the backend has let it in
 * @throws Error when that cannot be told: the host is away, or does not follow the protocol; the
 *   signal's reason
 */
export async function admitsWithoutCredential(
  target: BackendTarget,
  host: BackendHost,
  parameters: readonly StartupParameter[],
  signal: AbortSignal,
): Promise<boolean> {
  return withDeadline(
    PROBE_TIMEOUT,
    `no answer within ${PROBE_TIMEOUT} ms`,
    signal,
    async (within) => {
      const leg = await dialHost(target, host, within);
      try {
        await write(leg, formatStartup(PROTOCOL_3_0, parameters), within);
        return (await readRequest(leg, within)).code === AUTHENTICATION.ok;
      } catch (error) {
        if (error instanceof BackendRefusal) return false;
        throw error;
      } finally {
        leg.channel.destroy();
      }
    },
  );
}
